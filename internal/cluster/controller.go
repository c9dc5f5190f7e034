package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/peers"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// Config describes this replica and what it serves.
type Config struct {
	// Server is the server's name; Version is shown to the others.
	Server, Version string
	// Weight is this server's share of shards compared with others.
	Weight int
	// HoldOff is how long a server must have been a member of the cluster before
	// shards are handed over to it.
	HoldOff time.Duration
	// Certs are for TLS between replicas; nil without it.
	Certs *certs.Keeper
	// Only, if set, is the one shard to serve. The whole database belongs to it, as
	// in Autotest. If it is empty, every shard is served.
	Only shard.Name
	// Replica says how each shard is served. The controller fills in the scope.
	Replica replica.Config
	// Found, if set, is called for every shard that is served.
	Found func(shard.Name)
	// Gone, if set, is called for every shard that is not served any more, after its
	// last event.
	Gone func(shard.Name)
	// Condemned, if set, is called when another replica is taken for dead, with the
	// reason; Needless when that happened to this one although it lived.
	Condemned func(reason string)
	Needless  func()
}

// scheme is what the others are told, who know that http is meant without one.
func (c Config) scheme() string {
	if c.Certs.Answers() {
		return "https"
	}
	return ""
}

func (c Config) condemned(reason string) {
	if c.Condemned != nil {
		c.Condemned(reason)
	}
}

func (c Config) needless() {
	if c.Needless != nil {
		c.Needless()
	}
}

// The intervals of the controller.
const (
	// pollInterval is how often the database is asked for shards and roles. A
	// role that was taken away must end in a hand-over within half a second.
	pollInterval = 150 * time.Millisecond
	// lookInterval is how often the controller decides again although nothing happened.
	lookInterval = 250 * time.Millisecond
	// orphanAfter is how long a shard is without any candidate until any server that
	// may lead campaigns for it, whatever placement says.
	orphanAfter = 3 * time.Second
	pollTimeout = 5 * time.Second
	// slowRetire is after how long a shard that still finishes its last apply is
	// worth a warning.
	slowRetire = 10 * time.Second
)

// Databases are the databases of a cluster.
type Databases struct {
	// Main has the list of shards, and the tables of all shards without a database
	// of their own.
	Main *store.DB
	// Servers has the servers table; it is nil if there is none.
	Servers *store.DB
	// Open opens the database of a shard that has its own.
	Open func(ctx context.Context, name shard.Name, dsn string) (*store.DB, error)
}

// Election is how a replica campaigns for shards and sees the other replicas; see
// [election.Etcd] and [election.MemoryReplica].
type Election interface {
	election.Campaigner
	Join(p election.Presence, each func(election.View)) *election.Membership
}

const (
	// whyStarting is why a replica has no role until it has asked the database for it.
	whyStarting = "starting"
	// whyStopping is why it has none when it ends.
	whyStopping = "shutting down"
)

// ErrShutdown is the cause of terms that end because their process does.
var ErrShutdown = fmt.Errorf("%w: shut down", replica.ErrHandOver)

