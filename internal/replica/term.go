package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// term is what a leader carries from one tick to the next.
type term struct {
	leader   *store.Leader
	recorder *scheduler.Recorder
	// emptyPlan is the plan of the last tick if it was empty, else nil. As long as
	// the snapshot stays the same, so does the plan.
	emptyPlan *scheduler.Plan
	// settled is true if all of the last whole plan was written, so that nobody who waits
	// can have a host that is still free.
	settled bool
	// quiet is true if the last tick found nothing new and nothing to do.
	quiet bool
}

// serveTerm wins one term and serves it to its end.
func (r *Replica) serveTerm(ctx context.Context) (err error) {
	r.status.set(func(s *Status) { s.State, s.Token, s.Epoch = StateCandidate, 0, 0 })
	name := r.cfg.Scope.Shard
	// A campaign that waits without an error is over whatever failed before.
	ended := false // guarded by the status
	recovered := time.AfterFunc(recoveredAfter, func() {
		r.status.set(func(s *Status) {
			if !ended {
				s.LastError, s.campaign = "", ""
			}
		})
	})
	won, err := r.campaigner.Campaign(ctx, name)
	recovered.Stop()
	r.status.set(func(s *Status) {
		ended, s.campaign = true, ""
		if err != nil {
			s.campaign = err.Error()
		}
	})
	if err != nil {
		return err
	}
	// Whoever has lost the database cannot finish anything there. The shard does not
	// wait for that: what this replica may still write is fenced.
	defer context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), ErrDatabaseLost) {
			r.handOverNow(won)
		}
	})()
	began := time.Now()
	r.awaitSeen(ctx, won)
	if lost := won.Cause(); lost != nil {
		return r.resign(won, lost, lost)
	}
	// What is seen later may be a successor's epoch.
	led := r.lastEpoch()
	t, err := r.takeOver(ctx, won)
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return r.resign(won, context.Cause(ctx), err)
		case errors.Is(err, store.ErrWentBack):
			return r.resign(won, err, r.wentBack(ctx, r.givenBefore(), led, err))
		}
		r.failed(err)
		return r.resign(won, err, err)
	}
	took := time.Since(began)
	fence := t.leader.Fence()
	// The first epoch is that of a database that was never led and lost nothing.
	if fence.Epoch > 1 && fence.Epoch <= led {
		err := fmt.Errorf("%w: shard %s was led with epoch %d, and now its epoch is %d", store.ErrWentBack, name, led, fence.Epoch)
		return errors.Join(r.resign(won, err, r.wentBack(ctx, r.givenBefore(), led, err)), t.leader.Close())
	}
	r.said()("leading", "token", won.Token, "epoch", fence.Epoch, "takeover", took)
	r.observer.Leading(name, won.Token, took)
	r.status.set(func(s *Status) {
		s.State, s.Token, s.Epoch, s.Since, s.TakeOver = StateLeader, won.Token, fence.Epoch, won.Since, took
		s.Terms++
		s.LastError, s.FailingSince = "", time.Time{}
	})
	r.led = true
	before := r.Status()
	// What a tick reads is of no use after the term, and whoever waits for it cannot campaign.
	reading, stop := context.WithCancel(ctx)
	defer stop()
	following := r.followAfter(won, stop)
	r.announced = election.Announcement{}
	r.keep(t.recorder)
	err = r.lead(ctx, reading, won, t)
	if over := won.Cause(); over != nil {
		r.over(won) // again, for what a last tick that outlasted the term has left
		if !errors.Is(over, election.ErrResigned) {
			err = lostBecause(over, err)
		}
	}
	r.keep(nil)
	last := t.leader.LastWrites()
	r.former = &last
	r.tell(err)
	err = errors.Join(r.endTerm(ctx, won, t.leader, before, err), t.leader.Close())
	following.Wait() // not if this panics: only the end of the term ends it
	r.status.set(func(s *Status) { s.OverSince = time.Time{} })
	return err
}

