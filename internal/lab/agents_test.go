package lab_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// agentLab is a lab with hosts h1 to h3 and one agent, which serves h1.
type agentLab struct {
	*lab.Lab
	db   *store.DB
	join string
}

func newAgentLab(t *testing.T, db *store.DB) agentLab {
	t.Helper()
	l := lab.New(db, whole())
	for _, name := range []string{"h1", "h2", "h3"} {
		_, _, err := l.AddHost(t.Context(), root, labapi.HostInput{Hostname: name})
		require.NoError(t, err)
	}
	added, err := l.AddAgent(t.Context(), root, labapi.AgentInput{Name: "rack-1", Hosts: []string{"h1"}})
	require.NoError(t, err)
	require.Equal(t, []string{"h1"}, added.Agent.Hosts)
	require.Equal(t, labapi.AgentNew, added.Agent.State)
	return agentLab{l, db, added.Join.Token}
}

func (l agentLab) joined(t *testing.T) string {
	t.Helper()
	secret, err := l.JoinAgent(t.Context(), labapi.AgentJoin{JoinToken: l.join, Name: "rack-1"})
	require.NoError(t, err)
	return secret
}

func (l agentLab) caller(t *testing.T, secret string) lab.AgentCaller {
	t.Helper()
	a, err := l.AuthenticateAgent(t.Context(), secret)
	require.NoError(t, err)
	return a
}

func (l agentLab) state(t *testing.T) string {
	t.Helper()
	a, err := l.Agent(t.Context(), "rack-1")
	require.NoError(t, err)
	return a.State
}

func onEachAgentLab(t *testing.T, test func(*testing.T, agentLab)) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) { test(t, newAgentLab(t, db)) })
}

// TestJoin: a join token makes one agent, whose answer may be lost; the first call with a token
// ends all others.
func TestJoin(t *testing.T) {
	onEachAgentLab(t, func(t *testing.T, l agentLab) {
		ctx := t.Context()
		for _, in := range []labapi.AgentJoin{
			{JoinToken: l.join, Name: "rack-2"}, {JoinToken: l.join + "x", Name: "rack-1"}, {JoinToken: "hsj_", Name: "rack-1"},
			{JoinToken: strings.Replace(l.join, "hsj_", "hsa_", 1), Name: "rack-1"}, {Name: "rack-1"},
		} {
			_, err := l.JoinAgent(ctx, in)
			require.ErrorIs(t, err, lab.ErrToken, "%+v", in)
		}
		lost, first := l.joined(t), l.joined(t)
		_, err := l.AuthenticateAgent(ctx, lost)
		require.ErrorIs(t, err, lab.ErrToken, "the answer that was lost")
		require.Equal(t, "rack-1", l.caller(t, first).Name)
		_, err = l.JoinAgent(ctx, labapi.AgentJoin{JoinToken: l.join, Name: "rack-1"})
		require.ErrorIs(t, err, lab.ErrToken, "it was used")
		require.Zero(t, storetest.Count(t, l.db, "SELECT COUNT(*) FROM hostsched_agents WHERE token_hash LIKE 'hs%' OR join_hash LIKE 'hs%'"), "no secret is stored")

		again, err := l.JoinToken(ctx, root, "rack-1")
		require.NoError(t, err)
		l.join = again.Token
		id := l.caller(t, first).ID
		second := l.joined(t)
		require.Equal(t, id, l.caller(t, first).ID, "until the new token is used, the old one is good")
		require.Equal(t, id, l.caller(t, second).ID, "it is the same agent")
		_, err = l.AuthenticateAgent(ctx, first)
		require.ErrorIs(t, err, lab.ErrToken)

		late, err := l.JoinToken(ctx, root, "rack-1")
		require.NoError(t, err)
		storetest.Exec(t, l.db, "UPDATE hostsched_agents SET join_expires = 1")
		_, err = l.JoinAgent(ctx, labapi.AgentJoin{JoinToken: late.Token, Name: "rack-1"})
		require.ErrorContains(t, err, "expired")
	})
}

