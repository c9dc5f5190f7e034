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

// Config says who this member is, and how patient.
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

// The member's pace.
const (
	// pollInterval is how often the database is asked for shards and roles. A
	// role that was taken away must end in a hand-over within half a second.
	pollInterval = 150 * time.Millisecond
	// lookInterval is how often the member looks again when nothing happened.
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

// ErrShutdown is the cause of terms that end because their process does.
var ErrShutdown = fmt.Errorf("%w: shut down", replica.ErrHandOver)

// Member is one replica process in a cluster.
type Member struct {
	cfg        Config
	campaigner *election.Etcd
	db         Databases
	observer   replica.Observer
	log        hclog.Logger

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

	mu    sync.Mutex
	runners map[shard.Name]*shardRunner
	role  string
	why   string
	avoid map[shard.Name]avoidance
}

type avoidance struct {
	until  time.Time
	reason string
}

// poll is what the database says.
type poll struct {
	shards    map[shard.Name]string
	role, why string
}

// New returns a member that does nothing until Run.
func New(cfg Config, campaigner *election.Etcd, db Databases, observer replica.Observer, log hclog.Logger) *Member {
	m := &Member{
		cfg: cfg, campaigner: campaigner, db: db, observer: observer, log: log,
		views: make(chan election.View, 1), polls: make(chan poll, 1), wake: make(chan struct{}, 1),
		arrivals: map[int64]time.Time{}, orphans: map[shard.Name]time.Time{},
		runners: map[shard.Name]*shardRunner{}, avoid: map[shard.Name]avoidance{}, role: election.RoleNone, why: "starting",
	}
	m.membership = campaigner.Join(election.Presence{Role: election.RoleNone, Why: "starting", Version: cfg.Version, Weight: cfg.Weight}, m.watched)
	first := cfg.Only
	if first == "" {
		first = shard.Master
	}
	m.runners[first] = newShardRunner(m, first, "")
	m.found(first)
	return m
}

func (m *Member) found(name shard.Name) {
	if m.cfg.Found != nil {
		m.cfg.Found(name)
	}
}

// watched takes a new view; one that nobody has looked at yet is dropped.
func (m *Member) watched(v election.View) {
	select {
	case <-m.views:
	default:
	}
	m.views <- v
}

// Run campaigns and leads until ctx ends. It returns when all shards are handed
// over.
func (m *Member) Run(ctx context.Context) {
	joined, leave := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() { m.membership.Run(joined) })
	polling, endPolling := context.WithCancel(ctx)
	background.Go(func() { m.pollDatabase(polling) })
	m.loop(ctx)
	endPolling()
	m.setRole(election.RoleNone, "shutting down")
	m.stopAll(ErrShutdown)
	leave()
	background.Wait()
}

func (m *Member) loop(ctx context.Context) {
	again := time.NewTicker(lookInterval)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-m.views:
			m.saw(v)
		case p := <-m.polls:
			m.polled(p)
		case <-m.wake:
		case <-again.C:
		}
		m.decide(ctx)
	}
}

// saw takes over a view of etcd.
func (m *Member) saw(v election.View) {
	m.view, m.seen = v, true
	arrivals := make(map[int64]time.Time, len(v.Servers))
	for _, a := range v.Servers {
		at, known := m.arrivals[a.Lease]
		if !known {
			at = time.Now()
		}
		arrivals[a.Lease] = at
	}
	m.arrivals = arrivals
	if !slices.ContainsFunc(v.Servers, func(a election.Member) bool { return a.Server == m.cfg.Server }) {
		// Another process of this server's name took the key along when it ended.
		m.announce()
	}
}

