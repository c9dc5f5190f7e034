package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// shardRunner runs the replica of one shard, while the controller wants it to.
type shardRunner struct {
	controller *Controller
	name       shard.Name
	dsn        string // the shard's own database, empty if it shares the main one

	// epoch is the highest one with which any replica was seen to lead the shard.
	epoch atomic.Int64

	mu      sync.Mutex
	replica *replica.Replica
	own     *store.DB
	// probe tells whether the shard's own database answers; nil if there is none.
	probe    *probe
	endProbe context.CancelFunc
	cancel   context.CancelCauseFunc // nil unless a campaign runs
	stopped  bool                    // the running campaign was told to end
	running  sync.WaitGroup
	probes   sync.WaitGroup
}

func newShardRunner(controller *Controller, name shard.Name, dsn string) *shardRunner {
	return &shardRunner{controller: controller, name: name, dsn: dsn}
}

// start begins a campaign, unless one runs already or a term is just ending.
func (s *shardRunner) start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		return
	}
	// The campaign is always ended by stop, also when the process ends, so that the
	// history of terms has the cause.
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
			s.controller.log.Error("cannot open the shard's own database; avoiding the shard", "shard", s.name, "error", err)
			s.controller.noteFailure(s.name, err)
		}
		return
	}
	r.Run(ctx)
}

// prepare returns the replica. When it is called first, it opens the shard's own
// database and makes the replica.
func (s *shardRunner) prepare(ctx context.Context) (*replica.Replica, error) {
	r := s.served()
	if r != nil {
		return r, nil
	}
	db := s.controller.db.Main
	if s.dsn != "" {
		var err error
		if db, err = s.controller.db.Open(ctx, s.name, s.dsn); err != nil {
			return nil, err
		}
	}
	r = replica.New(s.config(), s.controller.election, db, s.controller.observer, s.controller.log)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replica != nil {
		// standBy was faster. It does not open databases, so there is none to close.
		return s.replica, nil
	}
	s.replica = r
	if s.dsn != "" {
		s.own, s.probe = db, newProbe(db.Ping)
		var probing context.Context
		probing, s.endProbe = context.WithCancel(context.WithoutCancel(ctx))
		s.probes.Go(func() { s.probe.run(probing) })
	}
	return r, nil
}

// config is that of the shard's replica.
func (s *shardRunner) config() replica.Config {
	cfg := s.controller.cfg.Replica
	cfg.Scope.Shard = s.name
	cfg.Scope.Shared = s.controller.cfg.Only == "" && s.dsn == ""
	cfg.ReportFailure = func(err error) { s.controller.noteFailure(s.name, err) }
	cfg.Deaths = func() map[string]store.Death { return s.controller.deaths(s.name, s.dsn != "") }
	cfg.Epoch = s.epoch.Load
	cfg.Ended = func(last store.LastWrites) { s.controller.noteLastWrites(s.name, last) }
	cfg.Former = func() []store.LastWrites { return s.controller.formerTerms(s.name) }
	cfg.AwaitShown = s.controller.membership.AwaitShown
	cfg.AwaitSeen = func(ctx context.Context, token int64) { s.controller.awaitWin(ctx, s.name, token) }
	return cfg
}

// standBy reads the lab in advance if this server is the likely successor of the
// shard's leader, and else frees the memory that this took. It does not wait. It
// does not open a shard's own database.
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

// stop ends the campaign or the term. A running apply is finished first, then the
// shard is handed over. stop does not wait for that; retire does.
func (s *shardRunner) stop(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel == nil || s.stopped {
		return
	}
	s.stopped = true
	s.cancel(cause)
}

// retire waits until everything has ended that stop told to end, and closes the
// shard's own database. Each transaction of the last apply has a time limit.
func (s *shardRunner) retire() {
	slow := time.AfterFunc(slowRetire, func() {
		s.controller.log.Warn("a shard that is not served any more still finishes its last apply; see whether its database answers", "shard", s.name)
	})
	s.running.Wait()
	slow.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own == nil {
		return
	}
	s.endProbe()
	s.probes.Wait()
	if err := s.own.Close(); err != nil {
		s.controller.log.Warn("cannot close the shard's own database", "shard", s.name, "error", err)
	}
	s.own = nil
}

// sawEpoch notes with which epoch a replica leads the shard. The first epoch is that of a
// database that was never led, with which counting begins anew.
func (s *shardRunner) sawEpoch(epoch int64) {
	if epoch == 1 || epoch > s.epoch.Load() {
		s.epoch.Store(epoch)
	}
}

// lost says why the shard's database counts as lost, empty if it does not.
func (s *shardRunner) lost(now time.Time) string {
	s.mu.Lock()
	own := s.probe
	s.mu.Unlock()
	if own == nil {
		return s.controller.probe.lost(now)
	}
	return own.lost(now)
}

// slow says what hangs in the shard's replica, empty if nothing does.
func (s *shardRunner) slow(now time.Time) string {
	if r := s.served(); r != nil {
		return r.Slow(now)
	}
	return ""
}

// campaignFails says why the shard's replica cannot campaign, empty if it can or need not.
func (s *shardRunner) campaignFails() string {
	if r := s.served(); r != nil {
		return r.CampaignFails()
	}
	return ""
}

func (s *shardRunner) leading() bool {
	r := s.served()
	return r != nil && r.Leads()
}

// served is the shard's replica, nil if there is none yet.
func (s *shardRunner) served() *replica.Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replica
}

// status returns the status of the replica, or of a candidate if there is no
// replica yet.
func (s *shardRunner) status() replica.Status {
	st := replica.Status{Shard: s.name, State: replica.StateCandidate}
	if r := s.served(); r != nil {
		st = r.Status()
	}
	if st.State == replica.StateLeader {
		return st
	}
	why := s.controller.whyNotLeading(s.name)
	st.NotLeading = &why
	switch {
	case why.Reason == replica.Starting:
		st.State = replica.StateStarting
	case why.Healthy():
		st.LastError = ""
	case st.LastError == "":
		st.LastError = why.Text
	}
	return st
}

func (s *shardRunner) holdings() map[scheduler.HostID]scheduler.JobID {
	if r := s.served(); r != nil {
		return r.Holdings()
	}
	return nil
}
