package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// Config says what a replica serves, and how often.
type Config struct {
	Scope store.Scope
	// Holder names this process in the fence; unique per process.
	Holder string
	// MinTick is the shortest time from the beginning of one tick to the
	// beginning of the next.
	MinTick time.Duration
	// CheckEvery is after how many ticks the leader looks for states that
	// should not be; 0 never does.
	CheckEvery int
	// ReportFailure, if set, is told when this replica failed to take the shard over
	// or to tick in it: another one may be better placed.
	ReportFailure func(error)
}

// ErrHandOver is part of the cause with which a caller ends Run's context to
// hand the shard over; the history of terms shows it.
var ErrHandOver = errors.New("handed over")

// Bounds of the loop.
const (
	// snapshotTimeout bounds reading; a larger lab than we know takes a second.
	snapshotTimeout = 30 * time.Second
	// resignTimeout bounds the end of a term.
	resignTimeout = time.Second
	// quietTick is how long a leader waits after a tick that found nothing new: it
	// costs a query then to see that something is. After any other tick it only
	// rests for restShare of the time that the tick took, so that the database has
	// room for others.
	quietTick = 100 * time.Millisecond
	restShare = 0.5
	// maxFailures in a row end a term: another replica may be better placed.
	maxFailures = 3
	// recoveredAfter is how long a campaign must wait without failing until the
	// replica counts as a sound follower again.
	recoveredAfter = 5 * time.Second
	// After a failed campaign or term the replica waits between these bounds, so
	// that replicas do not run in step.
	minPause = 100 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// Observer is told what happens. Its methods must not block.
type Observer interface {
	// Leading reports a new term, and how long the takeover took.
	Leading(name shard.Name, token int64, takeOver time.Duration)
	// Ended reports the end of a term.
	Ended(name shard.Name, cause error)
	// Ticked reports a finished tick.
	Ticked(name shard.Name, r Report)
	// Checked reports what the leader's check found.
	Checked(name shard.Name, f admin.Findings)
	// Failed reports a tick that ended with an error. Fenced writes are errors
	// that wrap store.ErrFenced.
	Failed(name shard.Name, err error)
}

// Report describes one tick.
type Report struct {
	Began time.Time
	// Total is the whole tick; the others are its parts.
	Total, Snapshot, Plan, Apply time.Duration
	Result                       store.Result
}

// Replica serves one shard.
type Replica struct {
	cfg        Config
	campaigner election.Campaigner
	db         *store.DB
	observer   Observer
	log        hclog.Logger
	status     status
	// announced is the pause that etcd shows; only the loop uses it.
	announced string

	prefetch prefetch

	// recorderMu guards the recorder of the current term against readers of
	// Holdings; the loop itself is its only writer.
	recorderMu sync.Mutex
	recorder   *scheduler.Recorder
}

// term is what a leader carries from one tick to the next.
type term struct {
	leader   *store.Leader
	recorder *scheduler.Recorder
	// emptyPlan is the plan of the last tick if it was empty: as long as the
	// snapshot stays the same, so does the plan. Nil if it was not.
	emptyPlan *scheduler.Plan
	// quiet: the last tick found nothing new and nothing to do.
	quiet bool
}

// New returns a replica that does nothing until Run.
func New(cfg Config, campaigner election.Campaigner, db *store.DB, observer Observer, log hclog.Logger) *Replica {
	r := &Replica{cfg: cfg, campaigner: campaigner, db: db, observer: observer, log: log.With("shard", cfg.Scope.Shard.String())}
	r.status.set(func(s *Status) { s.Shard, s.State, s.Phase = cfg.Scope.Shard, StateStarting, PhaseIdle })
	return r
}

// Run campaigns and leads until ctx ends. It returns when the shard is handed
// over.
func (r *Replica) Run(ctx context.Context) {
	stop := r.prefetch.begin(ctx, r.prefetchSnapshot)
	for ctx.Err() == nil {
		err := r.serveTerm(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			r.log.Warn("campaigning again", "reason", err)
			r.status.set(func(s *Status) { s.LastError = err.Error() })
		}
		sleep(ctx, minPause+rand.N(maxPause-minPause))
	}
	stop()
	r.Follow()
}

// Follow says that this replica is there, but does not campaign.
func (r *Replica) Follow() {
	r.status.set(func(s *Status) {
		s.State, s.Phase, s.Token, s.Epoch, s.LastError = StateCandidate, PhaseIdle, 0, 0, ""
	})
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// serveTerm wins one term and serves it to its end.
func (r *Replica) serveTerm(ctx context.Context) (err error) {
	r.status.set(func(s *Status) { s.State, s.Token, s.Epoch = StateCandidate, 0, 0 })
	name := r.cfg.Scope.Shard
	// A campaign that waits quietly has recovered from whatever failed before.
	recovered := time.AfterFunc(recoveredAfter, func() { r.status.set(func(s *Status) { s.LastError = "" }) })
	won, err := r.campaigner.Campaign(ctx, name)
	recovered.Stop()
	if err != nil {
		return err
	}
	began := time.Now()
	t, err := r.takeOver(ctx, won)
	if err != nil {
		if ctx.Err() == nil {
			r.reportFailure(err)
		}
		return r.resign(won, err)
	}
	took := time.Since(began)
	fence := t.leader.Fence()
	r.log.Info("leading", "token", won.Token, "epoch", fence.Epoch, "takeover", took)
	r.observer.Leading(name, won.Token, took)
	r.status.set(func(s *Status) {
		s.State, s.Token, s.Epoch, s.Since, s.TakeOver = StateLeader, won.Token, fence.Epoch, won.Since, took
		s.Terms++
		s.LastError = ""
	})
	before := r.Status()
	r.announced = ""
	r.keep(t.recorder)
	err = r.lead(ctx, won, t)
	r.keep(nil)
	return errors.Join(r.endTerm(ctx, won, t.leader, before, err), t.leader.Close())
}

// endTerm hands the shard over and then notes in the history how the term ended.
func (r *Replica) endTerm(ctx context.Context, term *election.Term, leader *store.Leader, before Status, err error) error {
	cause := err
	if cause == nil {
		cause = context.Cause(ctx)
	}
	now := r.Status()
	end := store.TermEnd{Planned: err == nil, Cause: cause.Error(), Ticks: now.Ticks - before.Ticks, Assignments: now.Assignments - before.Assignments}
	result := r.resign(term, err)
	bound, cancel := context.WithTimeout(context.Background(), resignTimeout)
	defer cancel()
	if err := leader.EndTerm(bound, end); err != nil {
		// The next term notes this one as lost.
		r.log.Debug("recording the end of the term", "error", err)
	}
	return result
}

func (r *Replica) reportFailure(err error) {
	if r.cfg.ReportFailure != nil {
		r.cfg.ReportFailure(err)
	}
}

func (r *Replica) takeOver(ctx context.Context, won *election.Term) (*term, error) {
	leader, err := r.db.TakeOver(ctx, store.Claim{Shard: won.Shard, Token: won.Token, Cluster: won.Cluster, Holder: r.cfg.Holder, Shared: r.cfg.Scope.Shared})
	if err != nil {
		return nil, err
	}
	recorder, err := r.db.Recorder(ctx, r.cfg.Scope)
	if err != nil {
		return nil, errors.Join(err, leader.Close())
	}
	return &term{leader: leader, recorder: recorder}, nil
}

// resign hands the shard over, whatever happened.
func (r *Replica) resign(term *election.Term, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), resignTimeout)
	defer cancel()
	if rerr := term.Resign(ctx); rerr != nil {
		// The lease expires by itself.
		r.log.Debug("resigning", "error", rerr)
	}
	cause := term.Cause()
	r.observer.Ended(term.Shard, cause)
	r.log.Info("term over", "token", term.Token, "cause", cause, "error", err)
	r.status.set(func(s *Status) { s.State, s.Phase = StateCandidate, PhaseIdle })
	if err == nil && !errors.Is(cause, election.ErrResigned) {
		err = cause
	}
	return err
}

