package cluster

import (
	"context"
	"errors"
	"sync"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// shardRunner is this replica's part in one shard: a replica that campaigns or does not.
type shardRunner struct {
	controller *Controller
	name       shard.Name
	dsn        string // the shard's own database, empty if it shares the main one

	mu      sync.Mutex
	replica *replica.Replica
	own     *store.DB
	cancel  context.CancelCauseFunc // nil unless a campaign runs
	stopped bool                    // the running campaign was told to end
	running sync.WaitGroup
}

func newShardRunner(controller *Controller, name shard.Name, dsn string) *shardRunner {
	return &shardRunner{controller: controller, name: name, dsn: dsn}
}

// start campaigns, unless the runner does already, or is just ending a term.
func (s *shardRunner) start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		return
	}
	// The end comes by stop, with its cause, also when the process ends.
	ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.stopped = false
	s.running.Go(func() {
		s.run(ctx)
		s.mu.Lock()
		s.cancel(nil)
		s.cancel = nil
		s.mu.Unlock()
		s.controller.look()
	})
}

func (s *shardRunner) run(ctx context.Context) {
	r, err := s.prepare(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.controller.log.Error("opening the shard's database", "shard", s.name, "error", err)
			s.controller.noteFailure(s.name, err)
		}
		return
	}
	r.Run(ctx)
}

// prepare opens the shard's database and makes its replica, the first time.
func (s *shardRunner) prepare(ctx context.Context) (*replica.Replica, error) {
	s.mu.Lock()
	r := s.replica
	s.mu.Unlock()
	if r != nil {
		return r, nil
	}
	cfg := s.controller.cfg.Replica
	cfg.Scope.Shard = s.name
	cfg.Scope.Shared = s.controller.cfg.Only == "" && s.dsn == ""
	cfg.ReportFailure = func(err error) { s.controller.noteFailure(s.name, err) }
	db := s.controller.db.Main
	if s.dsn != "" {
		var err error
		if db, err = s.controller.db.Open(ctx, s.name, s.dsn); err != nil {
			return nil, err
		}
	}
	r = replica.New(cfg, s.controller.election, db, s.controller.observer, s.controller.log)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replica != nil { // standBy was faster
		return s.replica, nil
	}
	s.replica = r
	if s.dsn != "" {
		s.own = db
	}
	return r, nil
}

// standBy prepares this replica for a shard that it is likely to inherit, or
// forgets what it had prepared. It does not wait. A shard's own database is not
// opened for that.
func (s *shardRunner) standBy(ctx context.Context, heir bool) {
	s.mu.Lock()
	r, busy := s.replica, s.cancel != nil
	s.mu.Unlock()
	switch {
	case busy:
	case !heir && r != nil:
		r.Forget()
	case heir && (r != nil || s.dsn == ""):
		s.running.Go(func() {
			if r, err := s.prepare(ctx); err == nil {
				r.StandBy(ctx)
			}
		})
	}
}

// stop ends the campaign or the term: a running apply is finished, then the
// shard is handed over. It does not wait.
func (s *shardRunner) stop(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel == nil || s.stopped {
		return
	}
	s.stopped = true
	s.cancel(cause)
}

// retire waits for the end of what stop ended, and closes the shard's own
// database.
func (s *shardRunner) retire() {
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own == nil {
		return
	}
	if err := s.own.Close(); err != nil {
		s.controller.log.Warn("closing the shard's database", "shard", s.name, "error", err)
	}
	s.own = nil
}

func (s *shardRunner) leading() bool { return s.status().State == replica.StateLeader }

// status is the replica's, or that of a runner that has none yet.
func (s *shardRunner) status() replica.Status {
	s.mu.Lock()
	r := s.replica
	s.mu.Unlock()
	st := replica.Status{Shard: s.name, State: replica.StateCandidate}
	if r != nil {
		st = r.Status()
	}
	if st.State == replica.StateLeader || st.LastError != "" {
		return st
	}
	switch err := s.controller.membership.Err(); {
	case errors.Is(err, election.ErrNotYet):
		st.State = replica.StateStarting
	case err != nil:
		st.LastError = err.Error()
	default:
		st.LastError = s.controller.avoided(s.name)
	}
	return st
}

func (s *shardRunner) holdings() map[scheduler.HostID]scheduler.JobID {
	s.mu.Lock()
	r := s.replica
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.Holdings()
}