// TestRotation: an agent gets a new token with an answer, as often as that is lost, and the old
// one is good until it shows the new one.
func TestRotation(t *testing.T) {
	onEachAgentLab(t, func(t *testing.T, l agentLab) {
		require.ErrorIs(t, l.RotateAgent(t.Context(), root, "rack-1"), lab.ErrConflict)
		old := l.joined(t)
		require.False(t, l.caller(t, old).Rotate)
		require.NoError(t, l.RotateAgent(t.Context(), root, "rack-1"))
		_, err := l.NextToken(t.Context(), l.caller(t, old))
		require.NoError(t, err)
		require.True(t, l.caller(t, old).Rotate, "the answer was lost")
		fresh, err := l.NextToken(t.Context(), l.caller(t, old))
		require.NoError(t, err)
		require.False(t, l.caller(t, fresh).Rotate)
		require.False(t, l.caller(t, fresh).Rotate)
		_, err = l.AuthenticateAgent(t.Context(), old)
		require.ErrorIs(t, err, lab.ErrToken)
	})
}

// TestRevoked: an agent hears that it was revoked, and comes back only with a new join token.
func TestRevoked(t *testing.T) {
	onEachAgentLab(t, func(t *testing.T, l agentLab) {
		old := l.joined(t)
		l.caller(t, old)
		require.NoError(t, l.RevokeAgent(t.Context(), root, "rack-1", "stolen"))
		require.NoError(t, l.RevokeAgent(t.Context(), root, "rack-1", "stolen"))
		require.Equal(t, labapi.AgentRevoked, l.state(t))
		_, err := l.AuthenticateAgent(t.Context(), old)
		require.ErrorIs(t, err, lab.ErrRevoked)
		join, err := l.JoinToken(t.Context(), root, "rack-1")
		require.NoError(t, err)
		_, err = l.AuthenticateAgent(t.Context(), old)
		require.ErrorIs(t, err, lab.ErrRevoked)
		l.join = join.Token
		fresh := l.joined(t)
		_, err = l.AuthenticateAgent(t.Context(), old)
		require.ErrorIs(t, err, lab.ErrToken)
		l.caller(t, fresh)
	})
}

// TestSessions: of two processes with one token, the one that began last serves.
func TestSessions(t *testing.T) {
	onEachAgentLab(t, func(t *testing.T, l agentLab) {
		ctx, token := t.Context(), l.joined(t)
		enter := func(in labapi.AgentSync) error { return l.EnterSession(ctx, l.caller(t, token), in, 1) }
		require.ErrorIs(t, enter(labapi.AgentSync{Session: "a"}), lab.ErrReplaced, "nothing began yet")
		require.NoError(t, enter(labapi.AgentSync{Session: "a", Begin: true, Version: "v1", Capacity: 3, Unfit: "disk full"}))
		require.NoError(t, enter(labapi.AgentSync{Session: "a", Begin: true, Version: "v1"}), "the answer was lost")
		require.NoError(t, enter(labapi.AgentSync{Session: "a", Version: "v1"}))
		a, err := l.Agent(ctx, "rack-1")
		require.NoError(t, err)
		require.Equal(t, labapi.AgentOnline, a.State)
		require.Equal(t, "v1", a.Version)
		require.Equal(t, 3, a.Capacity)
		require.Equal(t, "disk full", a.Unfit)
		require.NoError(t, enter(labapi.AgentSync{Session: "b", Begin: true}))
		require.ErrorIs(t, enter(labapi.AgentSync{Session: "a"}), lab.ErrReplaced)
		require.ErrorIs(t, l.Goodbye(ctx, l.caller(t, token), labapi.AgentLeave{Session: "a"}), lab.ErrReplaced)
		require.ErrorIs(t, l.AskForDrain(ctx, l.caller(t, token), labapi.AgentLeave{Session: "a"}), lab.ErrReplaced)
		require.NoError(t, enter(labapi.AgentSync{Session: "b"}))

		require.NoError(t, l.NoteSeen(ctx, []lab.AgentSeen{{ID: l.caller(t, token).ID, Capacity: 7, Changed: true}}))
		a, err = l.Agent(ctx, "rack-1")
		require.NoError(t, err)
		require.Equal(t, 7, a.Capacity)
		storetest.Exec(t, l.db, "UPDATE hostsched_agents SET seen = seen - 60000")
		require.Equal(t, labapi.AgentUnreachable, l.state(t))
		require.NoError(t, l.NoteSeen(ctx, []lab.AgentSeen{{ID: l.caller(t, token).ID}}))
		require.Equal(t, labapi.AgentOnline, l.state(t))
		for range 2 {
			require.NoError(t, l.Goodbye(ctx, l.caller(t, token), labapi.AgentLeave{Session: "b"}))
			require.Equal(t, labapi.AgentStopped, l.state(t))
		}
		require.ErrorIs(t, enter(labapi.AgentSync{Session: "b"}), lab.ErrReplaced)
	})
}

