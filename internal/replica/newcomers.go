package replica

import (
	"context"
	"time"

	"github.com/hostsched/hostsched/scheduler"
)

const (
	// newcomersCalm is after how long without newcomers whole ticks follow each other as
	// fast as ever.
	newcomersCalm = time.Second
	// newcomersRest is how many times as long as a whole tick took the next one waits while
	// newcomers come.
	newcomersRest = 3
)

// newcomers gives new entries the hosts that the last tick left free, without looking at
// anything else. done is false if it is time for a whole tick instead. Those that get no host
// wait for the next one, and so do those about which only that can decide.
func (r *Replica) newcomers(ctx context.Context, t *term) (done bool, err error) {
	if !t.settled || !r.wakes.newcomersOnly() {
		return false, nil
	}
	defer r.recovered(&err)
	woken := r.wakes.answer()
	rep := Report{Began: time.Now(), Woken: woken.waited(), Newcomers: true}
	r.phase(PhaseSnapshot)
	bound, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	var snapshot *scheduler.Snapshot
	err = r.prefetch.use(func() (err error) {
		if r.prefetch.snapshots != nil {
			snapshot, err = r.prefetch.snapshots.Newcomers(bound, woken.entries)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	if snapshot == nil {
		r.wakes.again(woken)
		return true, nil
	}
	rep.Snapshot = time.Since(rep.Began)
	snapshot.Contended = t.leader.Contended()
	plan := r.planNewcomers(snapshot, t.recorder)
	rep.Plan = time.Since(rep.Began) - rep.Snapshot
	if err := r.apply(ctx, t, snapshot, plan, &rep); err != nil {
		return false, err
	}
	r.report(rep)
	return true, nil
}

// planNewcomers plans for new entries alone. What becomes of the others, and of hosts that
// are held or nobody's, a whole tick decides.
func (r *Replica) planNewcomers(s *scheduler.Snapshot, recorder *scheduler.Recorder) scheduler.Plan {
	s.Recorder = recorder
	plan := scheduler.MakePlan(s)
	return scheduler.Plan{Assignments: plan.Assignments, Changes: plan.Changes, Basis: plan.Basis}
}
