package replica

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/admin"
)

// tick reads a snapshot, makes a plan and applies it.
func (r *Replica) tick(ctx context.Context, t *term) (err error) {
	defer r.recovered(&err)
	t.settled = false
	rep := Report{Began: time.Now(), Woken: r.wakes.answer().waited()}
	snapshot, changed, err := r.snapshot(ctx, t)
	if err != nil {
		return err
	}
	rep.Snapshot = time.Since(rep.Began)

	r.phase(PhasePlan)
	if contended := t.leader.Contended(); !contended.Equal(snapshot.Contended) {
		snapshot.Contended, changed = contended, true
	}
	plan := t.plan(snapshot, changed)
	rep.Plan = time.Since(rep.Began) - rep.Snapshot

	if err := r.apply(ctx, t, snapshot, plan, &rep); err != nil {
		return err
	}
	t.settled = len(rep.Result.Conflicts) == 0
	r.report(rep)
	return nil
}

// recovered ends a tick, also one that panicked.
func (r *Replica) recovered(err *error) {
	r.phase(PhaseIdle)
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic in a tick: %v\n%s", p, debug.Stack())
	}
}

// apply writes a plan and fills in the rest of the report.
func (r *Replica) apply(ctx context.Context, t *term, snapshot *scheduler.Snapshot, plan scheduler.Plan, rep *Report) (err error) {
	r.phase(PhaseApply)
	defer r.warnIfSlow(slowPhase)()
	r.prefetch.snapshots.Given(plan)
	// The end of ctx does not interrupt an apply, which is finished first.
	rep.Result, err = t.leader.Apply(context.WithoutCancel(ctx), plan)
	r.record(t.recorder, rep.Result.Applied)
	r.logApplied(snapshot, rep.Result.Applied)
	rep.Contended = t.leader.Contended().Count()
	rep.Total = time.Since(rep.Began)
	rep.Apply = rep.Total - rep.Snapshot - rep.Plan
	return err
}

// plan makes the plan of a tick. If the last plan was empty and the snapshot is the
// same, the plan is the same: it depends on the snapshot and the recorder only, and
// the recorder changes only by plans that are not empty and by changed snapshots.
func (t *term) plan(snapshot *scheduler.Snapshot, changed bool) scheduler.Plan {
	t.quiet = !changed && t.emptyPlan != nil
	if t.quiet {
		return *t.emptyPlan
	}
	plan := scheduler.MakePlan(snapshot)
	t.emptyPlan = nil
	if plan.Empty() {
		t.emptyPlan = &plan
	}
	return plan
}

func (r *Replica) snapshot(ctx context.Context, t *term) (*scheduler.Snapshot, bool, error) {
	r.phase(PhaseSnapshot)
	defer r.warnIfSlow(slowSnapshot)()
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	var s *scheduler.Snapshot
	var changed bool
	err := r.prefetch.use(func() (err error) {
		s, changed, err = r.readSnapshot(ctx)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	r.recorderMu.Lock()
	defer r.recorderMu.Unlock()
	if s.Basis.Paused == "" && (changed || t.emptyPlan == nil) {
		t.recorder.ForgetUnleased(s.Hosts)
	}
	s.Recorder = t.recorder
	r.status.set(func(st *Status) { st.Paused = s.Basis.Paused })
	return s, changed, nil
}

func (r *Replica) record(recorder *scheduler.Recorder, applied scheduler.Plan) {
	r.recorderMu.Lock()
	defer r.recorderMu.Unlock()
	recorder.Record(applied)
}

// check looks for inconsistencies in the database and reports them.
func (r *Replica) check(ctx context.Context, recorder *scheduler.Recorder) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	f, err := admin.New(r.db).Check(ctx, r.cfg.Scope, recorder)
	if err != nil {
		return err
	}
	if f.Count() > 0 {
		var counts []any
		for _, kind := range f.Kinds() {
			counts = append(counts, kind.Name, len(kind.All))
		}
		r.log.Warn("the leader found inconsistencies in the database", counts...)
	}
	r.observer.Checked(r.cfg.Scope.Shard, f)
	return nil
}

// keepPruning deletes what is too old in the history, beside the ticks: they must not
// wait for a row that somebody else keeps locked. Of the leaders that share a database the
// master's does so.
func (r *Replica) keepPruning(ctx context.Context) {
	if r.cfg.KeepDays == 0 && r.cfg.JournalDays == 0 || r.cfg.Scope.Shared && !r.cfg.Scope.Shard.IsMaster() {
		return
	}
	for ctx.Err() == nil {
		r.prune(ctx)
		sleep(ctx, pruneInterval)
	}
}

func (r *Replica) prune(ctx context.Context) {
	bound, cancel := context.WithTimeout(ctx, pruneTimeout)
	defer cancel()
	terms, records, events, err := admin.New(r.db).Prune(bound, r.cfg.KeepDays, r.cfg.JournalDays)
	if err != nil && ctx.Err() == nil {
		r.faults.Warn("cannot delete old history; trying again in an hour", "error", err)
	}
	if terms+records+events > 0 {
		r.log.Info("deleted old history", "terms", terms, "audit records", records, "events", events)
	}
}