// TestWishes: what an administrator wants stays apart from what the agent does, also when the
// agent itself asked for it.
func TestWishes(t *testing.T) {
	onEachAgentLab(t, func(t *testing.T, l agentLab) {
		ctx, token := t.Context(), l.joined(t)
		require.NoError(t, l.EnterSession(ctx, l.caller(t, token), labapi.AgentSync{Session: "a", Begin: true}, 1))
		storetest.Exec(t, l.db, "INSERT INTO hostsched_runs (id, claim_key, kind, state, agent_id, token_hash, lease_ms, lease_until, claimed) SELECT 5, 'k', 'job', 'running', id, 'x', 1, 1, 1 FROM hostsched_agents")
		a, err := l.WantOfAgent(ctx, root, "rack-1", labapi.DesiredDrain, "new rack")
		require.NoError(t, err)
		require.Equal(t, labapi.AgentDraining, a.State)
		require.Equal(t, []string{"drain", "root", "new rack"}, []string{a.Desired, a.DesiredBy, a.DesiredReason})
		require.Equal(t, []int64{5}, a.Runs)
		require.ErrorIs(t, l.RemoveAgent(ctx, root, "rack-1"), lab.ErrConflict)
		require.NoError(t, l.AskForDrain(ctx, l.caller(t, token), labapi.AgentLeave{Session: "a"}))
		storetest.Exec(t, l.db, "UPDATE hostsched_runs SET state = 'done'")
		a, err = l.Agent(ctx, "rack-1")
		require.NoError(t, err)
		require.Equal(t, labapi.AgentDrained, a.State)
		require.Equal(t, "root", a.DesiredBy, "a person's wish is not the agent's")
		_, err = l.WantOfAgent(ctx, root, "rack-1", labapi.DesiredRun, "")
		require.NoError(t, err)
		require.Equal(t, labapi.AgentOnline, l.state(t))
		require.NoError(t, l.AskForDrain(ctx, l.caller(t, token), labapi.AgentLeave{Session: "a", Reason: "upgrade"}))
		a, err = l.Agent(ctx, "rack-1")
		require.NoError(t, err)
		require.Equal(t, "agent rack-1", a.DesiredBy)
		wants, err := l.WantsOfAgents(ctx, []int64{l.caller(t, token).ID, 99})
		require.NoError(t, err)
		require.Equal(t, map[int64]lab.AgentWants{l.caller(t, token).ID: {Session: "a", Desired: "drain"}}, wants)
		require.NoError(t, l.RemoveAgent(ctx, root, "rack-1"))
		_, err = l.AuthenticateAgent(ctx, token)
		require.ErrorIs(t, err, lab.ErrToken)
		require.Zero(t, storetest.Count(t, l.db, "SELECT COUNT(*) FROM hostsched_agent_hosts"))
	})
}

