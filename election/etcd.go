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
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/hostsched/hostsched/shard"
)

// EtcdConfig says how to reach etcd and as whom to campaign.
type EtcdConfig struct {
	// Client is the configuration of the etcd client: endpoints, TLS, user.
	Client clientv3.Config
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
	// member is the client of the membership, nil while there is none.
	member atomic.Pointer[clientv3.Client]
}

// The parts of a TTL. A keepalive is sent every fifth of it, and trust ends a fifth
// before the lease can: a leader survives three lost keepalives, and stops leading
// before etcd lets another candidate win.
const (
	keepaliveParts = 5
	marginParts    = 5
	// cleanupTimeout bounds what is done for a term that is over. A lease that
	// cannot be revoked within it expires by itself.
	cleanupTimeout = 500 * time.Millisecond
	dialTimeout    = 5 * time.Second
)

// NewEtcd returns the election of one replica on etcd. It does not connect: every
// campaign has a client of its own, so that closing the client ends everything that
// belongs to the campaign, even while etcd does not answer.
func NewEtcd(cfg EtcdConfig) (*Etcd, error) {
	if cfg.TTL < time.Second || cfg.TTL%time.Second != 0 {
		return nil, fmt.Errorf("etcd lease TTL is %v; it must be whole seconds, at least 1s", cfg.TTL)
	}
	if len(cfg.Client.Endpoints) == 0 {
		return nil, errors.New("no etcd endpoints; give at least one, like http://127.0.0.1:2379")
	}
	if cfg.Cluster == "" || strings.Contains(cfg.Cluster, "/") {
		return nil, fmt.Errorf("cluster name %q is empty or has a slash", cfg.Cluster)
	}
	cfg.Client = withDefaults(cfg.Client)
	return &Etcd{cfg: cfg}, nil
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
func ShardsPrefix(cluster string) string { return clusterPrefix(cluster) + "shards/" }

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
	ctx     context.Context
	cancel  context.CancelFunc
	session *concurrency.Session
	vote    *concurrency.Election
	loops   sync.WaitGroup
}

// Campaign blocks until this replica leads the shard. Every attempt has a
// session of its own.
func (e *Etcd) Campaign(ctx context.Context, name shard.Name) (*Term, error) {
	client, err := clientv3.New(e.cfg.Client)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %s: %w", strings.Join(e.cfg.Client.Endpoints, ", "), err)
	}
	c := &campaign{e: e, name: name, client: client}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	term, err := c.run(ctx)
	if err != nil {
		cleanup, done := context.WithTimeout(context.Background(), cleanupTimeout)
		defer done()
		// Keys that cannot be deleted now expire with the lease.
		_ = c.close(cleanup)
		return nil, fmt.Errorf("campaign for shard %s: %w", name, err)
	}
	return term, nil
}

func (c *campaign) run(ctx context.Context) (*Term, error) {
	lease, err := c.grant(ctx)
	if err != nil {
		return nil, err
	}
	c.session, err = concurrency.NewSession(c.client, concurrency.WithLease(lease), concurrency.WithContext(c.ctx))
	if err != nil {
		return nil, err
	}
	if err := c.win(ctx); err != nil {
		return nil, err
	}
	trust, err := c.keepalive(ctx)
	if err != nil {
		return nil, err
	}
	term, err := c.confirm(ctx)
	if err != nil {
		return nil, err
	}
	c.loops.Add(2)
	go c.holdTrust(term, trust)
	go c.watchKey(term)
	return term, nil
}

func (c *campaign) grant(ctx context.Context) (clientv3.LeaseID, error) {
	ctx, cancel := context.WithTimeout(ctx, c.e.cfg.TTL)
	defer cancel()
	res, err := c.client.Grant(ctx, int64(c.e.cfg.TTL.Seconds()))
	if err != nil {
		return 0, fmt.Errorf("get a lease from etcd at %s: %w", strings.Join(c.e.cfg.Client.Endpoints, ", "), err)
	}
	return res.ID, nil
}

// win waits for the victory. The wait ends with the session: a campaign without
// lease has no key and cannot win. It also ends when ctx does, although the
// library may then still be talking to an etcd that does not answer; closing
// the client ends that.
func (c *campaign) win(ctx context.Context) error {
	value, err := newRecord(c.e.cfg.Server, c.e.cfg.Holder, c.e.cfg.Address, c.name).text()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	prefix := strings.TrimSuffix(LeaderPrefix(c.e.cfg.Cluster, c.name), "/")
	c.vote = concurrency.NewElection(c.session, prefix)
	won := make(chan error, 1)
	c.loops.Add(1)
	go func() {
		defer c.loops.Done()
		won <- c.vote.Campaign(ctx, value)
	}()
	select {
	case err := <-won:
		if err != nil {
			return err
		}
	case <-c.session.Done():
		cancel(ErrLeaseLost)
		return ErrLeaseLost
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-c.session.Done():
		return ErrLeaseLost
	default:
		return nil
	}
}