// lostBecause is how a term ended that was lost, even if it was to be handed over, or if its
// last tick failed, too. That another replica has taken over, or that the database has lost
// commits, says more.
func lostBecause(over, err error) error {
	switch {
	case err == nil || errors.Is(err, over):
		return over
	case errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrWentBack):
		return err
	}
	return fmt.Errorf("%w; then: %w", over, err)
}

// followAfter ends reading, and makes status and metrics say that this replica does not lead
// any more, as soon as the term is over: its last tick may go on writing for as long as the
// database does not answer.
func (r *Replica) followAfter(won *election.Term, stopReading func()) *sync.WaitGroup {
	var following sync.WaitGroup
	following.Go(func() {
		<-won.Done()
		stopReading()
		r.over(won)
	})
	return &following
}

// over says that a term is over. What only a leader knows is nobody's word any more.
func (r *Replica) over(term *election.Term) {
	r.status.set(func(s *Status) {
		s.State, s.LockedRows, s.Waiting, s.Paused, s.FailingSince = StateCandidate, 0, 0, "", time.Time{}
		if s.OverSince.IsZero() {
			s.OverSince = time.Now()
		}
	})
	r.observer.Ended(term.Shard, term.Cause())
}

// tell tells the others what the latest term left in the database and why it ended, unless the
// shard is handed over as planned, for which err is nil.
func (r *Replica) tell(err error) {
	if err == nil {
		return
	}
	r.former.Cause = shard.OneLine(err.Error())
	if !errors.Is(err, store.ErrWentBack) && r.cfg.Ended != nil {
		r.cfg.Ended(*r.former)
	}
}

// formerTerms are the last writes of former terms, as far as they are known.
func (r *Replica) formerTerms() (all []store.LastWrites) {
	if r.cfg.Former != nil {
		all = r.cfg.Former()
	}
	if r.former != nil {
		all = append(all, *r.former)
	}
	return all
}

// givenBefore are the latest assignments of former terms, as far as they are known.
func (r *Replica) givenBefore() (all []store.Given) {
	for _, former := range r.formerTerms() {
		all = append(all, former.Given...)
	}
	return all
}

// lastEpoch is the highest epoch that is known of the shard: seen of any leader, or led.
func (r *Replica) lastEpoch() (led int64) {
	if r.cfg.Epoch != nil {
		led = r.cfg.Epoch()
	}
	for _, former := range r.formerTerms() {
		led = max(led, former.Epoch)
	}
	return led
}

// endTerm hands the shard over and then records in the history how the term ended.
func (r *Replica) endTerm(ctx context.Context, term *election.Term, leader *store.Leader, before Status, err error) error {
	cause := err
	if cause == nil {
		cause = context.Cause(ctx)
	}
	result := r.resign(term, cause, err)
	if err == nil && result != nil { // lost a moment before it was handed over
		cause = result
		r.tell(result)
	}
	now := r.Status()
	end := store.TermEnd{Planned: result == nil, Cause: shard.OneLine(cause.Error()), Ticks: now.Ticks - before.Ticks, Assignments: now.Assignments - before.Assignments}
	r.recordEnd(leader, end)
	return result
}

// recordEnd records in the history how a term ended.
func (r *Replica) recordEnd(leader *store.Leader, end store.TermEnd) {
	bound, cancel := context.WithTimeout(context.Background(), resignTimeout)
	defer cancel()
	if err := leader.EndTerm(bound, end); err != nil {
		// The next leader then records this term as lost.
		r.log.Debug("cannot record how the term ended", "error", err)
	}
}

