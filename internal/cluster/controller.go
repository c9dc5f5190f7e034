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
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// Config says who this replica is, and how patient.
type Config struct {
	// Server is the server's name; Version is shown to the others.
	Server, Version string
	// Weight is this server's share of shards compared with others.
	Weight int
	// HoldOff is how long a server must have been there before shards are handed
	// over to it.
	HoldOff time.Duration
	// Only, if set, is the one shard to serve: the database is all its own, as
	// Autotest has it. Otherwise every shard is served.
	Only shard.Name
	// Replica is how each shard is served; its scope gets the shard.
	Replica replica.Config
	// Found, if set, is told of every shard that is there.
	Found func(shard.Name)
}

// How often the controller looks, and how patient it is.
const (
	// pollInterval is how often the database is asked for shards and roles. A
	// role that was taken away must end in a hand-over within half a second.
	pollInterval = 150 * time.Millisecond
	// lookInterval is how often the controller looks again when nothing happened.
	lookInterval = 250 * time.Millisecond
	// orphanAfter is how long a shard is without any candidate until everybody
	// who may campaigns for it, whatever placement says.
	orphanAfter = 3 * time.Second
	// avoidFor is how long a server comes last for a shard it failed to lead.
	avoidFor    = 10 * time.Second
	pollTimeout = 5 * time.Second
)

// Databases are where things are.
type Databases struct {
	// Main has the shards and what they share.
	Main *store.DB
	// Servers has the servers table; nil if there is none.
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

// ErrShutdown is the cause of terms that end because their process does.
var ErrShutdown = fmt.Errorf("%w: shut down", replica.ErrHandOver)

// Controller is one replica process in a cluster.
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

	// Of the loop's goroutine only.
	view       election.View
	seen       bool
	arrivals   map[int64]time.Time // lease -> first seen
	orphans    map[shard.Name]time.Time
	wasRefused string

	mu       sync.Mutex
	runners  map[shard.Name]*shardRunner
	role     string
	why      string
	failures map[shard.Name]failure
}

type failure struct {
	until  time.Time
	reason string
}

// poll is what the database says.
type poll struct {
	shards    map[shard.Name]string
	role, why string
}

// New returns a controller that does nothing until Run.
func New(cfg Config, elected Election, db Databases, observer replica.Observer, log hclog.Logger) *Controller {
	c := &Controller{
		cfg: cfg, election: elected, db: db, observer: observer, log: log,
		views: make(chan election.View, 1), polls: make(chan poll, 1), wake: make(chan struct{}, 1),
		arrivals: map[int64]time.Time{}, orphans: map[shard.Name]time.Time{},
		runners: map[shard.Name]*shardRunner{}, failures: map[shard.Name]failure{}, role: election.RoleNone, why: "starting",
	}
	c.membership = elected.Join(election.Presence{Role: election.RoleNone, Why: "starting", Version: cfg.Version, Weight: cfg.Weight}, c.watched)
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

// watched takes a new view; one that nobody has looked at yet is dropped.
func (c *Controller) watched(v election.View) {
	select {
	case <-c.views:
	default:
	}
	c.views <- v
}

// Run campaigns and leads until ctx ends. It returns when all shards are handed
// over.
func (c *Controller) Run(ctx context.Context) {
	joined, leave := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() { c.membership.Run(joined) })
	polling, endPolling := context.WithCancel(ctx)
	background.Go(func() { c.pollDatabase(polling) })
	c.loop(ctx)
	endPolling()
	c.setRole(election.RoleNone, "shutting down")
	c.stopAll(ErrShutdown)
	leave()
	background.Wait()
}

func (c *Controller) loop(ctx context.Context) {
	again := time.NewTicker(lookInterval)
	defer again.Stop()
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
		}
		c.decide(ctx)
	}
}

