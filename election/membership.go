package election

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hostsched/hostsched/shard"
)

// Roles of a replica, as far as leading goes.
const (
	RolePrimary = "primary"
	RoleBackup  = "backup"
	// RoleNone may not lead.
	RoleNone = "none"
)

// AvoidFor is how long a replica avoids a shard that it failed to lead.
const AvoidFor = 10 * time.Second

// Presence is what a replica says about itself: the value of its key under
// ServersPrefix, which lives as long as its lease.
type Presence struct {
	Server string `json:"server"`
	// Holder names the process; a restarted one has another name.
	Holder  string `json:"holder,omitempty"`
	Address string `json:"address,omitempty"`
	// Scheme is https if it answers over TLS at its address, and else empty.
	Scheme  string `json:"scheme,omitempty"`
	Version string `json:"version,omitempty"`
	// Role is primary, backup, or none with the reason in Why.
	Role   string `json:"role"`
	Why    string `json:"why,omitempty"`
	Weight int    `json:"weight,omitempty"`
	// Avoids are the shards that this replica recently failed to lead, with the reason.
	Avoids map[shard.Name]string `json:"avoids,omitempty"`
	// Suspects are the processes, by Holder, that this replica takes for dead.
	Suspects map[string]Suspicion `json:"suspects,omitempty"`
	// CameBack are those that this replica took for dead lately and that came back under
	// another lease, as it suspected them before: their terms ended for that.
	CameBack map[string]Suspicion `json:"came_back,omitempty"`
	// Needless is how often this process lost its leases lately although it lived.
	Needless int `json:"needless,omitempty"`
	// Database says why this replica cannot reach the database, empty if it can.
	Database string `json:"database,omitempty"`
	// Lost are the shards whose own database this replica cannot reach.
	Lost []shard.Name `json:"lost,omitempty"`
	// DatabaseID tells the main databases of replicas apart; empty as long as it is not known.
	DatabaseID string `json:"database_id,omitempty"`
	// LastWrites are what terms of this process left in the database that ended in an
	// unplanned way, until a successor leads: it compares.
	LastWrites map[shard.Name]LastWrites `json:"last_writes,omitempty"`
	// Only is the one shard to which this replica gives its whole database; empty if it
	// serves all shards.
	Only  shard.Name `json:"only,omitempty"`
	Since string     `json:"since"`
	// Format is the format of this replica's values in etcd; Oldest is the
	// oldest format whose replicas it can work with.
	Format int `json:"format"`
	Oldest int `json:"oldest"`
}

// URL is where the replica answers over HTTP, empty if it does not say where.
func (p Presence) URL() string {
	if p.Address == "" {
		return ""
	}
	return cmp.Or(p.Scheme, "http") + "://" + p.Address
}

// MayLead tells whether this replica's role lets it lead.
func (p Presence) MayLead() bool { return p.Role == RolePrimary || p.Role == RoleBackup }

// LastWrites are the last writes of a term, by writer; see store.LastWrites.
type LastWrites struct {
	Epoch  int64      `json:"epoch"`
	Writes [][]string `json:"writes"`
	// Given are the latest assignments of the term, as far as there is room: entry, job
	// and host.
	Given [][3]int64 `json:"given,omitempty"`
	// Cause is why the term ended.
	Cause string `json:"cause,omitempty"`
}

// Suspicion is what a replica thinks of another one that it cannot hear.
type Suspicion struct {
	Why string `json:"why"`
	// Lease is that of the suspect's key as a member. A process that lives gets
	// another one when it loses it, and then the suspicion is void.
	Lease int64 `json:"lease"`
}

// CheckFormat refuses to take part together with a replica of a version that is
// too new for this one.
func (v View) CheckFormat() error {
	for _, a := range v.Servers {
		if a.Oldest > Format {
			return fmt.Errorf("%w: server %s (version %s) needs format %d, this replica writes %d; upgrade this replica", ErrFormat, a.Server, a.Version, a.Oldest, Format)
		}
	}
	return nil
}

// ErrNotYet is the error of a membership that has not reached etcd yet.
var ErrNotYet = errors.New("etcd has not answered yet")

// ErrNameTaken is the error of a membership whose server name belongs to another
// replica. Whoever has it takes no part until that one ends.
var ErrNameTaken = errors.New("the name of this server is taken")

// nameTaken says who has the name.
func nameTaken(server string, other Presence) error {
	return fmt.Errorf("%w: server %s runs at %q since %s; this replica leads nothing until that one ends (after a crash its key is gone within the TTL); give each replica a name of its own",
		ErrNameTaken, server, other.Address, other.Since)
}