// Controller leads the shards that this replica should lead.
type Controller struct {
	cfg      Config
	election Election
	db       Databases
	observer replica.Observer
	log      hclog.Logger

	membership *election.Membership
	views      chan election.View
	polls      chan poll
	wake       chan struct{}
	// identity is the database's, once it is known. Only the goroutine that polls uses it.
	identity string

	// probe tells whether the main database answers.
	probe *probe
	// waker tells the leaders of shards that there is something to do.
	waker *peers.Waker
	// background is what Run waits for besides the loop.
	background sync.WaitGroup

	// Only the goroutine of the loop uses these.
	suspects *suspects
	view     election.View
	seen     bool
	arrivals map[int64]time.Time // lease -> first seen
	orphans  map[shard.Name]time.Time
	// databaseError is why the main database did not answer when it was asked last.
	databaseError string
	database      string
	// misconfigured is why the configuration does not fit the database, empty if it does.
	misconfigured string
	leaderless    map[shard.Name]time.Time // since when nobody leads it
	faults        *recurring.Log

	mu       sync.Mutex
	runners  map[shard.Name]*shardRunner
	role     string
	why      string
	refused  string // why this replica must not take part, whatever its role is
	failures map[shard.Name]failure
	unserved []admin.Unserved
	// notLeading is why this replica does not lead, by shard.
	notLeading map[shard.Name]replica.NotLeading
	// told is whom this replica takes for dead, and why, and cameBack whom it did lately;
	// needless is how often it lost its leases lately although it lived.
	told, cameBack map[string]election.Suspicion
	needless       int
	// lost are the shards whose own database this replica does not reach.
	lost []shard.Name
	// lastWrites are what terms of this process left in the database.
	lastWrites map[shard.Name]election.LastWrites
	// unheard are the servers whose heartbeats this replica does not hear.
	unheard map[string]unheardPeer
	// members are the servers of the view, elected is what it says of shards, and leaders are
	// the URLs of those who lead. sawView is closed, and replaced, with each view.
	members []election.Member
	elected map[shard.Name]election.ShardElection
	leaders map[shard.Name]string
	sawView chan struct{}

	// retiring are the replicas of shards that are not served any more.
	retiring sync.WaitGroup
}

// failure is why this replica avoids a shard, and for how long.
type failure struct {
	until  time.Time
	reason string
}

// New returns a controller that does nothing until Run.
func New(cfg Config, elected Election, db Databases, observer replica.Observer, log hclog.Logger) *Controller {
	c := &Controller{
		cfg: cfg, election: elected, db: db, observer: observer, log: log,
		views: make(chan election.View, 1), polls: make(chan poll, 1), wake: make(chan struct{}, 1),
		arrivals: map[int64]time.Time{}, orphans: map[shard.Name]time.Time{},
		runners: map[shard.Name]*shardRunner{}, failures: map[shard.Name]failure{}, role: election.RoleNone, why: whyStarting,
		faults: recurring.New(log), sawView: make(chan struct{}),
	}
	c.suspects = newSuspects(cfg.Certs, c.look)
	c.waker = peers.NewWaker(cfg.Certs, c.cannotWake)
	c.probe = newProbe(db.Main.Ping)
	c.membership = elected.Join(election.Presence{Role: election.RoleNone, Why: whyStarting, Version: cfg.Version, Weight: cfg.Weight, Only: cfg.Only, Scheme: cfg.scheme()}, c.watched)
	first := cfg.Only
	if first == "" {
		first = shard.Master
	}
	c.runners[first] = newShardRunner(c, first, "")
	c.found(first)
	return c
}

func (c *Controller) found(name shard.Name) {
	if c.cfg.Found != nil {
		c.cfg.Found(name)
	}
}

// retire waits for the last apply of a shard, and forgets the shard unless it is served
// again by then.
func (c *Controller) retire(s *shardRunner) {
	s.retire()
	c.mu.Lock()
	_, again := c.runners[s.name]
	c.mu.Unlock()
	if c.cfg.Gone != nil && !again {
		c.cfg.Gone(s.name)
	}
}

// watched passes a new view to the loop, instead of one that the loop has not read
// yet.
func (c *Controller) watched(v election.View) {
	select {
	case <-c.views:
	default:
	}
	c.views <- v
}

// Run campaigns and leads until ctx ends. It returns when all shards are handed
// over and nothing runs any more.
func (c *Controller) Run(ctx context.Context) {
	joined, leave := context.WithCancel(context.WithoutCancel(ctx))
	c.background.Go(func() { c.membership.Run(joined) })
	polling, endPolling := context.WithCancel(ctx)
	c.background.Go(func() { c.pollDatabase(polling) })
	c.background.Go(func() { c.probe.run(polling) })
	c.background.Go(func() { c.watchClock(polling) })
	c.loop(ctx)
	endPolling()
	c.setRole(election.RoleNone, whyStopping)
	c.stopAll(ErrShutdown)
	leave()
	c.background.Wait()
	c.suspects.watcher.Close()
	c.waker.Close()
}

