package embedetcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// MemberConfig says which member of which cluster to run.
type MemberConfig struct {
	Dir, Name string
	// Cluster holds where the members reach each other, by name. If it is empty, the
	// member is the only one and has no port for others.
	Cluster map[string][]url.URL
	// Existing is a cluster that runs, to which this member was added.
	Existing                 bool
	ListenPeer, ListenClient []url.URL
	PeerTLS                  transport.TLSInfo
	Log                      hclog.Logger
}

// Bounds of a member.
const (
	// closeTimeout bounds the end of a member, which may wait for others or for a part of
	// itself that has died.
	closeTimeout = 5 * time.Second
	// tendInterval is how often a member tries to become what it should be.
	tendInterval = time.Second
	// keepRevisions is how long etcd keeps former values, which only watchers that lag
	// behind need.
	keepRevisions = "1h"
	folderMode    = 0o700
)

// lonely is the peer address of a member without others. Nobody listens there.
var lonely = url.URL{Scheme: "http", Host: "localhost:2380"}

// Member is a running member of etcd.
type Member struct {
	cfg    MemberConfig
	etcd   *embed.Etcd
	failed chan error
	// closing is true once the member should end.
	closing atomic.Bool
}

// StartMember starts a member. It does not wait until most of the members run. An error
// may go away when others are there: a member that joins asks them for their data.
func StartMember(cfg MemberConfig) (*Member, error) {
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	m := &Member{cfg: cfg, failed: make(chan error, 1)}
	if err := os.MkdirAll(cfg.Dir, folderMode); err != nil {
		return nil, fmt.Errorf("make the folder of the embedded etcd: %w", err)
	}
	if err := m.start(); err != nil {
		return nil, fmt.Errorf("start the embedded etcd member %s in %s: %w", cfg.Name, cfg.Dir, m.reason(err))
	}
	return m, nil
}

// start runs embed in a goroutine of its own, because that is what ends when etcd wants
// the process to end.
func (m *Member) start() (err error) {
	err = errors.New("it ended while it started")
	started := make(chan struct{})
	go func() {
		defer close(started)
		m.etcd, err = embed.StartEtcd(m.config())
	}()
	<-started
	return err
}

// reason prefers what made etcd's log end over the error that came of it.
func (m *Member) reason(err error) error {
	select {
	case fatal := <-m.failed:
		return fatal
	default:
		return err
	}
}

func (m *Member) config() *embed.Config {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Name = m.cfg.Dir, m.cfg.Name
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = m.cfg.ListenClient, m.cfg.ListenClient
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = m.cfg.ListenPeer, m.advertised()
	cfg.PeerTLSInfo = m.cfg.PeerTLS
	cfg.InitialCluster = m.initialCluster()
	if m.cfg.Existing {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, keepRevisions
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(m.cfg.Log, &m.closing, m.fail))
	return cfg
}

// advertised is where the other members reach this one.
func (m *Member) advertised() []url.URL {
	if own := m.cfg.Cluster[m.cfg.Name]; len(own) > 0 {
		return own
	}
	return []url.URL{lonely}
}

func (m *Member) initialCluster() string {
	if len(m.cfg.Cluster) == 0 {
		return m.cfg.Name + "=" + lonely.String()
	}
	var all []string
	for name, urls := range m.cfg.Cluster {
		for _, u := range urls {
			all = append(all, name+"="+u.String())
		}
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// fail keeps the first reason why the member cannot continue.
func (m *Member) fail(err error) {
	select {
	case m.failed <- err:
	default:
	}
}

// Run waits until the member fails or ctx ends, and meanwhile makes it what the
// configuration says.
func (m *Member) Run(ctx context.Context) error {
	tend := time.NewTicker(tendInterval)
	defer tend.Stop()
	for tended := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-m.failed:
			return m.failure(err)
		case err := <-m.etcd.Err():
			return m.failure(err)
		case <-m.etcd.Server.StopNotify():
			return m.failure(m.reason(errors.New("it has stopped; was this member removed from its cluster?")))
		case <-tend.C:
		}
		if !tended {
			tended = m.tend(ctx)
		}
	}
}

func (m *Member) failure(err error) error {
	return fmt.Errorf("the embedded etcd member %s in %s: %w", m.cfg.Name, m.cfg.Dir, err)
}

// tend makes a voting member of one that was added as a learner, as soon as it has the
// others' data, and tells the others where this member is now. It returns true once there
// is nothing left to do.
func (m *Member) tend(ctx context.Context) (done bool) {
	server := m.etcd.Server
	self := server.Cluster().Member(server.MemberID())
	if self == nil || server.Leader() == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, tendInterval)
	defer cancel()
	if self.IsLearner {
		_, err := server.PromoteMember(ctx, uint64(self.ID))
		m.cfg.Log.Info("asked to become a voting member of etcd", "name", m.cfg.Name, "error", err)
		return false
	}
	if len(m.cfg.Cluster) == 0 || sameURLs(self.PeerURLs, m.advertised()) {
		return true
	}
	moved := membership.Member{ID: self.ID, RaftAttributes: membership.RaftAttributes{PeerURLs: texts(m.advertised())}}
	_, err := server.UpdateMember(ctx, moved)
	m.cfg.Log.Info("told the members of etcd where this one is now", "name", m.cfg.Name, "was", self.PeerURLs, "is", moved.PeerURLs, "error", err)
	return false
}

func texts(urls []url.URL) []string {
	var out []string
	for _, u := range urls {
		out = append(out, u.String())
	}
	return out
}

func sameURLs(have []string, want []url.URL) bool {
	a, b := slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(texts(want)))
	return slices.Equal(a, b)
}

// Close ends the member, within a bound.
func (m *Member) Close() {
	m.closing.Store(true)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		select {
		case <-m.etcd.Server.ReadyNotify():
		default:
			// embed waits for a server that is not ready yet before it stops it.
			m.etcd.Server.HardStop()
		}
		m.etcd.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
		m.cfg.Log.Warn("the embedded etcd did not end in time; the end of the process ends it", "waited", closeTimeout)
	}
}

// HasData tells whether a member was ever started in a folder.
func HasData(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "member"))
	return err == nil
}

// ForgetLeases waits until the member is ready and ends all leases. It is for a member that
// only this process uses: whoever had a lease was a former process.
func (m *Member) ForgetLeases(ctx context.Context) error {
	select {
	case <-m.etcd.Server.ReadyNotify():
	case err := <-m.failed:
		return m.failure(err)
	case <-ctx.Done():
		return nil
	case <-time.After(readyTimeout):
		return m.failure(errors.New("it does not become ready"))
	}
	leases, err := m.etcd.Server.LeaseLeases(ctx, &etcdserverpb.LeaseLeasesRequest{})
	if err != nil {
		return m.failure(err)
	}
	for _, lease := range leases.Leases {
		if _, err := m.etcd.Server.LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: lease.ID}); err != nil {
			return m.failure(err)
		}
	}
	return nil
}

// IsLonely tells whether these are the peer addresses of a member without others.
func IsLonely(peerURLs []string) bool { return slices.Contains(peerURLs, lonely.String()) }
