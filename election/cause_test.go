package election_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/testserver"
)

// TestMembershipSaysWhyEtcdIsSilent: whatever is wrong with the connection, the
// membership says it within seconds, also when it happens later, and forgets it.
func TestMembershipSaysWhyEtcdIsSilent(t *testing.T) {
	plain := testserver.Etcd(t)
	secure := testserver.EtcdWith(t, "https", func(cfg *embed.Config) { cfg.ClientAutoTLS, cfg.SelfSignedCertValidity = true, 1 })
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, silent.Close()) }()
	for name, c := range map[string]struct{ endpoint, want string }{
		"refused":     {"http://127.0.0.1:1", "connection refused"},
		"no address":  {"http://etcd.invalid:2379", "lookup etcd.invalid"},
		"silent":      {"http://" + silent.Addr().String(), "no answer within"},
		"TLS to none": {strings.Replace(plain.Endpoint, "http:", "https:", 1), "is https the right scheme?"},
		"none to TLS": {strings.Replace(secure.Endpoint, "https:", "http:", 1), "is http the right scheme?"},
		"stranger":    {secure.Endpoint, "x509: "},
	} {
		t.Run(name, func(t *testing.T) {
			m := candidateAt(t, c.endpoint, "a").Join(election.Presence{Role: election.RolePrimary}, func(election.View) {})
			keep(t, m)
			requireWhy(t, m, c.want)
		})
	}
}

func requireWhy(t *testing.T, m *election.Membership, want string) {
	t.Helper()
	began := time.Now()
	var text string
	defer func() { t.Log(text) }()
	require.Eventually(t, func() bool {
		if err := m.Err(); err != nil {
			text = err.Error()
		}
		return strings.Contains(text, want)
	}, soon, 10*time.Millisecond, want)
	require.Less(t, time.Since(began), 5*time.Second)
}

// TestEtcdFallsSilentLater: the reason is said while etcd is away, and not any more
// when it is back.
func TestEtcdFallsSilentLater(t *testing.T) {
	server := testserver.Etcd(t)
	m := candidate(t, server, "a").Join(election.Presence{Role: election.RolePrimary}, func(election.View) {})
	keep(t, m)
	require.Eventually(t, func() bool { return m.Err() == nil }, soon, 10*time.Millisecond)
	server.Stop()
	requireWhy(t, m, "connection refused")
	require.NoError(t, server.Run())
	require.Eventually(t, func() bool { return m.Err() == nil }, soon, 10*time.Millisecond)
}

// TestPasswordIsReadAgain: after the password of the user was changed, in etcd and where
// it is configured, replicas lead again by themselves; so they do when users are switched
// on and off.
func TestPasswordIsReadAgain(t *testing.T) {
	const fewRounds = 4 // of bcrypt
	server := testserver.EtcdWith(t, "http", func(cfg *embed.Config) { cfg.BcryptCost = fewRounds })
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("one"), 0o600))
	admin := rawClient(t, server)
	_, err := admin.UserAdd(t.Context(), "root", "one")
	require.NoError(t, err)
	_, err = admin.UserGrantRole(t.Context(), "root", "root")
	require.NoError(t, err)
	e, err := election.NewEtcd(election.EtcdConfig{
		Etcd: election.Connection{Config: func() (clientv3.Config, error) {
			password, err := os.ReadFile(file)
			return clientv3.Config{Endpoints: []string{server.Endpoint}, Username: "root", Password: string(password)}, err
		}},
		Cluster: "test", Server: "a", Holder: "a", TTL: testTTL,
	})
	require.NoError(t, err)
	m := e.Join(election.Presence{Role: election.RolePrimary}, func(election.View) {})
	keep(t, m)
	var s stands
	serve(t, e, &s)
	lead(t, &s)
	well := func(what string) {
		t.Helper()
		began := time.Now()
		m.Set(func(p *election.Presence) { p.Weight++ })
		for healthy := time.Now(); time.Since(healthy) < testTTL; time.Sleep(20 * time.Millisecond) {
			if led, _ := s.led(); !led || m.Err() != nil {
				healthy = time.Now()
			}
			require.Less(t, time.Since(began), 2*testTTL+2*time.Second, "%s: %v", what, m.Err())
		}
	}
	_, err = admin.AuthEnable(t.Context())
	require.NoError(t, err)
	well("users are switched on")

	root, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint}, Username: "root", Password: "one"})
	require.NoError(t, err)
	_, err = root.UserChangePassword(t.Context(), "root", "two")
	require.NoError(t, err)
	require.NoError(t, root.Close())
	m.Set(func(p *election.Presence) { p.Weight++ })
	requireWhy(t, m, "authentication failed")
	require.NoError(t, os.WriteFile(file, []byte("two"), 0o600))
	well("the password is changed")

	root, err = clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint}, Username: "root", Password: "two"})
	require.NoError(t, err)
	_, err = root.AuthDisable(t.Context())
	require.NoError(t, err)
	require.NoError(t, root.Close())
	well("users are switched off")
}

// TestClockOfAMember: how far it is from this machine's is told to about half a second, and
// what tells no time is said.
func TestClockOfAMember(t *testing.T) {
	date := func(text string) election.Connection {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = []string{text} }))
		t.Cleanup(server.Close)
		return election.At(clientv3.Config{Endpoints: []string{server.URL}})
	}
	ahead := func(c election.Connection) (time.Duration, error) {
		cfg, err := c.Config()
		require.NoError(t, err)
		return c.ClockAhead(t.Context(), cfg.Endpoints[0])
	}
	for _, want := range []time.Duration{0, time.Hour, -time.Hour} {
		got, err := ahead(date(time.Now().Add(want).UTC().Format(http.TimeFormat)))
		require.NoError(t, err)
		require.InDelta(t, want, got, float64(3*time.Second))
	}
	_, err := ahead(date("noon"))
	require.ErrorContains(t, err, "noon")
	_, err = ahead(election.At(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}}))
	require.ErrorContains(t, err, "refused")
	got, err := ahead(election.At(clientv3.Config{Endpoints: []string{testserver.Etcd(t).Endpoint}}))
	require.NoError(t, err)
	require.InDelta(t, 0, got, float64(3*time.Second))
}
