package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// Config says what a replica serves, and how often.
type Config struct {
	Scope store.Scope
	// Holder names this process in the fence. It must be unique per process.
	Holder string
	// Cluster names the installation of hostsched that this process belongs to.
	Cluster string
	// MinTick is the shortest time from the beginning of one tick to the
	// beginning of the next, unless somebody wakes the leader.
	MinTick time.Duration
	// CheckEvery is after how many ticks the leader looks for inconsistencies in
	// the database. With 0 it never does.
	CheckEvery int
	// KeepDays is after how many days the leader deletes terms and audit records. With 0
	// it never does.
	KeepDays int
	// Journal makes the leader note in the journal what it does, in the transactions that
	// do it. JournalDays is after how many days it deletes that; with 0 it never does.
	Journal     bool
	JournalDays int
	// LogAssignments makes the log say at level info who got which host and why, and
	// which hosts were released; else it says so at level debug.
	LogAssignments bool
	// ReportFailure, if set, is called when this replica failed to take the shard
	// over or to tick, because a replica on another server may succeed.
	ReportFailure func(error)
	// Deaths, if set, says why processes died, by name, as far as that is known.
	Deaths func() map[string]store.Death
	// Epoch, if set, is the highest epoch with which any replica was seen to lead the
	// shard.
	Epoch func() int64
	// Ended, if set, is called with the last writes of a term that ended in an unplanned
	// way; Former, if set, returns those of such terms that any replica has told of.
	Ended  func(store.LastWrites)
	Former func() []store.LastWrites
	// AwaitShown, if set, waits shortly until the others can see what this replica has said
	// of itself, before it ends a term. AwaitSeen, if set, waits shortly until what Deaths,
	// Epoch and Former return is as new as the beginning of the term with a token.
	AwaitShown func(context.Context)
	AwaitSeen  func(ctx context.Context, token int64)
}

// ErrHandOver is part of the cause with which a caller ends Run's context to
// hand the shard over; the history of terms shows it.
var ErrHandOver = errors.New("handed over")

// ErrDatabaseLost is the same if this replica has lost the database: then it hands the
// shard over without finishing anything.
var ErrDatabaseLost = fmt.Errorf("%w without the database", ErrHandOver)

// Bounds of the loop.
const (
	// snapshotTimeout bounds the reading of a snapshot, which takes about a second in
	// the largest labs.
	snapshotTimeout = 30 * time.Second
	// resignTimeout bounds the end of a term, and the question whether it has come.
	resignTimeout = time.Second
	// pruneInterval is how often a leader deletes old history, and pruneTimeout how long it
	// may take.
	pruneInterval = time.Hour
	pruneTimeout  = 5 * time.Second
	// quietTick is how long a leader waits after a tick that found nothing new,
	// because even such a tick costs the database some queries. After any other tick
	// it only rests for restShare of the time that the tick took, so that other
	// clients get their share of the database.
	quietTick = 100 * time.Millisecond
	restShare = 0.5
	// longestWork is for how long of a tick a leader rests at most. In the largest labs a steady
	// tick takes less; one that took longer has mostly waited for others, who had the database.
	longestWork = time.Second
	// maxFailures is how many failed ticks in a row end a term, because a replica on
	// another server may succeed.
	maxFailures = 3
	// recoveredAfter is how long a campaign must wait without an error until the
	// replica counts as healthy again.
	recoveredAfter = 5 * time.Second
)

// Observer is told what a replica does. Its methods must not block.
type Observer interface {
	// Leading reports a new term, and how long the takeover took.
	Leading(name shard.Name, token int64, takeOver time.Duration)
	// Ended reports that a term is over. If it was before its last tick ended, Ended reports
	// it again then.
	Ended(name shard.Name, cause error)
	// Ticked reports a finished tick.
	Ticked(name shard.Name, r Report)
	// Checked reports the inconsistencies that the leader found.
	Checked(name shard.Name, f admin.Findings)
	// Replanned reports a tick that was planned anew, because what belongs to the shard
	// changed after its snapshot.
	Replanned(name shard.Name)
	// Failed reports a tick that ended with an error. Fenced writes are errors
	// that wrap store.ErrFenced.
	Failed(name shard.Name, err error)
}