// polled takes over what the database says.
func (m *Member) polled(p poll) {
	m.setRole(p.role, p.why)
	m.mu.Lock()
	var gone []*shardRunner
	for name, s := range m.runners {
		if dsn, there := p.shards[name]; !there || dsn != s.dsn {
			gone = append(gone, s)
			delete(m.runners, name)
		}
	}
	for name, dsn := range p.shards {
		if m.runners[name] == nil {
			m.log.Info("shard found", "shard", name)
			m.found(name)
			m.runners[name] = newShardRunner(m, name, dsn)
		}
	}
	n := len(m.runners)
	m.mu.Unlock()
	m.db.Main.ServeShards(n)
	for _, s := range gone {
		m.log.Info("shard gone", "shard", s.name)
		s.stop(fmt.Errorf("%w: the shard was removed, renamed or got another database", replica.ErrHandOver))
		s.retire()
	}
}

// setRole changes what this replica may do, and tells the others at once.
func (m *Member) setRole(role, why string) {
	m.mu.Lock()
	changed := m.role != role || m.why != why
	m.role, m.why = role, why
	m.mu.Unlock()
	if !changed {
		return
	}
	m.log.Info("role", "role", role, "why", why)
	m.announce()
}

// announce tells the others what this replica may do and what it avoids.
func (m *Member) announce() {
	m.mu.Lock()
	role, why := m.role, m.why
	avoids := make(map[shard.Name]string, len(m.avoid))
	for name, a := range m.avoid {
		avoids[name] = a.reason
	}
	m.mu.Unlock()
	m.membership.Set(func(p *election.Presence) { p.Role, p.Why, p.Avoids = role, why, avoids })
}

// trouble notes that this replica failed to lead a shard.
func (m *Member) trouble(name shard.Name, err error) {
	m.mu.Lock()
	m.avoid[name] = avoidance{time.Now().Add(avoidFor), err.Error()}
	m.mu.Unlock()
	m.announce()
	m.look()
}

// look makes the loop look again.
func (m *Member) look() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// forgive forgets old trouble.
func (m *Member) forgive(now time.Time) {
	m.mu.Lock()
	before := len(m.avoid)
	maps.DeleteFunc(m.avoid, func(_ shard.Name, a avoidance) bool { return now.After(a.until) })
	changed := len(m.avoid) != before
	m.mu.Unlock()
	if changed {
		m.announce()
	}
}

// decide starts and stops campaigns so that this replica campaigns for what it
// should lead, and nothing else.
func (m *Member) decide(ctx context.Context) {
	now := time.Now()
	m.forgive(now)
	may, why := m.mayLead()
	runners := m.sorted()
	should := map[shard.Name]string{}
	servers := m.servers(now)
	if m.seen {
		should = shard.Place(servers, m.leaderships(runners))
	}
	for _, s := range runners {
		heir := may && m.seen && shard.Heir(servers, m.leadership(s.name)) == m.cfg.Server
		mine := should[s.name] == m.cfg.Server || m.orphaned(s.name, now)
		switch {
		case !may:
			s.stop(fmt.Errorf("%w: %s", replica.ErrHandOver, why))
		case mine:
			s.start(ctx)
		case s.leading():
			if m.queued(s.name, should[s.name]) {
				s.stop(fmt.Errorf("%w to %s", replica.ErrHandOver, should[s.name]))
			}
		default:
			s.stop(fmt.Errorf("%w: %s should lead", replica.ErrHandOver, should[s.name]))
		}
		s.standBy(ctx, heir)
	}
}

// mayLead tells whether this replica may lead anything, and if not, why.
func (m *Member) mayLead() (bool, string) {
	m.mu.Lock()
	role, why := m.role, m.why
	m.mu.Unlock()
	refused := ""
	if err := m.view.CheckFormat(); err != nil {
		role, why, refused = election.RoleNone, err.Error(), err.Error()
	}
	if refused != m.wasRefused && refused != "" {
		m.log.Error("not leading", "reason", refused)
	}
	m.wasRefused = refused
	return role != election.RoleNone, why
}

