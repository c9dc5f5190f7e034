package sqldb_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store/sqldb"
)

func TestOpenRefusesBadInput(t *testing.T) {
	server := testserver.Shared(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := silent.Addr().String()
	require.NoError(t, silent.Close())
	dir := t.TempDir()
	for name, c := range map[string]struct {
		cfg  sqldb.Config
		want error
		text string
	}{
		"empty":          {sqldb.Config{}, sqldb.ErrDSN, "empty"},
		"no slash":       {sqldb.Config{DSN: "root:sesame@tcp(localhost)"}, sqldb.ErrDSN, "slash"},
		"brackets":       {sqldb.Config{DSN: "root:sesame@tcp(localhost/x"}, sqldb.ErrDSN, ""},
		"no database":    {sqldb.Config{DSN: "root:sesame@tcp(localhost:3306)/"}, sqldb.ErrDSN, "database name"},
		"port":           {sqldb.Config{DSN: "root:sesame@tcp(localhost:65536)/x"}, sqldb.ErrDSN, "from 1 to 65535"},
		"no port":        {sqldb.Config{DSN: "root:sesame@tcp(localhost:0)/x"}, sqldb.ErrDSN, "from 1 to 65535"},
		"no path":        {sqldb.Config{DSN: "sqlite:"}, sqldb.ErrDSN, "file path"},
		"not local":      {sqldb.Config{DSN: "root:sesame@tcp(db.example.com:3306)/afe"}, sqldb.ErrNotLocal, "--production"},
		"not local ip":   {sqldb.Config{DSN: "root:sesame@tcp(10.1.2.3:3306)/afe"}, sqldb.ErrNotLocal, "--production"},
		"nobody listens": {sqldb.Config{DSN: "root:sesame@tcp(" + closed + ")/afe"}, sqldb.ErrUnreachable, "address"},
		"no such user":   {sqldb.Config{DSN: server.DSN("mysql", "nobody", "sesame")}, sqldb.ErrAccess, "password"},
		"no such schema": {sqldb.Config{DSN: server.DSN("nowhere", "root", "")}, sqldb.ErrAccess, "database name"},
		"no such folder": {sqldb.Config{DSN: "sqlite:" + filepath.Join(dir, "missing", "lab.db"), Create: true}, sqldb.ErrAccess, "folder"},
		"no such file":   {sqldb.Config{DSN: "sqlite:" + filepath.Join(dir, "lab.db")}, sqldb.ErrAccess, "migrate up"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, err := sqldb.Open(t.Context(), c.cfg)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
			storetest.RequireOneLine(t, err)
			require.Less(t, time.Since(began), 10*time.Second)
		})
	}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, files, "nothing was written")
}

func TestHasPassword(t *testing.T) {
	for dsn, want := range map[string]bool{
		"root:x@tcp(localhost)/a": true, "root@tcp(localhost)/a": false, "sqlite:x.db": false, "nonsense": false,
	} {
		require.Equal(t, want, sqldb.HasPassword(dsn), fmt.Sprintf("%q", dsn))
	}
}

func TestSessionVariablesAreOurs(t *testing.T) {
	server := testserver.Shared(t)
	options := "?sql_mode=%27%27&SQL_safe_updates=1&autocommit=0&time_zone=%27%2B05:00%27&charset=latin1"
	db, err := sqldb.Open(t.Context(), sqldb.Config{DSN: server.DSN("mysql", "root", "") + options})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	var mode, charset string
	var safe, autocommit, zone bool
	require.NoError(t, db.Pool.QueryRowContext(t.Context(), `SELECT @@sql_mode, @@character_set_client,
		@@sql_safe_updates, @@autocommit, @@time_zone = @@global.time_zone`).Scan(&mode, &charset, &safe, &autocommit, &zone))
	require.Equal(t, "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION", mode)
	require.Equal(t, "utf8mb4", charset)
	require.False(t, safe, "sql_safe_updates")
	require.True(t, autocommit, "autocommit")
	require.True(t, zone, "time_zone")
}