// TestAHostHasOneAgent, whoever enters it, and however many at once.
func TestAHostHasOneAgent(t *testing.T) {
	onEachAgentLab(t, func(t *testing.T, l agentLab) {
		ctx := t.Context()
		_, err := l.AddAgent(ctx, root, labapi.AgentInput{Name: "rack-2", Hosts: []string{"h2", "h1"}})
		require.ErrorIs(t, err, lab.ErrConflict)
		require.ErrorContains(t, err, "h1 of rack-1")
		_, err = l.Agent(ctx, "rack-2")
		require.ErrorIs(t, err, lab.ErrNotFound, "nothing was entered")
		_, err = l.AddAgent(ctx, root, labapi.AgentInput{Name: "rack-2", Hosts: []string{"none"}})
		require.ErrorIs(t, err, lab.ErrInput)
		for _, name := range []string{"", "Rack", "a b", "-a", "a-", "ä", strings.Repeat("a", 64)} {
			_, err = l.AddAgent(ctx, root, labapi.AgentInput{Name: name})
			require.ErrorIs(t, err, lab.ErrInput, "%q", name)
		}
		_, err = l.AddAgent(ctx, root, labapi.AgentInput{Name: "rack-2", Hosts: []string{"h2", "h2"}})
		require.NoError(t, err)
		_, err = l.AddAgent(ctx, root, labapi.AgentInput{Name: "rack-2"})
		require.ErrorIs(t, err, lab.ErrExists)
		a, err := l.PatchAgent(ctx, root, "rack-2", labapi.AgentPatch{AddHosts: []string{"h1", "h2"}, RemoveHosts: []string{"h2", "h3"}, Take: true})
		require.NoError(t, err)
		require.Equal(t, []string{"h1", "h2"}, a.Hosts)
		require.Equal(t, 2, storetest.Count(t, l.db, "SELECT COUNT(*) FROM hostsched_events WHERE kind = 'host.agent' AND subject = 'h1'"))

		var group sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			group.Go(func() {
				_, errs[i] = l.PatchAgent(context.WithoutCancel(ctx), root, []string{"rack-1", "rack-2"}[i%2], labapi.AgentPatch{AddHosts: []string{"h3"}, Take: i%4 < 2})
			})
		}
		group.Wait()
		for _, err := range errs {
			if err != nil {
				require.ErrorIs(t, err, lab.ErrConflict)
			}
		}
		require.Equal(t, 1, storetest.Count(t, l.db, "SELECT COUNT(*) FROM hostsched_agent_hosts m JOIN afe_hosts h ON h.id = m.host_id WHERE h.hostname = 'h3'"))
		all, err := l.Agents(ctx, "", 1)
		require.NoError(t, err)
		require.Len(t, all.Items, 1)
		all, err = l.Agents(ctx, all.After, 1)
		require.NoError(t, err)
		require.Equal(t, "rack-2", all.Items[0].Name)
		require.Empty(t, all.After)
	})
}

// TestUnfitAgents: of the agents that are online it is counted how many take nothing new because of
// their machines.
func TestUnfitAgents(t *testing.T) {
	onEachAgentLab(t, func(t *testing.T, l agentLab) {
		count := func(wantUnfit int) {
			t.Helper()
			states, unfit, err := l.AgentStates(t.Context())
			require.NoError(t, err)
			require.Equal(t, wantUnfit, unfit)
			require.Len(t, states, len(labapi.AgentStates))
		}
		count(0)
		a := l.caller(t, l.joined(t))
		require.NoError(t, l.EnterSession(t.Context(), a, labapi.AgentSync{Session: "s", Begin: true, Unfit: "the disk is full"}, 1))
		count(1)
		storetest.Exec(t, l.db, "UPDATE hostsched_agents SET seen = 1")
		count(0)
	})
}

