package testserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/embedetcd"
)

// EtcdMember is one member of an [EtcdCluster].
type EtcdMember struct {
	Name string
	// Addr is where the member listens for clients. A client that is to have a link
	// of its own opens it to here.
	Addr string
	// Clients is the link behind Endpoint.
	Clients *Link

	cluster  *EtcdCluster
	id       uint64
	dir      string
	peerPort string
	initial  string
	// peers are the links on which this member dials the others, by their index; hosts
	// are the addresses of those links, by the names of the others.
	peers []*Link
	hosts map[string]string

	cmd  *exec.Cmd
	exit *child.Exit
}

// Endpoint is the client URL, over the link Clients.
func (m *EtcdMember) Endpoint() string { return "http://" + m.Clients.Addr }

// ID is the member's id in etcd.
func (m *EtcdMember) ID() uint64 { return m.id }

func (m *EtcdMember) directEndpoint() string { return "http://" + m.Addr }

func (m *EtcdMember) host() string { return m.Name + ".etcd.test" }

func (m *EtcdMember) peerURL() string { return "http://" + net.JoinHostPort(m.host(), m.peerPort) }

// open chooses ports and opens the link for clients.
func (m *EtcdMember) open() error {
	peer, err := embedetcd.FreeAddr()
	if err != nil {
		return err
	}
	if _, m.peerPort, err = net.SplitHostPort(peer); err != nil {
		return err
	}
	if m.Addr, err = embedetcd.FreeAddr(); err != nil {
		return err
	}
	m.Clients, err = OpenLink(m.Addr)
	return err
}

// Start starts the member, also again after it was killed, on the same ports and
// data.
func (m *EtcdMember) Start() error {
	task, err := json.Marshal(memberTask{
		Name: m.Name, Dir: m.dir, Client: m.directEndpoint(), Advertise: m.Endpoint(),
		Peer: "http://127.0.0.1:" + m.peerPort, PeerURL: m.peerURL(), Initial: m.initial, Hosts: m.hosts,
	})
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	m.cmd = exec.Command(program)
	m.cmd.Env = append(os.Environ(), memberEnv+"="+string(task))
	m.cmd.Stderr = os.Stderr
	m.exit, err = child.Start(m.cmd)
	return err
}

// Kill ends the member with SIGKILL and waits for it.
func (m *EtcdMember) Kill() error {
	if m.exit == nil {
		return nil
	}
	if err := m.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-m.exit.Done()
	return nil
}

// BackUp copies the data of a member that is alone, which is killed for it and started again.
// restore kills it once more and puts the copy in the place of what is there then. Clients
// are told nothing: their connections break, and they connect anew.
func (m *EtcdMember) BackUp(t testing.TB) (restore func()) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "backup")
	restart := func(exchange func()) {
		t.Helper()
		require.NoError(t, m.Kill())
		exchange()
		require.NoError(t, m.Start())
		require.NoError(t, m.waitReady(t.Context()))
	}
	restart(func() { require.NoError(t, os.CopyFS(copied, os.DirFS(m.dir))) })
	return func() {
		t.Helper()
		restart(func() {
			require.NoError(t, os.RemoveAll(m.dir))
			require.NoError(t, os.CopyFS(m.dir, os.DirFS(copied)))
		})
	}
}

// Stop pauses the member with SIGSTOP: it keeps its connections and answers
// nothing.
func (m *EtcdMember) Stop() error { return m.signal(syscall.SIGSTOP) }

// Cont ends Stop.
func (m *EtcdMember) Cont() error { return m.signal(syscall.SIGCONT) }

func (m *EtcdMember) signal(s syscall.Signal) error {
	if err := m.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to etcd's %s: %w", s, m.Name, err)
	}
	return nil
}

// Client connects to this member alone, past its link to clients.
func (m *EtcdMember) Client() (*clientv3.Client, error) {
	const dialTimeout = 2 * time.Second
	return clientv3.New(clientv3.Config{Endpoints: []string{m.directEndpoint()}, DialTimeout: dialTimeout, Logger: zap.NewNop()})
}

// waitReady waits until the member answers reads that take a quorum.
func (m *EtcdMember) waitReady(ctx context.Context) error {
	for {
		if m.healthy(ctx) {
			_, err := m.status(ctx)
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("etcd's %s at %s is not ready: %w", m.Name, m.Addr, ctx.Err())
		case <-m.exit.Done():
			return fmt.Errorf("etcd's %s ended: %w", m.Name, m.exit.Err())
		case <-time.After(readyPoll):
		}
	}
}

const readyPoll = 50 * time.Millisecond

func (m *EtcdMember) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.directEndpoint()+"/health", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return res.StatusCode == http.StatusOK && res.Body.Close() == nil
}

// memberEnv makes a process a member of etcd: see init.
const memberEnv = "HOSTSCHED_TEST_ETCD_MEMBER"

// memberTask is what such a process is told.
type memberTask struct {
	Name, Dir, Client, Advertise, Peer, PeerURL, Initial string
	Hosts                                                map[string]string
}

// init makes this process a member of etcd if it was started as one. Members run
// in the program that uses them, which therefore need not be installed with
// etcd; and since that is any test of any package, it is decided here and not in
// each TestMain.
func init() {
	text := os.Getenv(memberEnv)
	if text == "" {
		return
	}
	var task memberTask
	err := json.Unmarshal([]byte(text), &task)
	if err == nil {
		err = task.run()
	}
	fmt.Fprintln(os.Stderr, "member of etcd:", err)
	os.Exit(1)
}

// run is a member until it is killed.
func (k memberTask) run() error {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: k.dialNames}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster = k.Name, k.Dir, k.Initial
	for text, urls := range map[string]*[]url.URL{
		k.Client: &cfg.ListenClientUrls, k.Advertise: &cfg.AdvertiseClientUrls,
		k.Peer: &cfg.ListenPeerUrls, k.PeerURL: &cfg.AdvertisePeerUrls,
	} {
		u, err := url.Parse(text)
		if err != nil {
			return err
		}
		*urls = []url.URL{*u}
	}
	// The data is thrown away afterwards. A process that is killed loses nothing
	// that it wrote without syncing.
	cfg.UnsafeNoFsync = true
	cfg.LogLevel = "fatal"
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	return <-etcd.Err()
}

// dialNames is the name server of a member: it knows the names of all members and
// answers with the addresses of this member's links to them.
func (k memberTask) dialNames(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer func() { _ = server.Close() }()
		_ = k.answerName(server) // the resolver asks again
	}()
	return client, nil
}

// answerName answers one question. The pipe is a stream, on which a length comes
// before each message.
func (k memberTask) answerName(conn net.Conn) error {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	question := make([]byte, int(size[0])<<8|int(size[1]))
	if _, err := io.ReadFull(conn, question); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return err
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	for _, q := range m.Questions {
		ip, known := k.Hosts[strings.TrimSuffix(q.Name.String(), ".")]
		switch {
		case !known:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
				Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(ip).To4())},
			})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = conn.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
	return err
}