// lead ticks until the term ends or ctx does.
func (r *Replica) lead(ctx context.Context, won *election.Term, t *term) error {
	failures := 0
	for n := 1; ; n++ {
		began := time.Now()
		err := r.tick(ctx, t)
		if err == nil && r.cfg.CheckEvery > 0 && n%r.cfg.CheckEvery == 0 {
			err = r.check(ctx, t.recorder)
		}
		switch {
		case errors.Is(err, store.ErrFenced):
			return r.fenced(err)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrNoShard):
			return err
		case errors.Is(err, store.ErrLayout):
			// The rest of the plan is made again from the next snapshot, which has the
			// new layout. That is no failure of the tick.
			r.log.Info("planning again because the layout of the shard changed", "reason", err)
		case err == nil:
			failures = 0
			r.announce(ctx, won)
		default:
			failures++
			if err := r.recover(ctx, t, err, failures); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-won.Done():
			return won.Cause()
		case <-time.After(r.pause(time.Since(began), t.quiet)):
		}
	}
}

// pause is how long to wait after a tick that took so long.
func (r *Replica) pause(took time.Duration, quiet bool) time.Duration {
	rest := time.Duration(restShare * float64(took))
	if quiet {
		rest = max(rest, quietTick-took)
	}
	return max(rest, r.cfg.MinTick-took)
}