// saw takes over a view of etcd.
func (c *Controller) saw(v election.View) {
	c.view, c.seen = v, true
	arrivals := make(map[int64]time.Time, len(v.Servers))
	for _, a := range v.Servers {
		at, known := c.arrivals[a.Lease]
		if !known {
			at = time.Now()
		}
		arrivals[a.Lease] = at
	}
	c.arrivals = arrivals
	if !slices.ContainsFunc(v.Servers, func(a election.Member) bool { return a.Server == c.cfg.Server }) {
		// Another process of this server's name took the key along when it ended.
		c.announce()
	}
}

// polled takes over what the database says.
func (c *Controller) polled(p poll) {
	c.setRole(p.role, p.why)
	c.mu.Lock()
	var gone []*shardRunner
	for name, s := range c.runners {
		if dsn, there := p.shards[name]; !there || dsn != s.dsn {
			gone = append(gone, s)
			delete(c.runners, name)
		}
	}
	for name, dsn := range p.shards {
		if c.runners[name] == nil {
			c.log.Info("shard found", "shard", name)
			c.found(name)
			c.runners[name] = newShardRunner(c, name, dsn)
		}
	}
	n := len(c.runners)
	c.mu.Unlock()
	c.db.Main.ServeShards(n)
	for _, s := range gone {
		c.log.Info("shard gone", "shard", s.name)
		s.stop(fmt.Errorf("%w: the shard was removed, renamed or got another database", replica.ErrHandOver))
		s.retire()
	}
}

// setRole changes what this replica may do, and tells the others at once.
func (c *Controller) setRole(role, why string) {
	c.mu.Lock()
	changed := c.role != role || c.why != why
	c.role, c.why = role, why
	c.mu.Unlock()
	if !changed {
		return
	}
	c.log.Info("role", "role", role, "why", why)
	c.announce()
}

// announce tells the others what this replica may do and what it avoids.
func (c *Controller) announce() {
	c.mu.Lock()
	role, why := c.role, c.why
	avoids := make(map[shard.Name]string, len(c.failures))
	for name, a := range c.failures {
		avoids[name] = a.reason
	}
	c.mu.Unlock()
	c.membership.Set(func(p *election.Presence) { p.Role, p.Why, p.Avoids = role, why, avoids })
}

// noteFailure notes that this replica failed to lead a shard.
func (c *Controller) noteFailure(name shard.Name, err error) {
	c.mu.Lock()
	c.failures[name] = failure{time.Now().Add(avoidFor), err.Error()}
	c.mu.Unlock()
	c.announce()
	c.look()
}

// look makes the loop look again.
func (c *Controller) look() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// forgetFailures forgets failures that are long past.
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

// decide starts and stops campaigns so that this replica campaigns for what it
// should lead, and nothing else.
func (c *Controller) decide(ctx context.Context) {
	now := time.Now()
	c.forgetFailures(now)
	may, why := c.mayLead()
	runners := c.sorted()
	should := map[shard.Name]string{}
	servers := c.servers(now)
	if c.seen {
		should = shard.Place(servers, c.leaderships(runners))
	}
	for _, s := range runners {
		heir := may && c.seen && shard.Heir(servers, c.leadership(s.name)) == c.cfg.Server
		mine := should[s.name] == c.cfg.Server || c.orphaned(s.name, now)
		switch {
		case !may:
			s.stop(fmt.Errorf("%w: %s", replica.ErrHandOver, why))
		case mine:
			s.start(ctx)
		case s.leading():
			if c.queued(s.name, should[s.name]) {
				s.stop(fmt.Errorf("%w to %s", replica.ErrHandOver, should[s.name]))
			}
		default:
			s.stop(fmt.Errorf("%w: %s should lead", replica.ErrHandOver, should[s.name]))
		}
		s.standBy(ctx, heir)
	}
}

// mayLead tells whether this replica may lead anything, and if not, why.
func (c *Controller) mayLead() (bool, string) {
	c.mu.Lock()
	role, why := c.role, c.why
	c.mu.Unlock()
	refused := ""
	if err := c.view.CheckFormat(); err != nil {
		role, why, refused = election.RoleNone, err.Error(), err.Error()
	}
	if refused != c.wasRefused && refused != "" {
		c.log.Error("not leading", "reason", refused)
	}
	c.wasRefused = refused
	return role != election.RoleNone, why
}

