package replica

import (
	"fmt"
	"sync"
	"time"

	"github.com/hostsched/hostsched/shard"
)

// State of a replica towards its shard.
type State string

// The states of a replica.
const (
	StateStarting  State = "starting"
	StateCandidate State = "follower"
	StateLeader    State = "leader"
)

// Phase of a tick.
type Phase string

// The phases of a tick.
const (
	PhaseIdle Phase = "idle"
	// PhaseTakeOver comes before the first tick of a term.
	PhaseTakeOver Phase = "takeover"
	PhaseSnapshot Phase = "snapshot"
	PhasePlan     Phase = "plan"
	PhaseApply    Phase = "apply"
)

// recentTicks is how many tick durations a Status remembers.
const recentTicks = 256

// Status is the state of a replica and what it did so far. Durations are
// nanoseconds in JSON.
type Status struct {
	Shard shard.Name `json:"shard"`
	State State      `json:"state"`
	Phase Phase      `json:"phase"`
	// PhaseSince is when the phase began.
	PhaseSince time.Time `json:"phase_since,omitzero"`
	// OverSince is when the latest term was over, as long as this replica has not finished
	// with it: its last tick may wait for the database.
	OverSince time.Time     `json:"over_since,omitzero"`
	Token     int64         `json:"token"`
	Epoch     int64         `json:"epoch"`
	Since     time.Time     `json:"since,omitzero"`
	TakeOver  time.Duration `json:"takeover"`
	Terms     int64         `json:"terms"`
	LastError string        `json:"last_error,omitempty"`
	// NotLeading is why this replica does not lead the shard; nil if it does.
	NotLeading *NotLeading `json:"not_leading,omitempty"`
	// Paused is why the leader schedules nothing, empty if it does.
	Paused string `json:"paused,omitempty"`

	Ticks        int64 `json:"ticks"`
	Assignments  int64 `json:"assignments"`
	Releases     int64 `json:"releases"`
	FencedWrites int64 `json:"fenced_writes"`
	Errors       int64 `json:"errors"`
	Waiting      int   `json:"waiting"`
	// LockedRows is how many rows plans leave alone now, because other clients kept them
	// locked.
	LockedRows int `json:"locked_rows"`

	LastTick time.Time `json:"last_tick,omitzero"`
	// FailingSince is when the first of the ticks began that have failed since the last that
	// did not.
	FailingSince time.Time `json:"failing_since,omitzero"`
	// Recent are the durations of the latest ticks, oldest first; the last one
	// is tick number Ticks.
	Recent []time.Duration `json:"recent"`

	// campaign is why the latest campaign failed, empty while none did.
	campaign string
}

const (
	// slowEnd is after how long a term that is over, and not finished with, is said to hang.
	slowEnd = 5 * time.Second
	// slowSnapshot is after how long a takeover, or a snapshot that is still being read, is said
	// to hang: the largest labs take about a second.
	slowSnapshot = 5 * time.Second
	// slowPhase is the same for the rest of a tick. The largest plans take seconds.
	slowPhase = 30 * time.Second
)

// Slow says that a takeover or a tick hangs, and where, or that ticks fail; it is empty if none does. The term may
// be over already: whoever still waits for the database cannot lead.
func (s Status) Slow(now time.Time) string {
	if !s.OverSince.IsZero() && now.Sub(s.OverSince) > slowEnd {
		return fmt.Sprintf("the term of shard %s is over since %s (%v), and this replica has not finished with it; see whether the database answers and who holds locks there",
			s.Shard, s.OverSince.UTC().Format(time.RFC3339), now.Sub(s.OverSince).Round(time.Second))
	}
	if s.State == StateLeader && !s.FailingSince.IsZero() && now.Sub(s.FailingSince) > slowSnapshot {
		return fmt.Sprintf("ticks of shard %s have failed since %s (%v): %s", s.Shard, s.FailingSince.UTC().Format(time.RFC3339), now.Sub(s.FailingSince).Round(time.Second), s.LastError)
	}
	took, limit := now.Sub(s.PhaseSince), slowPhase
	if s.Phase == PhaseSnapshot || s.Phase == PhaseTakeOver {
		limit = slowSnapshot
	}
	if s.Phase == PhaseIdle || s.PhaseSince.IsZero() || took < limit {
		return ""
	}
	return fmt.Sprintf("the %s of shard %s has been running since %s (%v); see whether the database answers and who holds locks there",
		s.Phase, s.Shard, s.PhaseSince.UTC().Format(time.RFC3339), took.Round(time.Second))
}

type status struct {
	mu sync.Mutex
	s  Status
}

func (st *status) set(change func(*Status)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	change(&st.s)
}

func (st *status) ticked(rep Report) {
	st.set(func(s *Status) {
		s.Ticks++
		s.Assignments += int64(len(rep.Result.Applied.Assignments))
		s.Releases += int64(len(rep.Result.Applied.Releases))
		if !rep.Newcomers {
			s.Waiting = len(rep.Result.Applied.Waiting)
		}
		s.LockedRows, s.FailingSince = rep.Contended, time.Time{}
		s.LastTick = rep.Began.Add(rep.Total)
		if s.Recent = append(s.Recent, rep.Total); len(s.Recent) > recentTicks {
			s.Recent = s.Recent[1:]
		}
	})
}

// Leads tells whether the replica leads its shard.
func (r *Replica) Leads() bool {
	r.status.mu.Lock()
	defer r.status.mu.Unlock()
	return r.status.s.State == StateLeader
}

// Slow says what hangs in the replica; see [Status.Slow].
func (r *Replica) Slow(now time.Time) string {
	r.status.mu.Lock()
	defer r.status.mu.Unlock()
	return r.status.s.Slow(now)
}

// CampaignFails says why the latest campaign failed, unless the one after it has waited for
// a while or won. It is empty if this replica does not campaign.
func (r *Replica) CampaignFails() string {
	r.status.mu.Lock()
	defer r.status.mu.Unlock()
	return r.status.s.campaign
}

// Status returns a copy.
func (r *Replica) Status() Status {
	r.status.mu.Lock()
	defer r.status.mu.Unlock()
	s := r.status.s
	s.Recent = append([]time.Duration(nil), s.Recent...)
	return s
}
