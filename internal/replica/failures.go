package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// failed notes a failure that a replica on another server may not have.
func (r *Replica) failed(err error) {
	r.backoff.failed(err)
	if r.cfg.ReportFailure != nil {
		r.cfg.ReportFailure(err)
	}
}

// fenced counts a write of this term that the database refused.
func (r *Replica) fenced(err error) error {
	r.observer.Failed(r.cfg.Scope.Shard, err)
	r.status.set(func(s *Status) { s.FencedWrites++ })
	r.backoff.failed(err)
	return err
}

// wentBack pauses the shard, because the database has lost what its leader committed:
// hosts may be at work for jobs that the database takes for waiting. It tries until it
// succeeds or ctx ends, because a leader that does not know would give these hosts away.
// Whoever has no right to pause the shard has none to lead it either, and gives up. The epoch
// of the fence then is above the last one that is known, so that the loss is found once.
func (r *Replica) wentBack(ctx context.Context, given []store.Given, epoch int64, why error) error {
	r.observer.Failed(r.cfg.Scope.Shard, why)
	r.status.set(func(s *Status) { s.Errors++; s.LastError = why.Error() })
	for {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), snapshotTimeout)
		lost, err := r.db.Lost(bound, given)
		if err == nil {
			err = admin.New(r.db).PauseAfterLoss(bound, r.cfg.Scope.Shard, epoch+1, r.cfg.Holder, why, lost)
		}
		cancel()
		switch {
		case err == nil:
			r.log.Error("the database lost commits; the shard is paused until somebody resumes it", "reason", why, "lost assignments", len(lost))
			return why
		case errors.Is(err, admin.ErrUnrecorded):
			r.log.Error("the database lost commits; the shard is paused until somebody resumes it, and what was lost is only in this line", "reason", why, "lost assignments", len(lost),
				"assignments", fmt.Sprintf("%+v", lost), "error", err)
			return errors.Join(why, err)
		case errors.Is(err, sqldb.ErrPrivilege):
			return errors.Join(why, err)
		}
		r.faults.Error("cannot pause a shard whose database lost commits; trying again", "reason", why, "error", err)
		if ctx.Err() != nil {
			return errors.Join(why, err)
		}
		sleep(ctx, maxPause)
	}
}

// recover prepares the next tick after one that failed, and began at a time. It asks the database whether
// the term is over, because a successor may have ended the connection, and
// reconciles the recorder with that part of the plan which was applied.
func (r *Replica) recover(ctx, reading context.Context, t *term, began time.Time, err error, failures int) error {
	t.emptyPlan = nil
	r.observer.Failed(r.cfg.Scope.Shard, err)
	r.faults.Error("tick failed", "error", err, "in a row", failures)
	r.status.set(func(s *Status) {
		s.Errors++
		s.LastError = err.Error()
		if s.FailingSince.IsZero() {
			s.FailingSince = began
		}
	})
	if failures >= maxFailures {
		r.failed(err)
		return fmt.Errorf("stepping down after %d failed ticks in a row: %w", failures, err)
	}
	r.phase(PhaseSnapshot)
	defer r.phase(PhaseIdle)
	defer r.warnIfSlow(slowSnapshot)()
	switch verr := r.verify(ctx, t.leader); {
	case errors.Is(verr, store.ErrFenced):
		return r.fenced(verr)
	case errors.Is(verr, store.ErrWentBack):
		return r.wentBack(ctx, t.leader.Given(), t.leader.Fence().Epoch, verr)
	}
	bound, cancel := context.WithTimeout(reading, snapshotTimeout)
	defer cancel()
	rebuilt, rerr := r.db.Recorder(bound, r.cfg.Scope)
	if reading.Err() != nil {
		return rerr // nobody needs it any more
	}
	if rerr != nil {
		r.failed(rerr)
		return fmt.Errorf("stepping down: %w", errors.Join(err, rerr))
	}
	r.recorderMu.Lock()
	defer r.recorderMu.Unlock()
	t.recorder.Reconcile(rebuilt)
	return nil
}

// verify asks whether the term is over in the database, also if it is over in etcd: a leader
// that stood still wants to know whether it was fenced. It does not wait for long, because
// whoever waits cannot campaign.
func (r *Replica) verify(ctx context.Context, leader *store.Leader) error {
	ctx, cancel := context.WithTimeout(ctx, resignTimeout)
	defer cancel()
	return leader.Verify(ctx)
}
