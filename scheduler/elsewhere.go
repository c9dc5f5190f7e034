package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// OtherHost is a host that belongs to another shard. No plan of this shard can use it.
type OtherHost struct {
	// Shard is the name of the shard that the host belongs to.
	Shard  string
	Labels []LabelID
}

func (h *OtherHost) carries(wanted []int64) bool {
	for _, l := range wanted {
		if !slices.Contains(h.Labels, LabelID(l)) {
			return false
		}
	}
	return true
}

// elsewhere says how many hosts of other shards carry the labels. It is empty if none
// does.
func (p *planner) elsewhere(wanted []int64) string {
	counts := map[string]int{}
	for i := range p.s.Elsewhere {
		if h := &p.s.Elsewhere[i]; h.carries(wanted) {
			counts[h.Shard]++
		}
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&text, "; %s to shard %s", counted(counts[name], "host that carries them belongs", "hosts that carry them belong"), name)
	}
	return text.String()
}
