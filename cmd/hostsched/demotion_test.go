package main

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store/sqldb"
)

// leftWithin is how long a replica may go on using a server to which the address of
// its database does not lead any more.
const leftWithin = 5 * time.Second

// twin is a server with a small lab, of which replicas may only change the rows.
func twin(t *testing.T) *testserver.Server {
	t.Helper()
	s := testserver.StartAnother(t)
	dsn, err := s.Create("lab")
	require.NoError(t, err)
	db := storetest.NewLab(t, dsn)
	_, err = simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 40, Boards: 2, Suites: 4, Entries: 50})
	require.NoError(t, err)
	for _, text := range []string{"CREATE USER sched@'127.0.0.1' IDENTIFIED BY 'sesame'", "GRANT SELECT, INSERT, UPDATE, DELETE ON lab.* TO sched@'127.0.0.1'", "GRANT PROCESS ON *.* TO sched@'127.0.0.1'"} {
		storetest.Exec(t, asRoot{s}, text)
	}
	return s
}

// asRoot lets helpers use root's connections.
type asRoot struct{ *testserver.Server }

func (a asRoot) SQL() *sql.DB { return a.Admin() }

func (a asRoot) addr() string { return fmt.Sprintf("127.0.0.1:%d", a.Port) }

// assigns waits until an entry has a host that it still uses.
func (a asRoot) assigns(t *testing.T, within time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool {
		return storetest.Count(t, a, "SELECT COUNT(*) FROM lab.afe_host_queue_entries WHERE host_id IS NOT NULL AND complete = 0") > 0
	}, within, 20*time.Millisecond, "an entry gets a host")
}

// follows makes the lab the same as another server's, as it is with a standby that has
// lost nothing, and then ends all jobs, so that waiting entries get hosts.
func (a asRoot) follows(t *testing.T, former asRoot) {
	t.Helper()
	conn, err := a.SQL().Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	exec := func(text string, args ...any) {
		_, err := conn.ExecContext(t.Context(), text, args...)
		require.NoError(t, err, text)
	}
	exec("SET foreign_key_checks = 0")
	for _, table := range texts(t, former, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'lab'") {
		exec("DELETE FROM lab." + table)
		columns, rows := former.rows(t, table)
		into := "INSERT INTO lab." + table + " (`" + strings.Join(columns, "`, `") + "`) VALUES (" + strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ") + ")"
		for _, row := range rows {
			exec(into, row...)
		}
	}
	exec("UPDATE lab.afe_special_tasks SET is_active = 0, is_complete = 1")
	exec("UPDATE lab.afe_host_queue_entries SET status = 'Completed', active = 0, complete = 1 WHERE host_id IS NOT NULL")
	exec("SET foreign_key_checks = 1")
}

// rows are all rows of a table.
func (a asRoot) rows(t *testing.T, table string) (columns []string, out [][]any) {
	t.Helper()
	rows, err := a.SQL().QueryContext(t.Context(), "SELECT * FROM lab."+table)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	columns, err = rows.Columns()
	require.NoError(t, err)
	for rows.Next() {
		row, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			targets[i] = &row[i]
		}
		require.NoError(t, rows.Scan(targets...))
		out = append(out, row)
	}
	require.NoError(t, rows.Err())
	return columns, out
}

// texts are the values of a query.
func texts(t *testing.T, a asRoot, query string) (out []string) {
	t.Helper()
	require.NoError(t, sqldb.EachRow(t.Context(), a.SQL(), query, nil, func(scan sqldb.Scanner) error {
		var text string
		err := scan(&text)
		out = append(out, text)
		return err
	}))
	return out
}

// TestTheDatabaseFailsOver demotes a server behind a proxy while its connections
// stay open. A quiet leader only reads, so no statement of it fails.
func TestTheDatabaseFailsOver(t *testing.T) {
	former, next := asRoot{twin(t)}, asRoot{twin(t)}
	proxy := testserver.NewLink(t, former.addr())
	s := newReplica(t, "sched:sesame@tcp("+proxy.Addr+")/lab")
	s.start(t)
	former.assigns(t, patience)
	s.leadsWithin(t, patience)

	storetest.Exec(t, former, "SET GLOBAL read_only = 1")
	next.follows(t, former)
	proxy.LeadTo(t, next.addr())
	switched := time.Now()
	next.assigns(t, leftWithin+testTTL)
	t.Logf("an entry got a host from the new server after %v", time.Since(switched).Round(time.Millisecond))
	require.Regexp(t, fmt.Sprintf("the address of the database leads to another server.* is=.*port=%d", next.Port), s.log(t))

	require.Eventually(t, func() bool { return time.Since(switched) > leftWithin }, patience, 50*time.Millisecond)
	storetest.Exec(t, former, "SET GLOBAL log_output = 'TABLE'")
	storetest.Exec(t, former, "SET GLOBAL general_log = 1")
	st := s.mustStatus(t)
	require.Eventually(t, func() bool {
		now, ok := s.status()
		return ok && now.Ticks > st.Ticks+10
	}, patience, 50*time.Millisecond)
	require.Zero(t, storetest.Count(t, former, "SELECT COUNT(*) FROM mysql.general_log WHERE user_host LIKE 'sched%'"), "statements on the former server")
	require.Zero(t, storetest.Count(t, former, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'sched' AND COMMAND <> 'Sleep'"))
}