// Report describes one tick.
type Report struct {
	Began time.Time
	// Total is the whole tick; the others are its parts.
	Total, Snapshot, Plan, Apply time.Duration
	// Newcomers is true if only new entries were looked at, between whole ticks. Then
	// nothing is known of those that wait.
	Newcomers bool
	// Woken is how long whoever woke the leader had to wait until the tick began; 0 if
	// nobody did.
	Woken  time.Duration
	Result store.Result
	// Contended is how many rows the next plan leaves alone, because other clients kept them
	// locked.
	Contended int
}

// Replica serves one shard.
type Replica struct {
	cfg        Config
	campaigner election.Campaigner
	db         *store.DB
	observer   Observer
	log        hclog.Logger
	status     status
	// faults is the log for what fails again and again.
	faults *recurring.Log
	// locked is the log for rows that other clients keep locked. A good tick is not the
	// end of that.
	locked *recurring.Log
	// backoff and claim are those of the last takeover. Only the goroutine of the loop
	// uses them.
	backoff backoff
	claim   store.Claim
	// led is true if the latest attempt took the shard over. Only the goroutine of the
	// loop uses it.
	led bool
	// former is what the latest term of this replica left in the database. Only the
	// goroutine of the loop uses it.
	former *store.LastWrites
	// announced is what etcd shows of this leader. Only the goroutine of the
	// loop uses it.
	announced election.Announcement

	prefetch prefetch
	wakes    wakes

	// recorderMu guards the recorder of the current term, which the loop changes and
	// Holdings reads.
	recorderMu sync.Mutex
	recorder   *scheduler.Recorder
}

// New returns a replica that does nothing until Run.
func New(cfg Config, campaigner election.Campaigner, db *store.DB, observer Observer, log hclog.Logger) *Replica {
	r := &Replica{cfg: cfg, campaigner: campaigner, db: db, observer: observer, log: log.With("shard", cfg.Scope.Shard.String())}
	r.wakes.signal = make(chan struct{}, 1)
	r.faults, r.locked = recurring.New(r.log), recurring.New(r.log)
	r.status.set(func(s *Status) { s.Shard, s.State, s.Phase = cfg.Scope.Shard, StateStarting, PhaseIdle })
	return r
}

// Run campaigns and leads until ctx ends. It returns when the shard is handed
// over.
func (r *Replica) Run(ctx context.Context) {
	stop := r.prefetch.begin(ctx, r.prefetchSnapshot)
	for ctx.Err() == nil {
		err := r.attempt(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			r.faults.Warn("the campaign or term ended with an error; campaigning again", "error", err)
			r.status.set(func(s *Status) { s.LastError = err.Error() })
		}
		sleep(ctx, r.backoff.pause(r.led))
	}
	stop()
	r.Follow()
}

// attempt campaigns and serves one term. After a takeover that failed it first
// rehearses the next one: as long as that fails, too, there is no campaign.
func (r *Replica) attempt(ctx context.Context) error {
	r.led = false
	if r.backoff.doubtful() {
		r.claim.Deaths = r.deaths() // the one that led last may stand still, with the row locked
		if err := r.db.RehearseTakeOver(ctx, r.claim); err != nil {
			if ctx.Err() == nil {
				r.failed(err)
			}
			return err
		}
	}
	return r.serveTerm(ctx)
}

