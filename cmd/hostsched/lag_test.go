package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
)

// lagging is a server and its standby, which follows asynchronously, so that it may lack
// what was committed last; and a proxy that leads to one of them.
type lagging struct {
	primary, standby asRoot
	proxy            *testserver.Link
}

// newLagging makes a lab that the standby has, too.
func newLagging(t *testing.T) lagging {
	t.Helper()
	server := func(id int) asRoot {
		return asRoot{testserver.StartAnother(t, "--log-bin=binlog", "--binlog-format=ROW", fmt.Sprintf("--server-id=%d", id))}
	}
	l := lagging{primary: server(1), standby: server(2)}
	l.proxy = testserver.NewLink(t, l.primary.addr())
	storetest.Exec(t, l.primary, "CREATE USER follower@'127.0.0.1' IDENTIFIED BY 'sesame'")
	storetest.Exec(t, l.primary, "GRANT REPLICATION SLAVE ON *.* TO follower@'127.0.0.1'")
	if l.standby.Kind == testserver.MariaDB {
		storetest.Exec(t, l.standby, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %d, MASTER_USER = 'follower', MASTER_PASSWORD = 'sesame', MASTER_LOG_FILE = 'binlog.000001', MASTER_LOG_POS = 4", l.primary.Port))
	} else {
		storetest.Exec(t, l.standby, fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = %d, SOURCE_USER = 'follower', SOURCE_PASSWORD = 'sesame', SOURCE_LOG_FILE = 'binlog.000001', SOURCE_LOG_POS = 4, GET_SOURCE_PUBLIC_KEY = 1", l.primary.Port))
	}
	storetest.Exec(t, l.standby, "START "+l.follower())
	dsn, err := l.primary.Create("lab")
	require.NoError(t, err)
	db := storetest.NewLab(t, dsn)
	_, err = simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 40, Boards: 2, Suites: 4, Entries: 200})
	require.NoError(t, err)
	return l
}

// follower is what each kind of server calls the threads that follow another one.
func (l lagging) follower() string {
	if l.standby.Kind == testserver.MariaDB {
		return "SLAVE"
	}
	return "REPLICA"
}

// given are the entries that have a host and have not ended.
const givenQuery = "SELECT COUNT(*) FROM lab.afe_host_queue_entries WHERE host_id IS NOT NULL AND complete = 0"

// lag waits until the standby has assignments, and stops it from following.
func (l lagging) lag(t *testing.T) {
	t.Helper()
	l.primary.assigns(t, patience)
	require.Eventually(t, func() bool {
		var n int // the tables may not be there yet
		return l.standby.SQL().QueryRow(givenQuery).Scan(&n) == nil && n > 0
	}, patience, 20*time.Millisecond, "the standby follows")
	storetest.Exec(t, l.standby, "STOP "+l.follower())
}

// endJobs ends all jobs, so that others can have their hosts.
func (a asRoot) endJobs(t *testing.T) {
	t.Helper()
	storetest.Exec(t, a, "UPDATE lab.afe_special_tasks SET is_active = 0, is_complete = 1")
	storetest.Exec(t, a, "UPDATE lab.afe_host_queue_entries SET status = 'Completed', active = 0, complete = 1 WHERE host_id IS NOT NULL")
}

// failOver kills the primary and leads everybody to the standby, where hosts are free, too.
func (l lagging) failOver(t *testing.T) {
	t.Helper()
	require.NoError(t, l.primary.Kill())
	l.standby.endJobs(t)
	l.proxy.Point(t, l.standby.addr())
}

// second starts another replica beside one.
func (s *server) second(t *testing.T) *server {
	t.Helper()
	port, err := testserver.FreePort()
	require.NoError(t, err)
	other := *s
	other.name, other.listen, other.cmd = "second", fmt.Sprintf("127.0.0.1:%d", port), nil
	s.in.replicas = append(s.in.replicas, &other)
	t.Cleanup(func() { other.stop(t) })
	other.start(t)
	other.answers(t, "/readyz?state=follower", http.StatusOK, "the second replica stands by")
	return &other
}

// TestStandbyThatLagsBehind: the server of the database dies while its standby lacks what was
// committed last, and a proxy leads to the standby. Nothing is assigned there until a person
// has looked at the hosts that the lost assignments had; also if another replica had taken
// over meanwhile, of which the standby knows nothing either.
func TestStandbyThatLagsBehind(t *testing.T) {
	for name, c := range map[string]struct {
		beside   bool // another replica, which may take over when the leader loses its connections
		takeOver bool // the leader dies before the database
	}{
		"one replica":                   {},
		"two replicas":                  {beside: true},
		"two replicas, the leader dies": {beside: true, takeOver: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLagging(t)
			dsn := fmt.Sprintf("root@tcp(%s)/lab", l.proxy.Addr)
			leader := newReplica(t, dsn)
			leader.start(t)
			leader.leadsWithin(t, patience)
			l.lag(t)
			if c.beside {
				next := leader.second(t)
				if c.takeOver {
					leader.kill(t)
					next.leadsWithin(t, patience)
				}
			}
			l.primary.endJobs(t)
			l.primary.assigns(t, patience) // of which the standby knows nothing
			l.failOver(t)
			leader.in.pausesAfterLoss(t, l)
			require.Zero(t, storetest.Count(t, l.standby, givenQuery), "nothing is assigned")

			code, out := program(t, dsn, "check")
			require.Equal(t, exitFailed, code, out)
			require.Contains(t, out, "was given to this entry, and the database has lost that")
			code, out = program(t, dsn, "shard", "resume", "master", "--reason", "looked at the hosts", "--yes", "--etcd-endpoints", leader.endpoint, "--cluster", testCluster)
			require.Zero(t, code, out)
			l.standby.assigns(t, patience)
			_, out = program(t, dsn, "check")
			require.NotContains(t, out, "has lost that")
		})
	}
}

// pausesAfterLoss requires that whoever leads pauses the shard, once, and that this is said
// wherever people look.
func (in *installation) pausesAfterLoss(t *testing.T, l lagging) {
	t.Helper()
	began := time.Now()
	require.Eventually(t, func() bool {
		return storetest.Count(t, l.standby, "SELECT COUNT(*) FROM lab.hostsched_fence WHERE pause_reason LIKE 'the database lost commits%'") > 0
	}, patience, 10*time.Millisecond, "the shard is paused")
	t.Logf("paused after %v", time.Since(began).Round(time.Millisecond))
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(in.replicas, func(s *server) bool {
			st, ok := s.status()
			return ok && st.State == replica.StateLeader && strings.Contains(st.Paused, "the database lost commits")
		})
	}, patience, 10*time.Millisecond, "the status of the leader says why")
	alive := slices.DeleteFunc(slices.Clone(in.replicas), func(s *server) bool { return s.cmd.ProcessState != nil })
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var noticed float64
		for _, s := range alive {
			times, ok := s.readCounter(ofMaster("hostsched_lost_commits_total"))
			require.True(c, ok, "%s tells its metrics", s.name)
			if times > 0 {
				require.Contains(c, s.log(t), "the database lost commits")
			}
			noticed += times
		}
		require.EqualValues(c, 1, noticed)
	}, patience, 20*time.Millisecond)
	require.Equal(t, 1, storetest.Count(t, l.standby, "SELECT COUNT(*) FROM lab.hostsched_audit WHERE action = 'commits lost'"))
}