// Membership keeps a replica's key in the cluster and watches the other
// replicas. The same code serves etcd and memory; keepOnce is what differs.
type Membership struct {
	server string
	// keepOnce keeps the key under one lease. It returns nil when ctx ends, and an
	// error when the lease is lost or could not be had.
	keepOnce func(ctx context.Context, m *Membership) error

	// revoke ends a lease of any replica.
	revoke func(ctx context.Context, lease int64) error

	changed chan struct{}

	mu       sync.Mutex
	presence Presence
	err      error
	// changes counts those of the presence, from 1. shown is the latest of them that was
	// written to the key, or could not be; 0 while there is no key. showing is closed, and
	// replaced, when that changes.
	changes, shown uint64
	showing        chan struct{}
}

// ShowFirst bounds how long AwaitShown waits: a leader that is dead, or that failed, holds
// its successor up for as long.
const ShowFirst = 200 * time.Millisecond

func newMembership(p Presence, keepOnce func(context.Context, *Membership) error, revoke func(context.Context, int64) error) *Membership {
	p.Format, p.Oldest = Format, OldestFormat
	return &Membership{server: p.Server, keepOnce: keepOnce, revoke: revoke, presence: p, err: ErrNotYet, changed: make(chan struct{}, 1), changes: 1, showing: make(chan struct{})}
}

// Revoke ends all leases of a process that is dead: its key as a member and its
// keys as leader or candidate disappear, so that others follow at once. The view
// says which leases these are; of a process without any there is nothing to do.
//
// The key of this replica is written before, because a successor begins at once, and what
// the keys say then is what it writes into the history. If that takes long, successors
// need not wait for it.
func (m *Membership) Revoke(ctx context.Context, v View, holder string) error {
	leases := v.Leases(holder)
	if len(leases) > 0 {
		m.AwaitShown(ctx)
	}
	for _, lease := range leases {
		if err := m.revoke(ctx, lease); err != nil {
			// The member's key, whose lease is the last, stays then: as long as it is
			// there, the rest is tried again.
			return fmt.Errorf("revoke lease %x of %s: %w", lease, holder, err)
		}
	}
	return nil
}

// Set changes what this replica says about itself.
func (m *Membership) Set(change func(*Presence)) {
	m.mu.Lock()
	change(&m.presence)
	m.changes++
	m.mu.Unlock()
	m.again()
}

// AwaitShown waits until the key says what was set before, at most for ShowFirst. Whoever
// ends a lease then is not followed by somebody who cannot know why. It does not wait for a
// key that cannot be written, because that is tried again later than it would wait.
func (m *Membership) AwaitShown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ShowFirst)
	defer cancel()
	m.mu.Lock()
	set := m.changes
	m.mu.Unlock()
	for {
		m.mu.Lock()
		shown, showing := m.shown, m.showing
		m.mu.Unlock()
		if shown >= set {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-showing:
		}
	}
}

// show notes up to which change the key was written, 0 if there is no key.
func (m *Membership) show(change uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shown = change
	close(m.showing)
	m.showing = make(chan struct{})
}

// again makes the membership write its key.
func (m *Membership) again() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Run keeps the key until ctx ends and then deletes it. When the lease is lost,
// Run gets another one.
func (m *Membership) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.keepOnce(ctx, m); err != nil {
			m.note(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

func (m *Membership) note(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = nil
	if err != nil {
		m.err = fmt.Errorf("keep the key of server %s in etcd: %w", m.server, err)
	}
}

// Err is nil while the other replicas can see this one, else it says why they
// cannot.
func (m *Membership) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// value is the value of the key, and up to which change of the presence. Since is the time
// at which it is first asked for.
func (m *Membership) value() (value string, change uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.presence.Since == "" {
		m.presence.Since = time.Now().UTC().Format(time.RFC3339)
	}
	data, err := json.Marshal(m.presence)
	return string(data), m.changes, err
}

// keepPut writes the key, and again whenever the presence changes, until ctx ends
// or the lease is lost. A write that fails does not give the lease up, with which
// everybody still sees the last value: it is tried again.
func (m *Membership) keepPut(ctx context.Context, lost <-chan struct{}, put func(value string) error) error {
	defer m.show(0)
	for {
		value, change, err := m.value()
		if err != nil {
			return err
		}
		err = put(value)
		if errors.Is(err, ErrLeaseLost) || errors.Is(err, errReconnect) {
			return err
		}
		m.show(change)
		var again <-chan time.Time
		if err != nil {
			again = time.After(putAgain)
		}
		if ctx.Err() == nil {
			m.note(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-lost:
			return ErrLeaseLost
		case <-m.changed:
		case <-again:
		}
	}
}
