package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestWhyATermEndedIsTold: the successor hears it, with all of its letters whole.
func TestWhyATermEndedIsTold(t *testing.T) {
	db, err := store.Open(t.Context(), sqldb.Config{DSN: testserver.Database(t), TxTimeout: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	c := New(Config{Server: "a", Replica: replica.Config{Holder: "a/1"}}, election.NewMemory().Replica("a"), Databases{Main: db, Servers: db}, replica.Silent{}, hclog.NewNullLogger())
	cause := "x" + strings.Repeat("\u00e4", toldCause)
	c.noteLastWrites(shard.Master, store.LastWrites{Epoch: 3, Cause: cause})
	c.members = []election.Member{{Presence: election.Presence{Holder: "b/1", LastWrites: c.lastWrites}}}
	former := c.formerTerms(shard.Master)
	require.Len(t, former, 1)
	require.Equal(t, "b/1", former[0].Holder)
	require.Equal(t, "x"+strings.Repeat("\u00e4", (toldCause-1)/2), former[0].Cause)
}
