package app

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

const patience = 30 * time.Second

// newLab makes a SQLite file with a small lab and returns its DSN.
func newLab(t *testing.T) string {
	t.Helper()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "lab.db")
	db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn, Create: true})
	require.NoError(t, err)
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	_, err = simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 40, Boards: 2, Suites: 4, Entries: 50})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	return dsn
}

// load returns a configuration as flags make it.
func load(t *testing.T, args ...string) *config.Config {
	t.Helper()
	c := &config.Config{}
	flags := pflag.NewFlagSet(t.Name(), pflag.ContinueOnError)
	c.Bind(flags, config.AllGroups)
	require.NoError(t, flags.Parse(append([]string{"--etcd-ttl", "2s", "--tick-min", "5ms"}, args...)))
	require.NoError(t, c.Load())
	return c
}

func newApp(t *testing.T, args ...string) *App {
	t.Helper()
	a, err := New(Options{Config: load(t, args...), Version: "test", Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Stop(context.WithoutCancel(t.Context()))) })
	return a
}

// requireReleased fails if an address is still taken or a goroutine still runs.
func requireReleased(t *testing.T, leaks goleak.Option, apps ...*App) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	for _, a := range apps {
		l, err := net.Listen("tcp", a.Addr())
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
	goleak.VerifyNone(t, leaks)
}

// leads tells whether a replica leads the master shard and has ticked.
func leads(a *App) bool {
	st, err := web.Client{}.ReadStatus(context.Background(), a.Addr(), time.Second)
	return err == nil && len(st.Shards) == 1 && st.Shards[0].State == replica.StateLeader && st.Shards[0].Ticks > 0
}

// TestTwoAppsInOneProcess sees one of two replicas lead, stops it, sees the other
// lead, and stops that. Nothing of either is left.
func TestTwoAppsInOneProcess(t *testing.T) {
	etcd, dsn := testserver.Etcd(t), newLab(t)
	leaks := goleak.IgnoreCurrent()
	apps := map[string]*App{}
	for _, server := range []string{"lab-1", "lab-2"} {
		apps[server] = newApp(t, "--server", server, "--database-dsn", dsn, "--etcd-endpoints", etcd.Endpoint)
		require.NoError(t, apps[server].Start(t.Context()))
		require.ErrorIs(t, apps[server].Start(t.Context()), ErrStarted)
	}
	first, second := apps["lab-1"], apps["lab-2"]
	require.Eventually(t, func() bool { return leads(first) || leads(second) }, patience, 10*time.Millisecond, "one leads")
	if leads(second) {
		first, second = second, first
	}
	require.False(t, leads(second), "only one leads")

	require.NoError(t, first.Stop(t.Context()))
	require.NoError(t, first.Stop(t.Context()), "stopping again changes nothing")
	require.NoError(t, first.Err())
	require.Eventually(t, func() bool { return leads(second) }, patience, 10*time.Millisecond, "the other takes over")
	require.NoError(t, second.Stop(t.Context()))
	requireReleased(t, leaks, first, second)
}

