package election

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hostsched/hostsched/shard"
)

// EtcdConfig says how to reach etcd and as whom to campaign.
type EtcdConfig struct {
	// Etcd is how to reach it.
	Etcd Connection
	// Cluster names the hostsched installation within etcd.
	Cluster string
	// Server names this replica; Address is where its pages are.
	Server, Address string
	// Holder names the process, unlike any other.
	Holder string
	// TTL is how long a leader that stopped responding keeps its lease; whole
	// seconds.
	TTL time.Duration
}

// Etcd holds elections in etcd.
type Etcd struct {
	cfg EtcdConfig
	// endpoints are named in errors.
	endpoints string
	// member is the client of the membership, nil while there is none.
	member atomic.Pointer[clientv3.Client]
	old    leftovers
}

const (
	// cleanupTimeout bounds what is done for a term that is over. A lease that
	// cannot be revoked within it expires by itself.
	cleanupTimeout = 500 * time.Millisecond
	dialTimeout    = 2 * time.Second
	// putAgain is after how long a write that failed is tried again.
	putAgain = 500 * time.Millisecond
)

// NewEtcd returns the election of one replica on etcd. It does not connect: every
// campaign has a client of its own, so that closing the client ends everything that
// belongs to the campaign, even while etcd does not answer.
func NewEtcd(cfg EtcdConfig) (*Etcd, error) {
	if cfg.TTL < time.Second || cfg.TTL%time.Second != 0 {
		return nil, fmt.Errorf("etcd lease TTL is %v; it must be whole seconds, at least 1s", cfg.TTL)
	}
	client, err := cfg.Etcd.Config()
	if err != nil {
		return nil, err
	}
	if len(client.Endpoints) == 0 {
		return nil, errors.New("no etcd endpoints; give at least one, like http://127.0.0.1:2379")
	}
	if cfg.Cluster == "" || strings.Contains(cfg.Cluster, "/") {
		return nil, fmt.Errorf("cluster name %q is empty or has a slash", cfg.Cluster)
	}
	return &Etcd{cfg: cfg, endpoints: strings.Join(client.Endpoints, ", "), old: leftovers{leases: map[string]map[clientv3.LeaseID]bool{}}}, nil
}

// NewClient returns an etcd client as campaigns use it.
func NewClient(cfg clientv3.Config) (*clientv3.Client, error) { return clientv3.New(withDefaults(cfg)) }

func withDefaults(cfg clientv3.Config) clientv3.Config {
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = dialTimeout
	}
	if cfg.Logger == nil {
		// Errors are returned to the caller, so the client does not log them.
		cfg.Logger = zap.NewNop()
	}
	return cfg
}

// LeaderPrefix is where the candidates of a shard keep their keys; the oldest
// key is the leader's.
func LeaderPrefix(cluster string, name shard.Name) string {
	return ShardsPrefix(cluster) + name.String() + "/leader/"
}

// ShardsPrefix is where the shards of a cluster are.
func ShardsPrefix(cluster string) string { return ClusterPrefix(cluster) + "shards/" }

// States of a Record.
const (
	StateCandidate = "candidate"
	StateLeader    = "leader"
)

// Record is the value of a candidate's key.
type Record struct {
	State  string     `json:"state"`
	Server string     `json:"server"`
	Shard  shard.Name `json:"shard"`
	Token  int64      `json:"token,omitempty"`
	// Holder names the process.
	Holder  string `json:"holder,omitempty"`
	Since   string `json:"since"`
	Address string `json:"address,omitempty"`
	// Paused is why the leader schedules nothing, empty if it does.
	Paused string `json:"paused,omitempty"`
	// Epoch is that of the leader's takeover in the database, 0 before it.
	Epoch int64 `json:"epoch,omitempty"`
	// Format is the format of this value; see Format.
	Format int `json:"format,omitempty"`
}

// newRecord is the record of a candidate that has not won yet.
func newRecord(server, holder, address string, name shard.Name) Record {
	return Record{
		State: StateCandidate, Server: server, Holder: holder, Shard: name,
		Since: time.Now().UTC().Format(time.RFC3339), Address: address, Format: Format,
	}
}

func (r Record) text() (string, error) {
	data, err := json.Marshal(r)
	return string(data), err
}

// campaign is one run for one shard, and the term that comes of it.
type campaign struct {
	e      *Etcd
	name   shard.Name
	client *clientv3.Client
	// ctx ends when everything that belongs to this campaign must end.
	ctx    context.Context
	cancel context.CancelFunc
	loops  sync.WaitGroup
	lease  *lease
	key    string
	keys   *follower
}