// confirm reads back that our key is the oldest, and writes the token into it.
func (c *campaign) confirm(ctx context.Context) (*Term, error) {
	ctx, cancel := context.WithTimeout(ctx, c.e.cfg.TTL)
	defer cancel()
	token := c.vote.Rev()
	res, err := c.client.Get(ctx, LeaderPrefix(c.e.cfg.Cluster, c.name), clientv3.WithFirstCreate()...)
	if err != nil {
		return nil, fmt.Errorf("read the leader's key back: %w", err)
	}
	if len(res.Kvs) == 0 || string(res.Kvs[0].Key) != c.vote.Key() || res.Kvs[0].CreateRevision != token {
		return nil, fmt.Errorf("%w: key %s with revision %d is not the oldest", ErrPhantom, c.vote.Key(), token)
	}
	record := newRecord(c.e.cfg.Server, c.e.cfg.Holder, c.e.cfg.Address, c.name)
	record.State, record.Token = StateLeader, token
	if err := c.proclaim(ctx, record); err != nil {
		return nil, fmt.Errorf("write the token into the leader's key: %w", err)
	}
	term := newTerm(c.name, c.e.cfg.Server, c.close)
	term.announce = func(ctx context.Context, paused string) error {
		record.Paused = paused
		return c.proclaim(ctx, record)
	}
	term.Token = token
	term.Cluster = strconv.FormatUint(res.Header.GetClusterId(), 16)
	return term, nil
}

func (c *campaign) proclaim(ctx context.Context, r Record) error {
	value, err := r.text()
	if err != nil {
		return err
	}
	return c.vote.Proclaim(ctx, value)
}

// keepalive renews the lease once and returns until when it can be trusted.
func (c *campaign) keepalive(ctx context.Context) (time.Time, error) {
	ttl := c.e.cfg.TTL
	ctx, cancel := context.WithTimeout(ctx, ttl)
	defer cancel()
	sent := time.Now()
	if _, err := c.client.KeepAliveOnce(ctx, c.session.Lease()); err != nil {
		return time.Time{}, fmt.Errorf("renew the lease: %w", err)
	}
	return sent.Add(ttl - ttl/marginParts), nil
}

// holdTrust renews the lease until the term is over, and ends the term when
// trust runs out or the lease is lost.
func (c *campaign) holdTrust(term *Term, trust time.Time) {
	defer c.loops.Done()
	type answer struct {
		trust time.Time
		err   error
	}
	interval := c.e.cfg.TTL / keepaliveParts
	expiry := time.NewTimer(time.Until(trust))
	defer expiry.Stop()
	next := time.NewTimer(interval)
	defer next.Stop()
	answers := make(chan answer, 1)
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.session.Done():
			term.end(ErrLeaseLost)
			return
		case <-expiry.C:
			term.end(ErrTrustExpired)
			return
		case <-next.C:
			c.loops.Add(1)
			go func() {
				defer c.loops.Done()
				until, err := c.keepalive(c.ctx)
				answers <- answer{until, err}
			}()
		case a := <-answers:
			if a.err == nil {
				expiry.Reset(time.Until(a.trust))
			}
			next.Reset(interval)
		}
	}
}

// watchKey ends the term when the leader's key disappears, so that a revoked
// lease or a deletion by hand is noticed at once.
func (c *campaign) watchKey(term *Term) {
	defer c.loops.Done()
	watch := c.client.Watch(c.ctx, c.vote.Key(), clientv3.WithRev(term.Token+1), clientv3.WithFilterPut())
	for res := range watch {
		if res.Canceled || len(res.Events) == 0 {
			continue
		}
		term.end(ErrDeposed)
		return
	}
	// If the watch ends for another reason, holdTrust still ends the term in time.
}

// close deletes the key, revokes the lease and ends everything, within a bound.
func (c *campaign) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	var err error
	if c.session != nil {
		// Revoking the lease deletes the key, so one request hands the shard over.
		_, err = c.client.Revoke(ctx, c.session.Lease())
	}
	c.cancel()
	if cerr := c.client.Close(); cerr != nil && !errors.Is(cerr, context.Canceled) {
		err = errors.Join(err, cerr)
	}
	c.loops.Wait()
	return err
}