func (r *Replica) takeOver(ctx context.Context, won *election.Term) (*term, error) {
	r.claim = store.Claim{Shard: won.Shard, Token: won.Token, Cluster: won.Cluster, ClusterName: r.cfg.Cluster, Holder: r.cfg.Holder, Shared: r.cfg.Scope.Shared, Journal: r.cfg.Journal, Former: r.formerTerms(), Deaths: r.deaths()}
	r.phase(PhaseTakeOver)
	defer r.phase(PhaseIdle)
	defer r.warnIfSlow(slowSnapshot)()
	leader, err := r.db.TakeOver(ctx, r.claim)
	if err != nil {
		return nil, err
	}
	recorder, err := r.db.Recorder(ctx, r.cfg.Scope)
	if err != nil {
		r.recordEnd(leader, store.TermEnd{Cause: shard.OneLine(cmp.Or(context.Cause(ctx), err).Error())})
		return nil, errors.Join(err, leader.Close())
	}
	return &term{leader: leader, recorder: recorder}, nil
}

// deaths says why processes died, by name, as far as that is known.
func (r *Replica) deaths() map[string]store.Death {
	if r.cfg.Deaths == nil {
		return nil
	}
	return r.cfg.Deaths()
}

// awaitSeen makes sure that what others said before this term began is known, as far as they
// could say it: a successor writes it into the history once.
func (r *Replica) awaitSeen(ctx context.Context, won *election.Term) {
	if r.cfg.AwaitSeen != nil {
		r.cfg.AwaitSeen(ctx, won.Token)
	}
}

// handOverNow lets others lead, whatever this replica still waits for. They begin at once, so
// what this replica said of its end is shown before.
func (r *Replica) handOverNow(term *election.Term) {
	if r.cfg.AwaitShown != nil {
		r.cfg.AwaitShown(context.Background())
	}
	ctx, cancel := context.WithTimeout(context.Background(), resignTimeout)
	defer cancel()
	if err := term.Resign(ctx); err != nil {
		// The lease then expires by itself.
		r.log.Debug("cannot resign", "error", err)
	}
}

// resign hands the shard over, however the term ended, which reason says. err is nil
// after a planned end.
func (r *Replica) resign(term *election.Term, reason, err error) error {
	r.handOverNow(term)
	r.said()("term over", "token", term.Token, "reason", reason)
	if cause := term.Cause(); err == nil && !errors.Is(cause, election.ErrResigned) {
		err = cause
	}
	return err
}

// lead ticks until the term ends, and reading with it, or ctx does.
func (r *Replica) lead(ctx, reading context.Context, won *election.Term, t *term) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	pruning, end := context.WithCancel(ctx)
	defer end()
	beside.Go(func() { r.keepPruning(pruning) })
	r.wakes.answer() // those of a time when this replica did not lead
	failures := 0
	var p pace
	for n := 1; ; n++ {
		began := time.Now()
		served, err := false, error(nil)
		if r.due(p) > 0 {
			served, err = r.newcomers(reading, t)
		}
		if !served && err == nil {
			err = r.tick(reading, t)
		}
		if err == nil && r.cfg.CheckEvery > 0 && n%r.cfg.CheckEvery == 0 {
			err = r.check(reading, t.recorder)
		}
		switch {
		case errors.Is(err, store.ErrFenced):
			return r.fenced(err)
		case errors.Is(err, store.ErrWentBack):
			return r.wentBack(ctx, t.leader.Given(), t.leader.Fence().Epoch, err)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, context.Canceled) && won.Cause() != nil:
			return won.Cause()
		case errors.Is(err, store.ErrNoShard):
			r.backoff.failed(err)
			return err
		case errors.Is(err, store.ErrLayout):
			// The rest of the plan is made again from the next snapshot, which has the
			// new layout. That is no failure of the tick.
			r.faults.Info("planning again because the layout of the shard changed", "reason", err)
			r.observer.Replanned(r.cfg.Scope.Shard)
		case err == nil:
			failures = 0
			r.steady(won)
			r.announce(ctx, won)
		default:
			failures++
			err := r.recover(ctx, reading, t, began, err, failures)
			switch over := won.Cause(); {
			case ctx.Err() != nil:
			case over != nil && errors.Is(err, context.Canceled):
				return over
			case err != nil:
				return err
			}
		}
		p = p.after(began, served, t)
		if r.rest(ctx, won, p) {
			if ctx.Err() != nil {
				return nil
			}
			return won.Cause()
		}
	}
}
