package testserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// EtcdCluster is an etcd of several members. Each is a process of its own, and
// each reaches each other one over a link of its own, so that tests can kill and
// stop members and cut them off from their peers, from their clients, or both.
type EtcdCluster struct {
	Members []*EtcdMember
}

// StartEtcdCluster starts n members, whose data is below dir.
func StartEtcdCluster(dir string, n int) (*EtcdCluster, error) {
	var err error
	// Between choosing a port and listening on it somebody else may take it.
	for range portAttempts {
		c := &EtcdCluster{}
		if err = c.start(dir, n); err == nil {
			return c, nil
		}
		err = errors.Join(err, c.Close(), os.RemoveAll(dir))
	}
	return nil, fmt.Errorf("start an etcd cluster of %d members in %s: %w", n, dir, err)
}

// portAttempts is how often a cluster is started on other ports.
const portAttempts = 3

// NewEtcdCluster starts n members for one test and stops them when it ends.
func NewEtcdCluster(t testing.TB, n int) *EtcdCluster {
	t.Helper()
	// Not t.TempDir: etcd's last write may come while the folder is removed.
	dir, err := os.MkdirTemp("", "hostsched-etcd-")
	require.NoError(t, err)
	c, err := StartEtcdCluster(filepath.Join(dir, "cluster"), n)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, c.Close())
		require.NoError(t, os.RemoveAll(dir))
	})
	return c
}

func (c *EtcdCluster) start(dir string, n int) error {
	var initial string
	for i := range n {
		m := &EtcdMember{cluster: c, Name: "member-" + strconv.Itoa(i+1), dir: filepath.Join(dir, strconv.Itoa(i+1))}
		c.Members = append(c.Members, m)
		if err := m.open(); err != nil {
			return err
		}
		initial += "," + m.Name + "=" + m.peerURL()
	}
	for _, m := range c.Members {
		if err := m.openPeerLinks(); err != nil {
			return err
		}
		m.initial = initial[1:]
	}
	for _, m := range c.Members {
		if err := m.Start(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return c.WaitReady(ctx)
}

// Endpoints are the client URLs of all members, each over the member's link to
// its clients.
func (c *EtcdCluster) Endpoints() []string {
	var out []string
	for _, m := range c.Members {
		out = append(out, m.Endpoint())
	}
	return out
}

// WaitReady waits until every member that runs answers, which takes a quorum.
func (c *EtcdCluster) WaitReady(ctx context.Context) error {
	for _, m := range c.Members {
		if err := m.waitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Leader finds the member that leads, as the others see it.
func (c *EtcdCluster) Leader(ctx context.Context) (*EtcdMember, error) {
	err := errors.New("no member of etcd knows a leader")
	for _, asked := range c.Members {
		st, serr := asked.status(ctx)
		if serr != nil || st.Leader == 0 {
			err = errors.Join(err, serr)
			continue
		}
		if i := slices.IndexFunc(c.Members, func(m *EtcdMember) bool { return m.id == st.Leader }); i >= 0 {
			return c.Members[i], nil
		}
	}
	return nil, err
}

// Close kills all members; their data is thrown away afterwards.
func (c *EtcdCluster) Close() error {
	var err error
	for _, m := range c.Members {
		err = errors.Join(err, m.Kill())
		for _, l := range append(slices.Clone(m.peers), m.Clients) {
			if l != nil {
				l.Close()
			}
		}
	}
	return err
}

// CutPeers cuts the links between this member and all others, in both
// directions. Its clients still reach it.
func (m *EtcdMember) CutPeers(log Logger) {
	for _, l := range m.peerLinks() {
		l.Cut(log)
	}
}

// HealPeers ends CutPeers.
func (m *EtcdMember) HealPeers(log Logger) {
	for _, l := range m.peerLinks() {
		l.Heal(log)
	}
}

// SlowPeers delays what this member and the others say to each other, on each
// link and in each direction.
func (m *EtcdMember) SlowPeers(log Logger, by time.Duration) {
	for _, l := range m.peerLinks() {
		l.Slow(log, by)
	}
}

// peerLinks are those on which this member dials others, and those on which they
// dial it.
func (m *EtcdMember) peerLinks() []*Link {
	out := slices.DeleteFunc(slices.Clone(m.peers), func(l *Link) bool { return l == nil })
	at := slices.Index(m.cluster.Members, m)
	for _, other := range m.cluster.Members {
		if other != m {
			out = append(out, other.peers[at])
		}
	}
	return out
}

// openPeerLinks opens the links on which the member dials each of the others. The
// URL of a member is the same for all members, so its port is, too, and what
// differs is the address that its name has for the member that asks.
func (m *EtcdMember) openPeerLinks() error {
	from := slices.Index(m.cluster.Members, m)
	m.peers, m.hosts = make([]*Link, len(m.cluster.Members)), map[string]string{m.host(): "127.0.0.1"}
	for to, other := range m.cluster.Members {
		if other == m {
			continue
		}
		ip := fmt.Sprintf("127.0.%d.%d", from+1, to+1)
		link, err := OpenLinkAt(net.JoinHostPort(ip, other.peerPort), "127.0.0.1:"+other.peerPort)
		if err != nil {
			return err
		}
		m.peers[to], m.hosts[other.host()] = link, ip
	}
	return nil
}

// status asks the member itself, whatever is wrong with its links to clients.
func (m *EtcdMember) status(ctx context.Context) (*clientv3.StatusResponse, error) {
	client, err := m.Client()
	if err != nil {
		return nil, err
	}
	const bound = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	st, err := client.Status(ctx, m.directEndpoint())
	if err == nil {
		m.id = st.Header.MemberId
	}
	return st, errors.Join(err, client.Close())
}