// servers are those that are there and may lead.
func (c *Controller) servers(now time.Time) []shard.Server {
	var out []shard.Server
	for _, a := range c.view.Servers {
		tier := shard.Primary
		switch a.Role {
		case election.RolePrimary:
		case election.RoleBackup:
			tier = shard.Backup
		default:
			continue
		}
		s := shard.Server{
			Name: a.Server, Tier: tier, Weight: a.Weight, Avoids: make(map[shard.Name]bool, len(a.Avoids)),
			Established: now.Sub(c.arrivals[a.Lease]) >= c.cfg.HoldOff,
		}
		for name := range a.Avoids {
			s.Avoids[name] = true
		}
		out = append(out, s)
	}
	return out
}

func (c *Controller) leaderships(runners []*shardRunner) []shard.Leadership {
	out := make([]shard.Leadership, 0, len(runners))
	for _, s := range runners {
		out = append(out, c.leadership(s.name))
	}
	return out
}

func (c *Controller) leadership(name shard.Name) shard.Leadership {
	elected := c.view.Shards[name]
	return shard.Leadership{Shard: name, Holder: elected.Holder(), Wanted: elected.Wanted}
}

// orphaned tells whether nobody has campaigned for a shard for so long that
// placement must be mistaken about somebody.
func (c *Controller) orphaned(name shard.Name, now time.Time) bool {
	if !c.seen || c.view.Shards[name].Holder() != "" {
		delete(c.orphans, name)
		return false
	}
	if c.orphans[name].IsZero() {
		c.orphans[name] = now
	}
	return now.Sub(c.orphans[name]) > orphanAfter
}

// queued tells whether a server stands next in the queue behind this one.
func (c *Controller) queued(name shard.Name, server string) bool {
	candidates := c.view.Shards[name].Candidates
	return len(candidates) > 1 && candidates[0].Server == c.cfg.Server && candidates[1].Server == server
}

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

// stopAll hands everything over, all shards at once.
func (c *Controller) stopAll(cause error) {
	var stopping sync.WaitGroup
	for _, s := range c.sorted() {
		s.stop(cause)
		stopping.Go(s.retire)
	}
	stopping.Wait()
}

// pollDatabase asks for shards and roles until ctx ends. What the database said
// last stays true while it does not answer.
func (c *Controller) pollDatabase(ctx context.Context) {
	again := time.NewTicker(pollInterval)
	defer again.Stop()
	failing := false
	for {
		p, err := c.askDatabase(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			select {
			case c.polls <- p:
			case <-ctx.Done():
				return
			}
		case !failing:
			c.log.Warn("reading shards and roles; going on with what is known", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

func (c *Controller) askDatabase(ctx context.Context) (p poll, err error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	p.shards = map[shard.Name]string{c.cfg.Only: ""}
	if c.cfg.Only == "" {
		if p.shards, err = c.db.Main.ShardDatabases(ctx); err != nil {
			return p, err
		}
	}
	for name := range p.shards {
		if _, err := shard.Parse(name.String()); err != nil {
			c.log.Trace("shard passed over", "error", err)
			delete(p.shards, name)
		}
	}
	var servers []store.Server
	if c.db.Servers != nil {
		if servers, err = c.db.Servers.Servers(ctx); err != nil {
			return p, err
		}
	}
	p.role, p.why = roleOf(servers, c.cfg.Server)
	return p, nil
}

// Status returns the status of every shard, the master first.
func (c *Controller) Status() []replica.Status {
	var out []replica.Status
	for _, s := range c.sorted() {
		out = append(out, s.status())
	}
	return out
}

// Role says what this replica may do: primary, backup, or none and why.
func (c *Controller) Role() (role, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.role, c.why
}

// Holdings returns which suite holds which host of a shard; nil if it is not led
// here.
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
