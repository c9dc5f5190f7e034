package peers_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/peers"
	"github.com/hostsched/hostsched/internal/suspicion"
)

// TestFirstAfterAStall: whoever asks first after this process stood still hears so, and
// does not take that time for silence of the others, although nothing else ran yet.
func TestFirstAfterAStall(t *testing.T) {
	p := begin(t, "a/1", "127.0.0.1:0")
	w := watch(t, func() {})
	w.Follow([]peers.Peer{{Holder: "a/1", URL: "http://" + p.address}})
	until(t, w, "a/1", suspicion.Alive)
	w.Stall(5*time.Second, func() { require.WithinDuration(t, time.Now(), w.StoodStill(), time.Second) })
	w.Stall(5*time.Second, func() { require.Less(t, w.Contacts()["a/1"].Silence, int64(1000)) })
}