// servers are those that are there and may lead.
func (m *Member) servers(now time.Time) []shard.Server {
	var out []shard.Server
	for _, a := range m.view.Servers {
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
			Settled: now.Sub(m.arrivals[a.Lease]) >= m.cfg.HoldOff,
		}
		for name := range a.Avoids {
			s.Avoids[name] = true
		}
		out = append(out, s)
	}
	return out
}

func (m *Member) leaderships(runners []*shardRunner) []shard.Leadership {
	out := make([]shard.Leadership, 0, len(runners))
	for _, s := range runners {
		out = append(out, m.leadership(s.name))
	}
	return out
}

func (m *Member) leadership(name shard.Name) shard.Leadership {
	c := m.view.Shards[name]
	return shard.Leadership{Shard: name, Holder: c.Holder(), Wanted: c.Wanted}
}

// orphaned tells whether nobody has campaigned for a shard for so long that
// placement must be mistaken about somebody.
func (m *Member) orphaned(name shard.Name, now time.Time) bool {
	if !m.seen || m.view.Shards[name].Holder() != "" {
		delete(m.orphans, name)
		return false
	}
	if m.orphans[name].IsZero() {
		m.orphans[name] = now
	}
	return now.Sub(m.orphans[name]) > orphanAfter
}

// queued tells whether a server stands next in the queue behind this one.
func (m *Member) queued(name shard.Name, server string) bool {
	candidates := m.view.Shards[name].Candidates
	return len(candidates) > 1 && candidates[0].Server == m.cfg.Server && candidates[1].Server == server
}

func (m *Member) sorted() []*shardRunner {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.runners), func(a, b *shardRunner) int {
		if a.name.IsMaster() != b.name.IsMaster() {
			return map[bool]int{true: -1, false: 1}[a.name.IsMaster()]
		}
		return cmp.Compare(a.name, b.name)
	})
}

// stopAll hands everything over, all shards at once.
func (m *Member) stopAll(cause error) {
	var stopping sync.WaitGroup
	for _, s := range m.sorted() {
		s.stop(cause)
		stopping.Go(s.retire)
	}
	stopping.Wait()
}

// pollDatabase asks for shards and roles until ctx ends. What the database said
// last stays true while it does not answer.
func (m *Member) pollDatabase(ctx context.Context) {
	again := time.NewTicker(pollInterval)
	defer again.Stop()
	failing := false
	for {
		p, err := m.askDatabase(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			select {
			case m.polls <- p:
			case <-ctx.Done():
				return
			}
		case !failing:
			m.log.Warn("reading shards and roles; going on with what is known", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

func (m *Member) askDatabase(ctx context.Context) (p poll, err error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	p.shards = map[shard.Name]string{m.cfg.Only: ""}
	if m.cfg.Only == "" {
		if p.shards, err = m.db.Main.ShardDatabases(ctx); err != nil {
			return p, err
		}
	}
	for name := range p.shards {
		if _, err := shard.Parse(name.String()); err != nil {
			m.log.Trace("shard passed over", "error", err)
			delete(p.shards, name)
		}
	}
	var servers []store.Server
	if m.db.Servers != nil {
		if servers, err = m.db.Servers.Servers(ctx); err != nil {
			return p, err
		}
	}
	p.role, p.why = roleOf(servers, m.cfg.Server)
	return p, nil
}

// Status returns the status of every shard, the master first.
func (m *Member) Status() []replica.Status {
	var out []replica.Status
	for _, s := range m.sorted() {
		out = append(out, s.status())
	}
	return out
}

// Role says what this replica may do: primary, backup, or none and why.
func (m *Member) Role() (role, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.role, m.why
}

// Holdings returns which suite holds which host of a shard; nil if it is not led
// here.
func (m *Member) Holdings(name shard.Name) map[scheduler.HostID]scheduler.JobID {
	m.mu.Lock()
	s := m.runners[name]
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.holdings()
}

// avoided says why this replica avoids a shard, empty if it does not.
func (m *Member) avoided(name shard.Name) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.avoid[name].reason
}