// Campaign blocks until this replica leads the shard. Every attempt has a lease and
// a key of its own.
func (e *Etcd) Campaign(ctx context.Context, name shard.Name) (*Term, error) {
	client, err := e.cfg.Etcd.Client()
	if err != nil {
		return nil, fmt.Errorf("campaign for shard %s: %w", name, err)
	}
	c := &campaign{e: e, name: name, client: client}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	term, err := c.run(ctx)
	if err != nil {
		cleanup, done := context.WithTimeout(context.Background(), cleanupTimeout)
		defer done()
		// Keys that cannot be deleted now are deleted by the next campaign, or expire.
		_ = c.close(cleanup)
		return nil, fmt.Errorf("campaign for shard %s: %w", name, err)
	}
	return term, nil
}

func (c *campaign) run(ctx context.Context) (*Term, error) {
	lease, err := c.e.grant(ctx, c.client, c.name.String())
	if err != nil {
		return nil, err
	}
	c.lease = lease
	c.loops.Go(func() { lease.keep(c.ctx) })
	prefix := LeaderPrefix(c.e.cfg.Cluster, c.name)
	c.key = fmt.Sprintf("%s%x", prefix, lease.id)
	c.keys = &follower{client: c.client, prefix: prefix, ttl: c.e.cfg.TTL}
	record := newRecord(c.e.cfg.Server, c.e.cfg.Holder, c.e.cfg.Address, c.name)
	if err := c.put(ctx, record); err != nil {
		return nil, err
	}
	term, err := c.win(ctx)
	if err != nil {
		return nil, err
	}
	record.State, record.Token = StateLeader, term.Token
	c.lead(ctx, term, record)
	return term, nil
}

// win waits until our key is the first of the shard. It ends with the lease: a
// campaign without lease has no key and cannot win.
func (c *campaign) win(ctx context.Context) (*Term, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.loops.Go(func() {
		select {
		case <-c.lease.over:
			cancel(c.lease.cause())
		case <-ctx.Done():
		}
	})
	var term *Term
	var failed error
	c.keys.run(ctx, func(now *keys, err error) bool {
		if err != nil {
			failed = err
			return !temporary(err)
		}
		failed = nil
		if now.kvs[c.key] == nil {
			failed = ErrDeposed
			return true
		}
		oldest, _ := first(now.kvs)
		if oldest.Key == c.key {
			term = newTerm(c.name, c.e.cfg.Server, c.close)
			term.Token, term.Cluster = oldest.Revision, strconv.FormatUint(now.cluster, 16)
		}
		return term != nil
	})
	switch {
	case term != nil && c.lease.cause() == nil:
		return term, nil
	case c.lease.cause() != nil:
		return nil, errors.Join(c.lease.cause(), failed)
	case failed != nil:
		return nil, failed
	}
	return nil, context.Cause(ctx)
}

// lead begins what goes on during a term. The key says who leads whether or not its
// value can be written now, so a write that fails is tried again in the background.
func (c *campaign) lead(ctx context.Context, term *Term, record Record) {
	var mu sync.Mutex
	write := func(ctx context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		return c.put(ctx, record)
	}
	term.announce = func(ctx context.Context, a Announcement) error {
		mu.Lock()
		record.Paused, record.Epoch = a.Paused, a.Epoch
		mu.Unlock()
		return write(ctx)
	}
	if write(ctx) != nil {
		c.loops.Go(func() { insist(c.ctx, write) })
	}
	c.loops.Go(func() {
		select {
		case <-c.ctx.Done():
		case <-c.lease.over:
			term.end(c.lease.cause())
		}
	})
	c.loops.Go(func() { c.watchKey(term) })
}

// insist tries a write again until it succeeds or ctx ends.
func insist(ctx context.Context, write func(context.Context) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(putAgain):
		}
		if write(ctx) == nil {
			return
		}
	}
}

// put writes our key.
func (c *campaign) put(ctx context.Context, r Record) error {
	value, err := r.text()
	if err != nil {
		return err
	}
	_, err = ask(ctx, c.e, "write the key "+c.key, func(ctx context.Context) (*clientv3.PutResponse, error) {
		return c.client.Put(ctx, c.key, value, clientv3.WithLease(c.lease.id))
	})
	return err
}

// watchKey ends the term when the leader's key is not ours any more, so that a
// revoked lease or a change by hand is noticed at once.
func (c *campaign) watchKey(term *Term) {
	c.keys.run(c.ctx, func(now *keys, err error) bool {
		if err != nil {
			return false // the lease ends the term in time
		}
		if kv := now.kvs[c.key]; kv != nil {
			k, why := readCandidate(kv)
			if why == "" && k.Lease == int64(c.lease.id) && k.Revision == term.Token {
				return false
			}
		}
		term.end(ErrDeposed)
		return true
	})
}

// close deletes the key, revokes the lease and ends everything, within a bound.
func (c *campaign) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	var err error
	if c.lease != nil {
		// Revoking the lease deletes the key, so one request hands the shard over.
		err = c.e.giveBack(ctx, c.client, c.name.String(), c.lease.id)
	}
	c.cancel()
	if cerr := c.client.Close(); cerr != nil && !errors.Is(cerr, context.Canceled) {
		err = errors.Join(err, cerr)
	}
	c.loops.Wait()
	return err
}
