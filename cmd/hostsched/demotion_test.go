package main

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
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

// assigns waits until any entry has a host.
func (a asRoot) assigns(t *testing.T, within time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool {
		return storetest.Count(t, a, "SELECT COUNT(*) FROM lab.afe_host_queue_entries WHERE host_id IS NOT NULL") > 0
	}, within, 20*time.Millisecond, "an entry gets a host")
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
	proxy.LeadTo(t, next.addr())
	switched := time.Now()
	next.assigns(t, leftWithin+testTTL)
	t.Logf("an entry got a host from the new server after %v", time.Since(switched).Round(time.Millisecond))

	require.Eventually(t, func() bool { return time.Since(switched) > leftWithin }, patience, 50*time.Millisecond)
	storetest.Exec(t, former, "SET GLOBAL log_output = 'TABLE'")
	storetest.Exec(t, former, "SET GLOBAL general_log = 1")
	st, ok := s.status()
	require.True(t, ok)
	require.Eventually(t, func() bool {
		now, ok := s.status()
		return ok && now.Ticks > st.Ticks+10
	}, patience, 50*time.Millisecond)
	require.Zero(t, storetest.Count(t, former, "SELECT COUNT(*) FROM mysql.general_log WHERE user_host LIKE 'sched%'"), "statements on the former server")
	require.Zero(t, storetest.Count(t, former, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'sched' AND COMMAND <> 'Sleep'"))
}
