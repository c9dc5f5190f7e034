package cluster

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// TestDeathsKnown: successors learn why a process died from any replica, and of one that
// came back, up to which of its terms.
func TestDeathsKnown(t *testing.T) {
	type says = map[string]election.Suspicion
	member := func(holder string, lease, revision int64, suspects, cameBack says) election.Member {
		return election.Member{Presence: election.Presence{Holder: holder, Suspects: suspects, CameBack: cameBack}, Lease: lease, Revision: revision}
	}
	back := member("b", 3, 30, nil, nil)
	blind := back
	blind.Database = "no answer"
	silent, crashed := says{"b": {Why: "silent", Lease: 2}}, says{"b": {Why: "crashed", Lease: 3}}
	for name, tt := range map[string]struct {
		members []election.Member
		told    election.Presence
		want    map[string]store.Death
	}{
		"nobody":                    {[]election.Member{member("a", 1, 10, nil, nil)}, election.Presence{}, map[string]store.Death{}},
		"its key is gone":           {[]election.Member{member("a", 1, 10, silent, nil)}, election.Presence{}, map[string]store.Death{"b": {Why: "silent"}}},
		"its key is there yet":      {[]election.Member{back}, election.Presence{Suspects: crashed}, map[string]store.Death{"b": {Why: "crashed"}}},
		"it came back":              {[]election.Member{member("a", 1, 10, nil, silent), back}, election.Presence{}, map[string]store.Death{"b": {Why: "silent", Before: 30}}},
		"this one says so":          {[]election.Member{back}, election.Presence{CameBack: silent}, map[string]store.Death{"b": {Why: "silent", Before: 30}}},
		"it came back, unheard":     {[]election.Member{member("a", 1, 10, says{"b": {Why: "unreachable", Lease: 3}}, silent), back}, election.Presence{}, map[string]store.Death{"b": {Why: "silent", Before: 30}}},
		"it came back, and died":    {[]election.Member{member("a", 1, 10, crashed, silent), back}, election.Presence{}, map[string]store.Death{"b": {Why: "crashed"}}},
		"others saw it come back":   {[]election.Member{member("a", 1, 10, silent, nil), back}, election.Presence{}, map[string]store.Death{"b": {Why: "silent", Before: 30}}},
		"it lost the database, too": {[]election.Member{member("a", 1, 10, nil, silent), blind}, election.Presence{}, map[string]store.Death{"b": {Why: lostDatabase}}},
	} {
		t.Run(name, func(t *testing.T) {
			lost := func(m election.Member) bool { return m.Database != "" }
			require.Empty(t, cmp.Diff(tt.want, deathsKnown(lost, tt.members, tt.told)))
		})
	}
}

// TestDeathsByDatabase: who lost a database hands over the shards in that one, and no others.
func TestDeathsByDatabase(t *testing.T) {
	member := func(holder, database string, lost ...shard.Name) election.Member {
		return election.Member{Presence: election.Presence{Holder: holder, Database: database, Lost: lost}}
	}
	c := &Controller{members: []election.Member{member("main", "no answer"), member("own", "", "t", "s"), member("another", "", "t")}}
	require.Equal(t, map[string]store.Death{"main": {Why: lostDatabase}}, c.deaths("s", false))
	require.Equal(t, map[string]store.Death{"own": {Why: lostDatabase}}, c.deaths("s", true))
}

// TestThoseWhoComeBack: whoever was condemned and comes back is not condemned under its new
// lease, and the others are told for a minute that it was under the former.
func TestThoseWhoComeBack(t *testing.T) {
	keeper, err := certs.Open(certs.Files{})
	require.NoError(t, err)
	s := newSuspects(keeper, func() {})
	t.Cleanup(s.watcher.Close)
	view := func(lease int64) election.View {
		return election.View{Servers: []election.Member{{Presence: election.Presence{Holder: "b", Address: "127.0.0.1:1"}, Lease: lease}}}
	}
	now := time.Now()
	silent := election.Suspicion{Why: "silent", Lease: 2}
	s.dead["b"] = &death{Suspicion: silent, at: now}

	s.follow(view(2), "a")
	require.NotNil(t, s.condemned(view(2).Servers[0]))
	said, cameBack := s.judge(view(2), now)
	require.Equal(t, silent, said["b"])
	require.Empty(t, cameBack)

	s.follow(view(3), "a")
	require.Nil(t, s.condemned(view(3).Servers[0]))
	said, cameBack = s.judge(view(3), now)
	require.NotEqual(t, silent, said["b"])
	require.Equal(t, silent, cameBack["b"])
	_, cameBack = s.judge(view(3), now.Add(rememberDead+time.Second))
	require.Empty(t, cameBack)
}
