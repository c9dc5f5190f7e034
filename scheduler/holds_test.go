package scheduler

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestDrainingHost: nobody new gets it, and the reasons say so.
func TestDrainingHost(t *testing.T) {
	s := reasonsLab()
	s.Holds = []Hold{{Host: 6, Draining: true, By: "bob", Reason: "new cable"}}
	p := MakePlan(s)
	require.Empty(t, p.Assignments)
	got := map[EntryID]*Reason{}
	for _, w := range p.Waiting {
		got[w.Entry] = w.Reason
	}
	require.Equal(t, HostsBusy, got[2].Code)
	require.Equal(t, 1, got[2].Draining)
	require.Contains(t, got[2].String(), "1 draining (e6 (bob: new cable))")

	s.Jobs[5].Deps = nil
	s.Entries[5].Host = 6
	p = MakePlan(s)
	for _, w := range p.Waiting {
		if w.Entry == s.Entries[5].ID {
			require.Equal(t, HostDraining, w.Reason.Code)
			require.False(t, w.Reason.Code.Lasting())
			require.Equal(t, "names host e6, which is draining (bob: new cable)", w.Reason.String())
		}
	}
}

// TestHostOfAnAgentThatIsAway: nobody new gets it, and the reasons say so.
func TestHostOfAnAgentThatIsAway(t *testing.T) {
	s := reasonsLab()
	s.Away = []Away{{Host: 6, Agent: "lab1", Reason: "silent since noon"}}
	s.TaskHosts = []HostID{6}
	p := MakePlan(s)
	require.Empty(t, p.Assignments)
	require.Empty(t, p.Leases, "a task would only wait for the agent, too")
	reasons := func() map[EntryID]*Reason {
		got := map[EntryID]*Reason{}
		for _, w := range MakePlan(s).Waiting {
			got[w.Entry] = w.Reason
		}
		return got
	}
	got := reasons()[2]
	require.Equal(t, HostsBusy, got.Code)
	require.Equal(t, 1, got.Away)
	require.Contains(t, got.String(), "1 without an agent that takes anything (e6 (agent lab1: silent since noon))")

	s.Jobs[5].Deps = nil
	s.Entries[5].Host = 6
	got = reasons()[s.Entries[5].ID]
	require.Equal(t, AgentAway, got.Code)
	require.False(t, got.Code.Lasting())
	require.Equal(t, "names host e6, which has no agent that takes anything (agent lab1: silent since noon)", got.String())
}

// person is a lab of one host with what people and the leader do to its holds.
type person struct {
	host Host
	now  int64
	// lock is the number of the lock under which the host is; the timer of an earlier one
	// has no power over it. until belongs to the lock with the number timed.
	lock, locks, timed int
	until              int64
	drain              *Hold
	drains             int
	// forever are the locks that have no end.
	forever map[int]bool
}

// hold is what the store reads.
func (p *person) hold() (holds []Hold) {
	h := Hold{Host: p.host.ID}
	if p.drain != nil {
		h = *p.drain
	}
	if p.host.Locked && p.timed == p.lock {
		h.LockUntil = p.until
	}
	return []Hold{h}
}

func (p *person) lockIt(until int64) {
	p.locks++
	p.lock, p.host.Locked = p.locks, true
	if until != 0 {
		p.timed, p.until = p.lock, until
	}
	p.forever[p.lock] = until == 0
}

// TestTimersEndNoOtherHold: whatever people do with a host in which order, the leader ends
// only locks with an end, after that, and a drain only by turning it into a lock.
func TestTimersEndNoOtherHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &person{host: Host{ID: 1, Hostname: "h", Ready: true, Status: HostReady}, forever: map[int]bool{}}
		later := rapid.Int64Range(1, 30)
		t.Repeat(map[string]func(*rapid.T){
			"lock": func(t *rapid.T) {
				if p.host.Locked {
					t.Skip("locked")
				}
				p.lockIt(0)
			},
			"lock until": func(t *rapid.T) {
				if p.host.Locked {
					t.Skip("locked")
				}
				p.lockIt((p.now + later.Draw(t, "for")) * 1000)
			},
			"unlock": func(*rapid.T) { p.host.Locked, p.lock = false, 0 },
			"drain": func(t *rapid.T) {
				p.drain = &Hold{Host: 1, Draining: true, By: "alice", Abort: chance(t, 50), Deadline: (p.now + later.Draw(t, "for")) * 1000}
				p.drains++
			},
			"undrain": func(*rapid.T) { p.drain = nil },
			"use":     func(*rapid.T) { p.host.Leased, p.host.ActiveEntry = true, 1 },
			"leave":   func(*rapid.T) { p.host.ActiveEntry = 0 },
			"time":    func(t *rapid.T) { p.now += later.Draw(t, "passes") },
			"tick": func(t *rapid.T) {
				plan := MakePlan(&Snapshot{Now: p.now, Hosts: []Host{p.host}, Holds: p.hold()})
				if len(plan.Unlocks) > 0 {
					if !p.host.Locked || p.forever[p.lock] || p.timed != p.lock || p.until > p.now*1000 {
						t.Fatalf("lock %d of %+v was ended", p.lock, p)
					}
					p.host.Locked, p.lock = false, 0
				}
				if len(plan.Drained) > 0 {
					if p.drain == nil || p.host.ActiveEntry != 0 || len(plan.Unlocks) == 0 && p.host.Locked {
						t.Fatalf("%+v became locked", p)
					}
					p.drain = nil
					p.lockIt(0)
				}
				for range plan.Releases {
					p.host.Leased = false
				}
				if len(plan.Unlocks)+len(plan.Drained) > 1 {
					t.Fatalf("%+v: one at a time", p)
				}
			},
			"": func(t *rapid.T) {
				if p.host.Locked != (p.lock != 0) {
					t.Fatal("the test is wrong")
				}
			},
		})
	})
}
