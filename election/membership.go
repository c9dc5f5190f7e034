package election

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/hostsched/hostsched/shard"
)

// Roles of a replica, as far as leading goes.
const (
	RolePrimary = "primary"
	RoleBackup  = "backup"
	// RoleNone may not lead.
	RoleNone = "none"
)

// Presence is what a replica says of itself: the value of its key under
// ServersPrefix, which lives as long as its lease.
type Presence struct {
	Server  string `json:"server"`
	Address string `json:"address,omitempty"`
	Version string `json:"version,omitempty"`
	// Role is primary, backup, or none with the reason in Why.
	Role   string `json:"role"`
	Why    string `json:"why,omitempty"`
	Weight int    `json:"weight,omitempty"`
	// Avoids are shards this replica lately failed to lead, with the reason.
	Avoids map[shard.Name]string `json:"avoids,omitempty"`
	Since  string                `json:"since"`
	// Format is the format of this replica's values in etcd; Oldest is the
	// oldest format whose replicas it can work with.
	Format int `json:"format"`
	Oldest int `json:"oldest"`
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

// Membership keeps a replica's presence in etcd and watches the others.
type Membership struct {
	e    *Etcd
	each func(View)

	mu       sync.Mutex
	presence Presence
	err      error
	changed  chan struct{}
}

// ErrNotYet is the error of a membership that has not reached etcd yet.
var ErrNotYet = errors.New("etcd has not answered yet")

// Join prepares to say that this replica is there. each is called with what
// etcd says about the cluster, at first and whenever that changes, by one
// goroutine.
func (e *Etcd) Join(p Presence, each func(View)) *Membership {
	p.Server, p.Address, p.Format, p.Oldest = e.cfg.Server, e.cfg.Address, Format, OldestFormat
	return &Membership{e: e, each: each, presence: p, err: ErrNotYet, changed: make(chan struct{}, 1)}
}

// Set changes what this replica says of itself.
func (m *Membership) Set(change func(*Presence)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.presence)
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Run keeps the key until ctx ends, then takes it away. When the lease is lost
// it begins anew.
func (m *Membership) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.keepOnce(ctx); err != nil {
			m.note(fmt.Errorf("keep the presence of server %s in etcd: %w", m.e.cfg.Server, err))
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
	m.err = err
}

// Err is nil while the others can see this replica, else why not.
func (m *Membership) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

func (m *Membership) keepOnce(ctx context.Context) (err error) {
	client, err := clientv3.New(m.e.cfg.Client)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	granted, cancel := context.WithTimeout(ctx, m.e.cfg.TTL)
	lease, err := client.Grant(granted, int64(m.e.cfg.TTL.Seconds()))
	cancel()
	if err != nil {
		return err
	}
	// The session must outlive ctx: it is ended by revoking the lease.
	session, err := concurrency.NewSession(client, concurrency.WithLease(lease.ID), concurrency.WithContext(context.WithoutCancel(ctx)))
	if err != nil {
		return err
	}
	defer func() {
		bound, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		session.Orphan()
		_, rerr := client.Revoke(bound, lease.ID)
		err = errors.Join(err, rerr)
	}()
	var watching sync.WaitGroup
	watched, stop := context.WithCancel(ctx)
	defer watching.Wait()
	defer stop()
	watching.Go(func() { watch(watched, client, m.e.cfg.Cluster, m.each) })
	for {
		if err := m.put(ctx, client, lease.ID); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-session.Done():
			return ErrLeaseLost
		case <-m.changed:
		}
	}
}

func (m *Membership) put(ctx context.Context, client *clientv3.Client, lease clientv3.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, m.e.cfg.TTL)
	defer cancel()
	m.mu.Lock()
	if m.presence.Since == "" {
		m.presence.Since = time.Now().UTC().Format(time.RFC3339)
	}
	value, err := json.Marshal(m.presence)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = client.Put(ctx, ServersPrefix(m.e.cfg.Cluster)+m.e.cfg.Server, string(value), clientv3.WithLease(lease))
	if err == nil {
		m.note(nil)
	}
	return err
}
