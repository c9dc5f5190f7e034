package ops

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// someFacts are of one shard, led by a, and two servers.
func someFacts() *facts {
	now := time.Now()
	leading := replica.Status{Shard: shard.Master, State: replica.StateLeader, LastTick: now.Add(-time.Second), Recent: []time.Duration{time.Millisecond}}
	return &facts{
		cluster: "lab", now: now,
		etcd: etcdFacts{view: election.View{
			Servers: []election.Member{
				{Presence: election.Presence{Server: "a", Role: election.RolePrimary, Address: "a:1"}},
				{Presence: election.Presence{Server: "b", Role: election.RolePrimary, Address: "b:1"}},
			},
			Shards: map[shard.Name]election.ShardElection{shard.Master: {Candidates: []election.Candidate{{Record: election.Record{Server: "a", State: election.StateLeader, Token: 7}}}}},
		}},
		database: databaseFacts{shards: []admin.Shard{{Name: shard.Master}}, fences: map[shard.Name]store.Fence{shard.Master: {Epoch: 3, Holder: "a/1/x/a:1"}}},
		answers: map[string]answer{
			"http://a:1": {status: web.ServerStatus{Server: "a", Now: now, Shards: []replica.Status{leading}}, at: now},
			"http://b:1": {status: web.ServerStatus{Server: "b", Now: now, Shards: []replica.Status{{Shard: shard.Master, State: replica.StateCandidate}}}, at: now},
		},
	}
}

func TestStatusOfClocksApart(t *testing.T) {
	f := someFacts()
	require.Empty(t, f.status().Warnings)
	f.database.ahead = 2 * time.Hour
	a := f.answers["http://a:1"]
	a.status.Now = a.at.Add(-time.Minute)
	a.status.Shards[0].LastTick = a.status.Now.Add(-time.Second)
	f.answers["http://a:1"] = a
	st := f.status()
	require.Equal(t, []string{"the clock of the database is 2h0m0s ahead of this machine's", "the clock of server a is 1m0s behind this machine's"}, st.Warnings)
	require.EqualValues(t, 1000, st.Shards[0].LastTickAge, "ages are told by one clock")
}

// TestStatusOfRulesApart: replicas that would decide differently are named, with the setting.
func TestStatusOfRulesApart(t *testing.T) {
	f := someFacts()
	set := func(server string, rules map[string]string) {
		a := f.answers["http://"+server+":1"]
		a.status.Rules = rules
		f.answers["http://"+server+":1"] = a
	}
	same := map[string]string{"scheduler.policy": "exact", "scheduler.aging": "0"}
	set("a", same)
	require.Empty(t, f.status().Warnings, "an older version does not say")
	set("b", same)
	require.Empty(t, f.status().Warnings)
	require.Equal(t, same, f.status().Servers[1].Rules)
	set("b", map[string]string{"scheduler.policy": "optimal", "scheduler.aging": "0"})
	require.Equal(t, []string{`the setting scheduler.policy is not the same everywhere: "exact" on a, and "optimal" on b; whoever leads decides by its own`}, f.status().Warnings)
	f.etcd.view.Servers[1].Only = "lab-east"
	require.Empty(t, f.status().Warnings, "neither can follow the other")
}

func TestStatusOfKeysThatAreNobodys(t *testing.T) {
	f := someFacts()
	elected := f.etcd.view.Shards[shard.Master]
	elected.Ignored = []election.Ignored{{Key: "/hostsched/lab/shards/master/leader/0", Why: "it has no lease"}}
	f.etcd.view.Shards[shard.Master] = elected
	st := f.status().Shards[0]
	require.Equal(t, []string{"ignored key /hostsched/lab/shards/master/leader/0: it has no lease; delete it with etcdctl del /hostsched/lab/shards/master/leader/0"}, st.Ignored)
	require.Equal(t, "a", st.Leader)
}

func TestStatusOfServersThatDoNotAnswer(t *testing.T) {
	f := someFacts()
	f.answers["http://a:1"] = answer{err: errors.New("refused")}
	f.answers["http://b:1"] = answer{status: web.ServerStatus{Server: "c"}}
	st := f.status()
	require.Equal(t, "refused", st.Servers[0].Error)
	require.Contains(t, st.Servers[1].Error, "server c answers at its address http://b:1")
	require.Equal(t, "a", st.Shards[0].Leader)
	require.Contains(t, st.Shards[0].Error, "the leader does not answer: refused")
	require.EqualValues(t, -1, st.Shards[0].Assignments, "not known")
	require.False(t, st.Whole())

	f = someFacts()
	require.True(t, f.status().Whole())
	f.answers["http://b:1"] = answer{err: errors.New("refused")}
	st = f.status()
	require.Empty(t, st.Shards[0].Error, "its leader answers")
	require.False(t, st.Whole(), "a follower does not")
}