// TestHostsOfAgentsThatTakeNothing: nobody gets a host whose agent is not online, or takes
// nothing for a fault of its machine, and whoever asks is told of the agent. Where Autotest runs
// the jobs, agents have no say.
func TestHostsOfAgentsThatTakeNothing(t *testing.T) {
	onEachAgentLab(t, func(t *testing.T, l agentLab) {
		scope := whole()
		scope.Agents = true
		at := lab.New(l.db, scope)
		snapshots := l.db.Snapshots(scope)
		away := func() []scheduler.Away {
			s, _, err := snapshots.Next(t.Context())
			require.NoError(t, err)
			return s.Away
		}
		now := l.db.Dialect.NowMillis
		for _, revoked := range []string{"NULL", "1"} {
			for _, seen := range []string{"NULL", now, now + " - 44000", now + " - 46000"} {
				for _, session := range []string{"''", "'s'"} {
					for _, desired := range []string{labapi.DesiredRun, labapi.DesiredDrain, labapi.DesiredStop} {
						for _, unfit := range []string{"", "the disk is full"} {
							storetest.Exec(t, l.db, "UPDATE hostsched_agents SET revoked = "+revoked+", seen = "+seen+", session = "+session+", desired = ?, desired_by = 'alice', desired_reason = 'power', unfit = ?", desired, unfit)
							agent, err := at.Agent(t.Context(), "rack-1")
							require.NoError(t, err)
							takes := agent.State == labapi.AgentOnline && agent.Unfit == ""
							got := away()
							require.Equal(t, takes, len(got) == 0, "%+v: %+v", agent, got)
							if !takes {
								require.Equal(t, "rack-1", got[0].Agent)
								require.NotEmpty(t, got[0].Reason)
							}
						}
					}
				}
			}
		}
		set := func(set string) {
			storetest.Exec(t, l.db, "UPDATE hostsched_agents SET revoked = NULL, session = 's', seen = "+now+", desired = 'run', unfit = ''"+set)
		}
		explained := func() string {
			e, err := at.ExplainHost(t.Context(), "h1")
			require.NoError(t, err)
			require.Equal(t, len(e.Reasons) == 0, e.Given)
			return e.Text
		}
		for change, why := range map[string]string{
			", revoked = 1": "its token was revoked", ", seen = NULL": "it has never called", ", session = ''": "it has stopped", ", unfit = 'the disk is full'": "the disk is full",
			", desired = 'drain', desired_by = 'alice', desired_reason = 'power'": "asked to drain by alice: power", ", seen = 1000000": "not heard since 1970-01-01T00:16:40Z",
		} {
			set(change)
			require.Equal(t, why, away()[0].Reason)
			require.Contains(t, explained(), "nobody gets host h1: its agent rack-1 takes nothing: "+why)
		}
		without, err := l.db.Snapshot(t.Context(), whole())
		require.NoError(t, err)
		require.Empty(t, without.Away)
		set("")
		require.NotContains(t, explained(), "agent")
	})
}

// TestAnAgentFallsSilent: nobody writes down that an agent calls no more, and its hosts are
// given to nobody all the same.
func TestAnAgentFallsSilent(t *testing.T) {
	onEachAgentLab(t, func(t *testing.T, l agentLab) {
		scope := whole()
		scope.Agents = true
		snapshots := l.db.Snapshots(scope)
		storetest.Exec(t, l.db, fmt.Sprintf("UPDATE hostsched_agents SET session = 's', seen = %s - %d", l.db.Dialect.NowMillis, (store.AgentSilentAfter-2*time.Second).Milliseconds()))
		away := func() (n int, changed bool) {
			s, changed, err := snapshots.Next(t.Context())
			require.NoError(t, err)
			return len(s.Away), changed
		}
		n, _ := away()
		require.Zero(t, n)
		require.Eventually(t, func() bool {
			n, changed := away()
			return n == 1 && changed
		}, 20*time.Second, 50*time.Millisecond)
	})
}

// TestNotedBesideALockedAgent: an agent whose row another client keeps locked does not make the
// others silent.
func TestNotedBesideALockedAgent(t *testing.T) {
	db := storetest.NewServerLab(t)
	l := newAgentLab(t, db)
	_, err := l.AddAgent(t.Context(), root, labapi.AgentInput{Name: "rack-2", Hosts: []string{"h2"}})
	require.NoError(t, err)
	storetest.Exec(t, db, "UPDATE hostsched_agents SET session = 's', seen = 1")
	other, err := db.SQL().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = other.ExecContext(t.Context(), "SELECT id FROM hostsched_agents WHERE name = 'rack-1' FOR UPDATE")
	require.NoError(t, err)
	ids, err := sqldb.SelectIDs(t.Context(), db.Pool, "SELECT id FROM hostsched_agents ORDER BY name")
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, l.NoteSeen(t.Context(), []lab.AgentSeen{{ID: ids[0]}, {ID: ids[1], Capacity: 4, Changed: true}}))
	require.Less(t, time.Since(began), 5*time.Second, "it waits for nobody")
	require.NoError(t, other.Rollback())
	require.Equal(t, labapi.AgentUnreachable, l.state(t))
	second, err := l.Agent(t.Context(), "rack-2")
	require.NoError(t, err)
	require.Equal(t, labapi.AgentOnline, second.State)
	require.Equal(t, 4, second.Capacity)
}
