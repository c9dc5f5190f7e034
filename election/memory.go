package election

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/hostsched/hostsched/shard"
)

// Memory is an etcd within one process, as far as hostsched needs one: keys that
// belong to leases, and a revision that rises with every change. Leases do not
// expire by themselves, because tests decide when one does.
type Memory struct {
	mu       sync.Mutex
	revision int64
	leases   map[int64]*memoryLease
	keys     map[string]*mvccpb.KeyValue
	// replicas counts the replicas, which gives each a name of its own.
	replicas atomic.Int64
	// changed is closed and replaced whenever a key changes.
	changed chan struct{}
}

// memoryCluster is the name of the only cluster that a Memory holds.
const memoryCluster = "memory"

// errFrozen is what a frozen replica gets where one on etcd would run into a
// timeout.
var errFrozen = errors.New("the replica is frozen")

// memoryLease holds the keys of one campaign or membership.
type memoryLease struct {
	id    int64
	owner *MemoryReplica
	// lost is closed when the owner learns that the lease is gone, which it does
	// not while it is frozen.
	lost chan struct{}
}

// NewMemory returns a Memory without any keys.
func NewMemory() *Memory {
	return &Memory{leases: map[int64]*memoryLease{}, keys: map[string]*mvccpb.KeyValue{}, changed: make(chan struct{})}
}

// Replica returns a replica of a server. Several replicas may have one server
// name, as a restarted process and its predecessor have.
func (m *Memory) Replica(server string) *MemoryReplica {
	thawed := make(chan struct{})
	close(thawed)
	holder := fmt.Sprintf("%s/%d", server, m.replicas.Add(1))
	return &MemoryReplica{m: m, server: server, holder: holder, thawed: thawed}
}

// View returns what the keys say at this moment.
func (m *Memory) View() View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view()
}

func (m *Memory) view() View { return viewOf(memoryCluster, m.keys) }

// Want is what the function Want is on etcd.
func (m *Memory) Want(name shard.Name, server string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.touch()
	key := wantedKey(memoryCluster, name)
	if server == AnyServer {
		delete(m.keys, key)
		return nil
	}
	member := m.keys[ServersPrefix(memoryCluster)+server]
	if member == nil {
		return notThere(memoryCluster, server)
	}
	m.set(key, server, member.Lease)
	return nil
}

// Revoke revokes the lease of a shard's leader.
func (m *Memory) Revoke(name shard.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if leader, ok := m.oldest(name); ok {
		m.drop(leader.Lease)
	}
}

// RevokeMember revokes the lease of a server's key.
func (m *Memory) RevokeMember(server string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key := m.keys[ServersPrefix(memoryCluster)+server]; key != nil {
		m.drop(key.Lease)
	}
}

// touch wakes everybody who waits for a change; m.mu is held.
func (m *Memory) touch() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// set writes a key; m.mu is held. As in etcd, a key that exists keeps the revision
// with which it was created, and moves to the new lease.
func (m *Memory) set(key, value string, lease int64) {
	m.revision++
	created := m.revision
	if old := m.keys[key]; old != nil {
		created = old.CreateRevision
	}
	m.keys[key] = &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: created, Lease: lease}
	m.touch()
}

// drop ends a lease and deletes its keys; m.mu is held.
func (m *Memory) drop(id int64) {
	lease := m.leases[id]
	if lease == nil {
		return
	}
	delete(m.leases, id)
	for key, kv := range m.keys {
		if kv.Lease == id {
			delete(m.keys, key)
		}
	}
	m.revision++
	if lease.owner.frozen() {
		lease.owner.unaware = append(lease.owner.unaware, lease)
	} else {
		close(lease.lost)
	}
	m.touch()
}

// oldest returns the candidate that leads a shard; m.mu is held.
func (m *Memory) oldest(name shard.Name) (Candidate, bool) {
	kvs := map[string]*mvccpb.KeyValue{}
	for key, kv := range m.keys {
		if strings.HasPrefix(key, LeaderPrefix(memoryCluster, name)) {
			kvs[key] = kv
		}
	}
	return first(kvs)
}

// Put writes a key of the shard's candidates without lease, as a person does with
// etcdctl.
func (m *Memory) Put(name shard.Name, key, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(LeaderPrefix(memoryCluster, name)+key, value, 0)
}

// MemoryReplica is one replica's access to a Memory.
type MemoryReplica struct {
	m      *Memory
	server string
	holder string

	// thawed is closed unless the replica is frozen. unaware are the leases that
	// it lost meanwhile. Both are guarded by m.mu.
	thawed  chan struct{}
	unaware []*memoryLease
}

// Freeze stops the replica as SIGSTOP stops a process, as far as the election
// goes: nothing that it does has any effect and it learns of nothing, so its terms
// do not end either. Its leases stay until Expire.
func (r *MemoryReplica) Freeze() {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if !r.frozen() {
		r.thawed = make(chan struct{})
	}
}

// Thaw ends a Freeze: the replica learns which of its leases are gone.
func (r *MemoryReplica) Thaw() {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if !r.frozen() {
		return
	}
	for _, lease := range r.unaware {
		close(lease.lost)
	}
	r.unaware = nil
	close(r.thawed)
	r.m.touch()
}

// Expire lets all leases of the replica run out.
func (r *MemoryReplica) Expire() {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	for id, lease := range r.m.leases {
		if lease.owner == r {
			r.m.drop(id)
		}
	}
}

// frozen tells whether the replica is frozen; r.m.mu is held.
func (r *MemoryReplica) frozen() bool {
	select {
	case <-r.thawed:
		return false
	default:
		return true
	}
}