// What is injected is used: logger, registry, address.
func TestOptions(t *testing.T) {
	etcd, dsn := testserver.Etcd(t), newLab(t)
	leaks := goleak.IgnoreCurrent()
	registry := prometheus.NewRegistry()
	var log strings.Builder
	cfg := load(t, "--database-dsn", dsn, "--etcd-endpoints", etcd.Endpoint, "--listen", "127.0.0.1:1")
	a, err := New(Options{Config: cfg, Listen: "127.0.0.1:0", Registry: registry, Log: cfg.Logger(&log)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, a.Start(ctx))
	require.Eventually(t, func() bool { return leads(a) }, patience, 10*time.Millisecond)
	families, err := registry.Gather()
	require.NoError(t, err)
	require.True(t, func() bool {
		for _, f := range families {
			if f.GetName() == "hostsched_terms_total" {
				return f.GetMetric()[0].GetCounter().GetValue() == 1
			}
		}
		return false
	}(), "the injected registry has the metrics")
	cancel()
	<-a.Done()
	require.NoError(t, a.Err(), "the end of the context is an orderly end")
	require.Contains(t, log.String(), "leading")
	requireReleased(t, leaks, a)
}

func TestLifetime(t *testing.T) {
	etcd, dsn := testserver.Etcd(t), newLab(t)
	leaks := goleak.IgnoreCurrent()
	a := newApp(t, "--database-dsn", dsn, "--etcd-endpoints", etcd.Endpoint, "--lifetime-hours", "0.0001")
	require.NoError(t, a.Start(t.Context()))
	select {
	case <-a.Done():
	case <-time.After(patience):
		t.Fatal("its lifetime does not end")
	}
	require.NoError(t, a.Err())
	requireReleased(t, leaks, a)
}

// A part that fails ends the replica, and Err says which.
func TestAPartFails(t *testing.T) {
	dsn := newLab(t)
	leaks := goleak.IgnoreCurrent()
	a, err := New(Options{Config: load(t, "--database-dsn", dsn, "--etcd-endpoints", "http://127.0.0.1:1"), Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	require.NoError(t, a.Err(), "no part has failed yet")
	require.NoError(t, a.listener.Close())
	<-a.Done()
	require.ErrorIs(t, a.Err(), net.ErrClosed)
	require.ErrorContains(t, a.Err(), "serve metrics, health and status on "+a.Addr())
	require.ErrorIs(t, a.Stop(t.Context()), net.ErrClosed)
	requireReleased(t, leaks, a)
}

func TestStopWithoutStart(t *testing.T) {
	dsn := newLab(t)
	leaks := goleak.IgnoreCurrent()
	a := newApp(t, "--database-dsn", dsn)
	require.NoError(t, a.Stop(t.Context()))
	require.NoError(t, a.Stop(t.Context()))
	require.ErrorIs(t, a.Start(t.Context()), ErrStarted)
	requireReleased(t, leaks, a)
}

// Stop waits no longer than it may; the end comes all the same.
func TestStopInAHurry(t *testing.T) {
	etcd, dsn := testserver.Etcd(t), newLab(t)
	leaks := goleak.IgnoreCurrent()
	a := newApp(t, "--database-dsn", dsn, "--etcd-endpoints", etcd.Endpoint)
	require.NoError(t, a.Start(t.Context()))
	require.Eventually(t, func() bool { return leads(a) }, patience, 10*time.Millisecond)
	hurry, cancel := context.WithCancel(t.Context())
	cancel()
	err := a.Stop(hurry)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "has not handed over yet")
	require.NoError(t, a.Stop(t.Context()))
	require.NoError(t, a.Stop(hurry), "it has ended")
	requireReleased(t, leaks, a)
}

// openFiles are the files, sockets and pipes of this process.
func openFiles(t *testing.T) (out []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(target, "anon_inode") && !strings.HasPrefix(target, "/proc/") {
			out = append(out, target)
		}
	}
	return out
}

// TestBadInput: what New or Start refuse leaves nothing open.
func TestBadInput(t *testing.T) {
	dsn := newLab(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	empty := "sqlite:" + filepath.Join(t.TempDir(), "empty.db")
	db, err := store.Open(t.Context(), sqldb.Config{DSN: empty, Create: true})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	leaks, files := goleak.IgnoreCurrent(), openFiles(t)
	for name, c := range map[string]struct {
		args    []string
		want    error
		started bool
	}{
		"no database":         {[]string{"--database-dsn", "sqlite:/nowhere/lab.db"}, sqldb.ErrAccess, true},
		"no DSN":              {[]string{"--database-dsn", "nonsense"}, sqldb.ErrDSN, false},
		"not local":           {[]string{"--database-dsn", "u@tcp(db.example.com:3306)/lab"}, sqldb.ErrNotLocal, false},
		"not migrated":        {[]string{"--database-dsn", empty}, sqldb.ErrSchema, true},
		"no servers table":    {[]string{"--servers-dsn", empty}, sqldb.ErrSchema, true},
		"address taken":       {[]string{"--listen", taken.Addr().String()}, config.ErrConfig, false},
		"no certificate":      {[]string{"--etcd-ca-file", "/nowhere/ca.crt"}, config.ErrConfig, false},
		"no mail address":     {[]string{"--notify-to", "nobody@"}, config.ErrConfig, false},
		"no place for a file": {[]string{"--metrics-file", "/nowhere/metrics.prom"}, config.ErrConfig, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := New(Options{Config: load(t, append([]string{"--database-dsn", dsn, "--listen", "127.0.0.1:0"}, c.args...)...)})
			if c.started {
				require.NoError(t, err)
				require.NoError(t, a.Start(t.Context()))
				<-a.Done()
				err = a.Err()
			}
			require.ErrorIs(t, err, c.want)
			require.Equal(t, c.started, a != nil)
			require.ElementsMatch(t, files, openFiles(t))
		})
	}
	goleak.VerifyNone(t, leaks)
}