func TestStatusSaysWhoFailedToTakeOver(t *testing.T) {
	f := someFacts()
	f.etcd.view.Shards = nil
	failed := func(token int) *replica.NotLeading {
		return &replica.NotLeading{Reason: replica.TakeOverFailed, Text: fmt.Sprintf("take over with token %d: the disk is full", token)}
	}
	f.answers["http://a:1"].status.Shards[0] = replica.Status{Shard: shard.Master, State: replica.StateCandidate, NotLeading: failed(11)}
	f.answers["http://b:1"].status.Shards[0].NotLeading = failed(12)
	st := f.status()
	require.False(t, st.Whole())
	require.Equal(t, "a, b: take over with token 12: the disk is full", st.Shards[0].WhyNobody)
	f.answers["http://b:1"].status.Shards[0].NotLeading.Text = "access denied"
	require.Equal(t, "b: access denied; a: take over with token 11: the disk is full", f.status().Shards[0].WhyNobody)
}

// TestStatusOfAThousandShards takes no more than moments.
func TestStatusOfAThousandShards(t *testing.T) {
	f := someFacts()
	f.etcdErr = errors.New("away")
	for i := range 1000 {
		name := shard.Name(fmt.Sprintf("shard-%d", i))
		f.database.shards = append(f.database.shards, admin.Shard{Name: name})
		for address, a := range f.answers {
			a.status.Shards = append(a.status.Shards, replica.Status{Shard: name, State: replica.StateCandidate})
			f.answers[address] = a
		}
		f.database.holders = append(f.database.holders, fmt.Sprintf("server-%d/1/x/127.0.0.1:%d", i%200, i%200))
	}
	began := time.Now()
	require.Len(t, f.status().Shards, 1001)
	require.Less(t, time.Since(began), 2*time.Second)
}

// TestServersThatCannotBeGivenAShard: what is over soon is called that.
func TestServersThatCannotBeGivenAShard(t *testing.T) {
	view := someFacts().etcd.view
	require.NoError(t, mayTake(view, shard.Master, "b"))
	require.ErrorIs(t, mayTake(view, shard.Master, "c"), admin.ErrInput)
	view.Servers[1].Avoids = map[shard.Name]string{shard.Master: "the disk is full"}
	err := mayTake(view, shard.Master, "b")
	require.ErrorIs(t, err, admin.ErrInput)
	require.ErrorContains(t, err, "until 10s after the last failure; try again later, or mend this: the disk is full")
	view.Servers[1].Database = "no answer"
	require.ErrorContains(t, mayTake(view, shard.Master, "b"), "for the moment: no answer; try again later")
}

func TestStatusOfWorkThatFails(t *testing.T) {
	f := someFacts()
	a := f.answers["http://b:1"]
	a.status.Failing = map[string]string{"sweeps": "cannot look after runs: no right", "logs": "cannot move logs: no room"}
	f.answers["http://b:1"] = a
	require.Equal(t, []string{"server b cannot move logs: no room", "server b cannot look after runs: no right"}, f.status().Warnings)
}

// TestDoctorNamesTheHeir: who stands by is told, although nobody campaigns besides the leader.
func TestDoctorNamesTheHeir(t *testing.T) {
	up := NewCheckup(&config.Config{})
	up.cluster(someFacts().status())
	require.Contains(t, up.Results, CheckResult{"shard master", CheckOK, "a leads it in term 3, and b would take over"})
}

// TestStatusIsOnOneLine: joined errors are read as one sentence after the other.
func TestStatusIsOnOneLine(t *testing.T) {
	joined, flat := errors.Join(errors.New("lease lost"), errors.New("no answer")), "lease lost; no answer"
	f := someFacts()
	f.etcd.view.Servers[0].Why = joined.Error()
	f.etcd.view.Servers[1].Avoids = map[shard.Name]string{shard.Master: joined.Error()}
	f.answers["http://a:1"] = answer{err: joined}
	f.etcd.view.Shards = nil
	f.database.histories = map[shard.Name]store.History{shard.Master: {Latest: store.Term{Holder: "a/1/x/a:1", Ended: time.Now(), Cause: joined.Error()}}}
	st := f.status()
	require.Equal(t, flat, st.Servers[0].Why)
	require.Equal(t, flat, st.Servers[0].Error)
	require.Equal(t, flat, st.Servers[1].Avoids[shard.Master])
	require.Contains(t, st.Shards[0].WhyNobody, flat)
	require.NotContains(t, st.Shards[0].WhyNobody, "\n")
	f.etcdErr, f.databaseErr = joined, joined
	require.Equal(t, []Missing{{"etcd", flat}, {"database", flat}}, f.status().Missing)
}