// grant waits until the replica is not frozen and gets a lease.
func (r *MemoryReplica) grant(ctx context.Context) (*memoryLease, error) {
	for {
		r.m.mu.Lock()
		if !r.frozen() {
			defer r.m.mu.Unlock()
			r.m.revision++
			lease := &memoryLease{id: r.m.revision, owner: r, lost: make(chan struct{})}
			r.m.leases[lease.id] = lease
			return lease, nil
		}
		thawed := r.thawed
		r.m.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-thawed:
		}
	}
}

// put writes a key under a lease.
func (r *MemoryReplica) put(key, value string, lease *memoryLease) error {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	switch {
	case r.frozen():
		return errFrozen
	case r.m.leases[lease.id] == nil:
		return ErrLeaseLost
	}
	r.m.set(key, value, lease.id)
	return nil
}

// revoke gives a lease back. What a frozen replica cannot give back stays until
// Expire.
func (r *MemoryReplica) revoke(lease *memoryLease) error {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if r.frozen() {
		return errFrozen
	}
	r.m.drop(lease.id)
	return nil
}

// Campaign implements Campaigner.
func (r *MemoryReplica) Campaign(ctx context.Context, name shard.Name) (*Term, error) {
	lease, err := r.grant(ctx)
	if err != nil {
		return nil, fmt.Errorf("campaign for shard %s: %w", name, err)
	}
	term, err := r.win(ctx, name, lease)
	if err != nil {
		// A lease that cannot be given back expires.
		_ = r.revoke(lease)
		return nil, fmt.Errorf("campaign for shard %s: %w", name, err)
	}
	return term, nil
}

// win waits until the replica's key is the oldest of the shard.
func (r *MemoryReplica) win(ctx context.Context, name shard.Name, lease *memoryLease) (*Term, error) {
	key := fmt.Sprintf("%s%x", LeaderPrefix(memoryCluster, name), lease.id)
	record := newRecord(r.server, r.holder, "", name)
	if err := r.proclaim(key, record, lease); err != nil {
		return nil, err
	}
	for {
		token, changed := r.leads(key, name)
		if token != 0 {
			record = newRecord(r.server, r.holder, "", name)
			record.State, record.Token = StateLeader, token
			return r.begin(key, record, lease)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-lease.lost:
			return nil, ErrLeaseLost
		case <-changed:
		}
	}
}

// leads returns the token if the key is the oldest of the shard, else 0 and what
// to wait for.
func (r *MemoryReplica) leads(key string, name shard.Name) (token int64, changed <-chan struct{}) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if r.frozen() {
		return 0, r.thawed
	}
	if leader, _ := r.m.oldest(name); leader.Key == key {
		return leader.Revision, nil
	}
	return 0, r.m.changed
}

func (r *MemoryReplica) proclaim(key string, record Record, lease *memoryLease) error {
	value, err := record.text()
	if err != nil {
		return err
	}
	return r.put(key, value, lease)
}

// begin returns the term that was won. It ends with the lease.
func (r *MemoryReplica) begin(key string, record Record, lease *memoryLease) (*Term, error) {
	if err := r.proclaim(key, record, lease); err != nil {
		return nil, err
	}
	var watching sync.WaitGroup
	term := newTerm(record.Shard, r.server, func(context.Context) error {
		watching.Wait() // the term is over when this is called
		return r.revoke(lease)
	})
	term.Token, term.Cluster = record.Token, memoryCluster
	term.announce = func(_ context.Context, a Announcement) error {
		record.Paused, record.Epoch = a.Paused, a.Epoch
		return r.proclaim(key, record, lease)
	}
	watching.Go(func() {
		select {
		case <-lease.lost:
			term.end(ErrLeaseLost)
		case <-term.Done():
		}
	})
	return term, nil
}

// Join prepares this replica's membership, as Etcd.Join does.
func (r *MemoryReplica) Join(p Presence, each func(View)) *Membership {
	p.Server, p.Holder = r.server, r.holder
	return newMembership(p, func(ctx context.Context, m *Membership) error { return r.keepMember(ctx, m, each) }, r.revokeAny)
}

// revokeAny ends a lease of any replica. One that is gone already is no error.
func (r *MemoryReplica) revokeAny(_ context.Context, lease int64) error {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if r.frozen() {
		return errFrozen
	}
	r.m.drop(lease)
	return nil
}

func (r *MemoryReplica) keepMember(ctx context.Context, m *Membership, each func(View)) (err error) {
	lease, err := r.grant(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.revoke(lease)) }()
	var watching sync.WaitGroup
	watched, stop := context.WithCancel(ctx)
	defer watching.Wait()
	defer stop()
	watching.Go(func() {
		r.watch(watched, func(v View) {
			if !v.has(r.server) {
				m.again()
			}
			each(v)
		})
	})
	return m.keepPut(ctx, lease.lost, func(value string) error {
		return r.putMember(value, lease)
	})
}

// putMember writes the key of the server, unless it is another replica's.
func (r *MemoryReplica) putMember(value string, lease *memoryLease) error {
	key := ServersPrefix(memoryCluster) + r.server
	r.m.mu.Lock()
	old := r.m.keys[key]
	r.m.mu.Unlock()
	if old != nil && old.Lease != 0 && old.Lease != lease.id {
		return nameTaken(r.server, readPresence(old))
	}
	return r.put(key, value, lease)
}

// watch calls each with the view, first at the beginning and then whenever it
// changes, until ctx ends.
func (r *MemoryReplica) watch(ctx context.Context, each func(View)) {
	for ctx.Err() == nil {
		r.m.mu.Lock()
		frozen, view, next := r.frozen(), r.m.view(), (<-chan struct{})(r.m.changed)
		if frozen {
			next = r.thawed
		}
		r.m.mu.Unlock()
		if !frozen {
			each(view)
		}
		select {
		case <-ctx.Done():
		case <-next:
		}
	}
}