// announce shows in etcd whether the shard is paused.
func (r *Replica) announce(ctx context.Context, won *election.Term) {
	paused := r.Status().Paused
	if paused == r.announced {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, resignTimeout)
	defer cancel()
	if err := won.Announce(ctx, paused); err != nil {
		r.log.Debug("announcing a pause", "error", err) // again after the next tick
		return
	}
	r.announced = paused
}

// fenced notes that the database refused a write of this term.
func (r *Replica) fenced(err error) error {
	r.observer.Failed(r.cfg.Scope.Shard, err)
	r.status.set(func(s *Status) { s.FencedWrites++ })
	return err
}

// recover deals with a failed tick: asks whether the term is over (a successor
// may have ended the connection), and reconciles the recorder with the part of
// the plan that is in the database.
func (r *Replica) recover(ctx context.Context, t *term, err error, failures int) error {
	t.emptyPlan = nil
	r.observer.Failed(r.cfg.Scope.Shard, err)
	r.log.Error("tick failed", "error", err, "in a row", failures)
	r.status.set(func(s *Status) { s.Errors++; s.LastError = err.Error() })
	if failures >= maxFailures {
		r.reportFailure(err)
		return fmt.Errorf("stepping down after %d failed ticks in a row: %w", failures, err)
	}
	if verr := t.leader.Verify(ctx); errors.Is(verr, store.ErrFenced) {
		return r.fenced(verr)
	}
	rebuilt, rerr := r.db.Recorder(ctx, r.cfg.Scope)
	if rerr != nil {
		return fmt.Errorf("stepping down: %w", errors.Join(err, rerr))
	}
	r.recorderMu.Lock()
	defer r.recorderMu.Unlock()
	t.recorder.Reconcile(rebuilt)
	return nil
}

// Holdings returns which suite holds which host, as the recorder of the current
// term has it; nil if this replica does not lead.
func (r *Replica) Holdings() map[scheduler.HostID]scheduler.JobID {
	r.recorderMu.Lock()
	defer r.recorderMu.Unlock()
	if r.recorder == nil {
		return nil
	}
	return r.recorder.Hosts()
}

func (r *Replica) keep(recorder *scheduler.Recorder) {
	r.recorderMu.Lock()
	defer r.recorderMu.Unlock()
	r.recorder = recorder
}

// tick is the heart of the matter: snapshot, plan, apply.
func (r *Replica) tick(ctx context.Context, t *term) (err error) {
	defer func() {
		r.status.set(func(s *Status) { s.Phase = PhaseIdle })
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a tick: %v\n%s", p, debug.Stack())
		}
	}()
	rep := Report{Began: time.Now()}
	snapshot, changed, err := r.snapshot(ctx, t)
	if err != nil {
		return err
	}
	rep.Snapshot = time.Since(rep.Began)

	r.phase(PhasePlan)
	plan := t.plan(snapshot, changed)
	rep.Plan = time.Since(rep.Began) - rep.Snapshot

	r.phase(PhaseApply)
	// A signal to stop does not interrupt an apply: it is finished first.
	rep.Result, err = t.leader.Apply(context.WithoutCancel(ctx), plan)
	r.record(t.recorder, rep.Result.Applied)
	rep.Total = time.Since(rep.Began)
	rep.Apply = rep.Total - rep.Snapshot - rep.Plan
	if err != nil {
		return err
	}
	r.report(rep)
	return nil
}

// plan makes the plan of a tick. What depends on nothing but the snapshot and
// the recorder, and was empty, needs no second thought while they stay the same:
// the recorder only changes by plans, and by what is noticed in other snapshots.
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
	if s.Basis.Paused == "" && changed {
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

// check looks for states that should not be and reports them.
func (r *Replica) check(ctx context.Context, recorder *scheduler.Recorder) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	f, err := admin.New(r.db).Check(ctx, r.cfg.Scope, recorder)
	if err != nil {
		return err
	}
	if f.Count() > 0 {
		r.log.Warn("the check has findings", "overlapping", len(f.Overlapping), "unheld", len(f.Unheld), "unleased", len(f.Unleased), "drift", len(f.Drift))
	}
	r.observer.Checked(r.cfg.Scope.Shard, f)
	return nil
}

func (r *Replica) report(rep Report) {
	r.observer.Ticked(r.cfg.Scope.Shard, rep)
	r.status.ticked(rep)
	applied := rep.Result.Applied
	for _, p := range applied.Problems {
		r.log.Debug("malformed row", "problem", p.Text)
	}
	if !applied.Empty() || len(rep.Result.Conflicts) > 0 {
		r.log.Debug("tick", "assigned", len(applied.Assignments), "released", len(applied.Releases), "leased", len(applied.Leases),
			"waiting", len(applied.Waiting), "overtaken", len(rep.Result.Conflicts), "took", rep.Total)
	}
}

func (r *Replica) phase(p Phase) { r.status.set(func(s *Status) { s.Phase = p }) }