func (c *Controller) loop(ctx context.Context) {
	again, suspect := time.NewTicker(lookInterval), time.NewTicker(suspectInterval)
	defer again.Stop()
	defer suspect.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-c.views:
			c.saw(v)
		case p := <-c.polls:
			c.polled(p)
		case <-c.wake:
		case <-again.C:
		case <-suspect.C:
			c.suspect(ctx, time.Now())
			continue
		}
		c.suspect(ctx, time.Now())
		c.decide(ctx)
	}
}

// setRole changes whether this replica may lead, and announces that at once.
func (c *Controller) setRole(role, why string) {
	c.mu.Lock()
	changed := c.role != role || c.why != why
	c.role, c.why = role, why
	c.mu.Unlock()
	if !changed {
		return
	}
	c.log.Info("the role of this server changed", "role", role, "why", why)
	c.announce()
}

// announce shows the other replicas whether this one may lead, and which shards it
// avoids.
func (c *Controller) announce() {
	role, why := c.Role()
	c.mu.Lock()
	avoids := make(map[shard.Name]string, len(c.failures))
	for name, a := range c.failures {
		avoids[name] = a.reason
	}
	suspects, cameBack, needless, lost, writes := c.told, c.cameBack, c.needless, c.lost, c.lastWrites
	c.mu.Unlock()
	database := c.probe.lost(time.Now())
	c.membership.Set(func(p *election.Presence) {
		p.Role, p.Why, p.Avoids, p.Suspects, p.CameBack, p.Needless, p.Database, p.Lost, p.LastWrites = role, why, avoids, suspects, cameBack, needless, database, lost, writes
	})
}

// noteFailure makes this replica avoid a shard that it failed to lead. The others are
// told of each reason once, because etcd keeps all that is written to it.
func (c *Controller) noteFailure(name shard.Name, err error) {
	now := failure{time.Now().Add(election.AvoidFor), err.Error()}
	c.mu.Lock()
	before, known := c.failures[name]
	same := known && recurring.Kind(before.reason) == recurring.Kind(now.reason)
	if same {
		now.reason = before.reason
	}
	c.failures[name] = now
	c.mu.Unlock()
	if !same {
		c.announce()
		c.look()
	}
}

// look makes the loop decide again.
func (c *Controller) look() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// forgetFailures ends the time for which shards are avoided.
func (c *Controller) forgetFailures(now time.Time) {
	c.mu.Lock()
	before := len(c.failures)
	maps.DeleteFunc(c.failures, func(_ shard.Name, a failure) bool { return now.After(a.until) })
	changed := len(c.failures) != before
	c.mu.Unlock()
	if changed {
		c.announce()
	}
}

// sorted returns the runners by the name of their shard, the master first.
func (c *Controller) sorted() []*shardRunner {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.runners), func(a, b *shardRunner) int {
		if a.name.IsMaster() != b.name.IsMaster() {
			return map[bool]int{true: -1, false: 1}[a.name.IsMaster()]
		}
		return cmp.Compare(a.name, b.name)
	})
}

// stopAll hands all shards over, at the same time, and waits until that is done.
func (c *Controller) stopAll(cause error) {
	for _, s := range c.sorted() {
		s.stop(cause)
		c.retiring.Go(s.retire)
	}
	c.retiring.Wait()
}

// Status returns the status of every shard, the master first.
func (c *Controller) Status() []replica.Status {
	var out []replica.Status
	for _, s := range c.sorted() {
		out = append(out, s.status())
	}
	return out
}

// Role returns the role of this replica: primary, backup, or none and why.
func (c *Controller) Role() (role, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused != "" {
		return election.RoleNone, c.refused
	}
	return c.role, c.why
}

// Holdings returns which suite holds which host of a shard. It is nil if this
// replica does not lead the shard.
func (c *Controller) Holdings(name shard.Name) map[scheduler.HostID]scheduler.JobID {
	c.mu.Lock()
	s := c.runners[name]
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.holdings()
}

// avoided says why this replica avoids a shard, empty if it does not.
func (c *Controller) avoided(name shard.Name) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failures[name].reason
}
