package scheduler

import (
	"slices"
	"strings"
)

// Actions lists the labels that special tasks act on. Such labels are not
// required of a host (Autotest provision.is_for_special_action).
type Actions struct {
	// Provision are the keys whose labels a Provision task can put on a host;
	// hosts that already carry them are preferred.
	Provision []string
	// Other are keys that another special task handles; such labels are dropped.
	Other []string
	// SkipProvision is the label that rules a Provision task out.
	SkipProvision string
}

// DefaultActions returns Autotest's own list (site_utils/provision).
func DefaultActions() Actions {
	return Actions{
		Provision:     []string{"cros-version", "cheets-version", "fwrw-version", "fwro-version"},
		Other:         []string{"cleanup-reboot", "modem_repair", "rpm"},
		SkipProvision: "skip_provision",
	}
}

func (a Actions) orDefault() Actions {
	if a.SkipProvision == "" && len(a.Provision) == 0 && len(a.Other) == 0 {
		return DefaultActions()
	}
	return a
}

type labelKind int8

const (
	labelRequired labelKind = iota
	labelProvision
	labelDropped
	labelSkipProvision
)

// kind classifies a label by its key, the text before the first colon. A bare
// key counts too: "rpm" and "rpm:x" are both dropped.
func (a Actions) kind(name string) labelKind {
	if name == a.SkipProvision {
		return labelSkipProvision
	}
	key, _, _ := strings.Cut(name, ":")
	if slices.Contains(a.Provision, key) {
		return labelProvision
	}
	if slices.Contains(a.Other, key) {
		return labelDropped
	}
	return labelRequired
}

// labelInfo is what a label id stands for.
type labelInfo struct {
	name  string
	kind  labelKind
	known bool
}

// unknownLabel stands for ids that no label has.
var unknownLabel labelInfo

// labelTable finds labels by id.
type labelTable struct {
	num   lookup
	infos []labelInfo
}

func newLabelTable(labels []Label, actions Actions) *labelTable {
	t := &labelTable{
		num:   newLookup(len(labels), func(i int) int64 { return int64(labels[i].ID) }),
		infos: make([]labelInfo, len(labels)),
	}
	for i, l := range labels {
		t.infos[i] = labelInfo{name: l.Name, kind: actions.kind(l.Name), known: true}
	}
	return t
}

// get says what a label id stands for; unknownLabel if nothing.
func (t *labelTable) get(id LabelID) *labelInfo {
	if i, ok := t.num.get(int64(id)); ok {
		return &t.infos[i]
	}
	return &unknownLabel
}

// namesOf lists names, separated by commas.
func (t *labelTable) namesOf(ids []int64) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = t.get(LabelID(id)).name
	}
	return strings.Join(names, ", ")
}
