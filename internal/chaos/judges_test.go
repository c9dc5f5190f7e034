package main

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// judged is a lab with histories on one connection, as one leader has.
func judged(t *testing.T) *chaos {
	t.Helper()
	db, err := store.Open(t.Context(), sqldb.Config{DSN: testserver.Database(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SQL().SetMaxOpenConns(1)
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	c := &chaos{db: db, journal: &journal{began: time.Now()}}
	require.NoError(t, c.exec(t.Context(), "ALTER TABLE afe_host_queue_entries DROP KEY hostsched_one_active_entry_per_host"))
	require.NoError(t, c.installHistory(t.Context()))
	spec := labSpec
	spec.Hosts, spec.Suites, spec.Entries = 16, 2, 20
	c.lab, err = simlab.Create(t.Context(), db.SQL(), spec)
	require.NoError(t, err)
	require.NoError(t, c.exec(t.Context(), "INSERT INTO hostsched_fence (shard, epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer) VALUES ('master', 7, 7, '', 'r', NOW(), 0, '', 0, '')"))
	return c
}

const (
	fenced = "UPDATE hostsched_fence SET ticks = ticks + 1"
	take1  = "UPDATE afe_host_queue_entries SET active = 1, host_id = 1 WHERE id = 1"
	end1   = "UPDATE afe_host_queue_entries SET active = 0, complete = 1 WHERE id = 1"
	take2  = "UPDATE afe_host_queue_entries SET active = 1, host_id = 1 WHERE id = 2"
)

// TestJudgesFindEachViolation: a history in which nothing is wrong is judged so,
// and each kind of violation is found by the judge that is there for it.
func TestJudgesFindEachViolation(t *testing.T) {
	type verdict struct{ twice, interleaved, former, lost int64 }
	for name, test := range map[string]struct {
		texts  []string
		want   verdict
		linear porcupine.CheckResult
	}{
		"nothing wrong":            {[]string{fenced, take1, end1, fenced, take2}, verdict{}, porcupine.Ok},
		"taken while taken":        {[]string{fenced, take1, fenced, take2}, verdict{twice: 2}, porcupine.Illegal},
		"taken without the fence":  {[]string{take1}, verdict{former: 1}, porcupine.Ok},
		"taken under a past epoch": {[]string{fenced, "UPDATE hostsched_fence SET epoch = 8", take1}, verdict{former: 1}, porcupine.Ok},
		"epochs interleave": {
			[]string{"UPDATE hostsched_fence SET epoch = 8", fenced, take1, end1, "UPDATE hostsched_fence SET epoch = 7", fenced, take2},
			verdict{interleaved: 1}, porcupine.Illegal,
		},
		"an assignment is gone": {[]string{fenced, take1, "UPDATE afe_host_queue_entries SET active = 0, host_id = NULL WHERE id = 1"}, verdict{lost: 1}, porcupine.Ok},
		"an entry was deleted":  {[]string{"DELETE FROM afe_host_queue_entries WHERE id = 1"}, verdict{}, porcupine.Ok},
		"an entry is gone":      {[]string{"DROP TRIGGER chaos_delete", "DELETE FROM afe_host_queue_entries WHERE id = 1"}, verdict{lost: 1}, porcupine.Ok},
	} {
		t.Run(name, func(t *testing.T) {
			c := judged(t)
			for _, text := range test.texts {
				require.NoError(t, c.exec(t.Context(), text))
			}
			r, err := c.judgeHistory(t.Context())
			require.NoError(t, err)
			require.Equal(t, test.want, verdict{r.AssignedTwice, r.EpochsInterleaved, r.TakesUnderFormerEpoch, r.EntriesLost})
			require.Equal(t, test.linear, r.linear)
		})
	}
}

// TestRunnableJobs: of a lab that is asked for runnable jobs, each job's labels are
// those of a host.
func TestRunnableJobs(t *testing.T) {
	c := judged(t)
	n, err := c.number(t.Context(), `SELECT COUNT(*) FROM afe_jobs j JOIN afe_host_queue_entries q ON q.job_id = j.id WHERE NOT EXISTS (
		SELECT 1 FROM afe_hosts h WHERE (q.host_id IS NULL OR q.host_id = h.id) AND NOT EXISTS (
			SELECT 1 FROM afe_jobs_dependency_labels d JOIN afe_labels n ON n.id = d.label_id WHERE d.job_id = j.id AND n.name NOT LIKE 'cros-version:%'
			AND NOT EXISTS (SELECT 1 FROM afe_hosts_labels l WHERE l.host_id = h.id AND l.label_id = d.label_id)))`)
	require.NoError(t, err)
	require.Zero(t, n)
	all, err := c.number(t.Context(), "SELECT COUNT(*) FROM afe_host_queue_entries")
	require.NoError(t, err)
	require.GreaterOrEqual(t, all, int64(20))
}

// TestMendInOrder: what needs the database is mended after what keeps it from working,
// and everything else in its time.
func TestMendInOrder(t *testing.T) {
	second := func(n int) time.Duration { return time.Duration(n) * time.Second }
	struck := []*broken{
		{what: "command", use: byCommand, hold: second(1)}, {what: "stopped", use: stopsServer, hold: second(4)},
		{what: "locked", use: locksThings, hold: second(2)}, {what: "cut", hold: second(3)}, {what: "long", hold: second(9)},
	}
	mendInOrder(struck)
	var order []string
	for _, b := range struck {
		order = append(order, b.what)
	}
	require.Equal(t, []string{"cut", "stopped", "locked", "command", "long"}, order)
	require.Greater(t, struck[2].hold, struck[1].hold)
	require.Less(t, struck[3].hold, second(5))
}
