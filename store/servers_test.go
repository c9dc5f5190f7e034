package store_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// testServer is one of the databases that every conformance test runs on.
type testServer struct {
	name string
	dsn  func(t testing.TB) string
}

var (
	sqlite = testServer{"sqlite", func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "lab.db") }}
	// sqlServer is the MariaDB or MySQL server of this run.
	sqlServer testServer
	servers   []testServer
)

// chooseServers follows HOSTSCHED_TEST_DATABASE.
func chooseServers() error {
	kind, err := testserver.Chosen()
	sqlServer = testServer{string(kind), testserver.Database}
	switch kind {
	case testserver.SQLite:
		servers = []testServer{sqlite}
	case testserver.MySQL:
		servers = []testServer{sqlServer}
	default:
		servers = []testServer{sqlite, sqlServer}
	}
	return err
}

// onEveryServer runs a test on each database, in an empty lab of its own.
func onEveryServer(t *testing.T, test func(t *testing.T, db *store.DB)) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) { test(t, s.lab(t)) })
	}
}

// lab opens an empty, migrated database.
func (s testServer) lab(t testing.TB) *store.DB {
	t.Helper()
	db := open(t, s.dsn(t))
	_, err := schema.Up(context.Background(), db.DB, schema.Options{})
	require.NoError(t, err)
	return db
}

// txTimeout is short so that tests of its expiry are.
const txTimeout = 2 * time.Second

func open(t testing.TB, dsn string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), sqldb.Config{DSN: dsn, TxTimeout: txTimeout, Create: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func takeOver(t testing.TB, db *store.DB, name shard.Name, token int64) *store.Leader {
	t.Helper()
	l, err := db.TakeOver(context.Background(), store.Claim{Shard: name, Token: token, Cluster: "test", Holder: "replica"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func removeGuard(t testing.TB, db *store.DB) {
	t.Helper()
	require.NoError(t, schema.RemoveGuard(context.Background(), db.DB))
}