// Follow sets the status to that of a healthy replica which does not lead.
func (r *Replica) Follow() {
	r.status.set(func(s *Status) {
		s.State, s.Phase, s.Token, s.Epoch, s.LastError, s.campaign = StateCandidate, PhaseIdle, 0, 0, "", ""
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

// said is how terms are logged: each one, or now and then while they keep failing.
func (r *Replica) said() func(msg string, args ...any) {
	if r.backoff.doubtful() {
		return r.faults.Info
	}
	return r.log.Info
}

// steady forgets earlier failures once ticks have succeeded for a while.
func (r *Replica) steady(won *election.Term) {
	if !r.backoff.doubtful() || time.Since(won.Since) < steadyTerm {
		return
	}
	r.backoff.reset()
	r.faults.Over()
	r.log.Info("this term lasts; earlier failures are over", "token", won.Token)
}

// shareOf is the share of the database that other clients get after a tick.
func shareOf(took time.Duration) time.Duration {
	return time.Duration(restShare * float64(min(took, longestWork)))
}

// pause returns how long to wait after a tick if nobody wakes the leader.
func (r *Replica) pause(took time.Duration, quiet bool) time.Duration {
	rest := shareOf(took)
	if quiet {
		rest = max(rest, quietTick-took)
	}
	return max(rest, r.cfg.MinTick-took)
}

// announce shows in etcd whether the shard is paused.
func (r *Replica) announce(ctx context.Context, won *election.Term) {
	s := r.Status()
	says := election.Announcement{Paused: s.Paused, Epoch: s.Epoch}
	if says == r.announced {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, resignTimeout)
	defer cancel()
	if err := won.Announce(ctx, says); err != nil {
		// The next tick tries again.
		r.log.Debug("cannot show in etcd whether the shard is paused", "error", err)
		return
	}
	r.announced = says
}

// Holdings returns which suite holds which host according to the recorder of the
// current term. It is nil if this replica does not lead.
func (r *Replica) Holdings() map[scheduler.HostID]scheduler.JobID {
	r.recorderMu.Lock()
	defer r.recorderMu.Unlock()
	if r.recorder == nil || !r.Leads() {
		return nil // the last tick of a term may outlast it
	}
	return r.recorder.Hosts()
}

func (r *Replica) keep(recorder *scheduler.Recorder) {
	r.recorderMu.Lock()
	defer r.recorderMu.Unlock()
	r.recorder = recorder
}

func (r *Replica) report(rep Report) {
	r.observer.Ticked(r.cfg.Scope.Shard, rep)
	r.status.ticked(rep)
	applied := rep.Result.Applied
	for _, p := range applied.Problems {
		r.log.Debug("malformed row", "problem", p.Text)
	}
	r.warnLocked(rep.Result.Locked)
	if !applied.Empty() || len(rep.Result.Conflicts)+len(rep.Result.Contended) > 0 {
		r.log.Debug("tick", "assigned", len(applied.Assignments), "released", len(applied.Releases), "leased", len(applied.Leases),
			"waiting", len(applied.Waiting), "changed by others", len(rep.Result.Conflicts), "held by other transactions", len(rep.Result.Contended), "took", rep.Total)
	}
}

// lockedListed bounds how many locked rows the log names.
const lockedListed = 10

func (r *Replica) warnLocked(rows []store.LockedRow) {
	if len(rows) == 0 {
		return
	}
	r.locked.Warn("another client keeps rows locked; what needs them waits, see who it is with SHOW ENGINE INNODB STATUS and SHOW PROCESSLIST",
		"locked", len(rows), "rows", fmt.Sprint(rows[:min(len(rows), lockedListed)]))
}

func (r *Replica) phase(p Phase) {
	r.status.set(func(s *Status) { s.Phase, s.PhaseSince = p, time.Now() })
}

// warnIfSlow says in the log that a takeover or a phase of a tick hangs, unless it is stopped
// in time.
func (r *Replica) warnIfSlow(limit time.Duration) (stop func() bool) {
	return time.AfterFunc(limit, func() {
		if slow := r.Slow(time.Now()); slow != "" {
			r.faults.Warn("the work of a leader hangs", "reason", slow)
		}
	}).Stop
}
