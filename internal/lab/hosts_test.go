package lab_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

var root = access.Caller{Login: "root", Role: access.Admin}

// whole is the scope of a lab in one database.
func whole() store.Scope { return store.Scope{Shard: shard.Master, Shared: true} }

// TestHostEnteredByManyAtOnce: no key of the table keeps a hostname from being there twice.
func TestHostEnteredByManyAtOnce(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := lab.New(db, whole())
		ctx := context.Background()
		_, _, err := l.AddHost(ctx, root, labapi.HostInput{Hostname: "h0"})
		require.NoError(t, err)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() {
				_, _, errs[i] = l.AddHost(ctx, root, labapi.HostInput{Hostname: "h1", Labels: []string{"new"}})
			})
		}
		wg.Wait()
		entered := 0
		for _, err := range errs {
			if err == nil {
				entered++
				continue
			}
			require.True(t, errors.Is(err, lab.ErrExists), err)
		}
		require.Equal(t, 1, entered)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE hostname = 'h1'"))
	})
}

// TestStaticLabels: where the lab's inventory keeps labels, they are shown as such, count as
// the host's, and are not changed here.
func TestStaticLabels(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		scope := whole()
		scope.Rules.RespectStaticLabels = true
		l := lab.New(db, scope)
		ctx := context.Background()
		h, _, err := l.AddHost(ctx, root, labapi.HostInput{Hostname: "h1", Labels: []string{"board:eve", "pool:x"}})
		require.NoError(t, err)
		storetest.Exec(t, db, "INSERT INTO afe_static_labels (id, name, invalid, only_if_needed) VALUES (1, 'board:kevin', 0, 0)")
		storetest.Exec(t, db, "INSERT INTO afe_static_hosts_labels (host_id, staticlabel_id) VALUES (?, 1)", h.ID)
		storetest.Exec(t, db, "INSERT INTO afe_replaced_labels (label_id) SELECT id FROM afe_labels WHERE name = 'board:eve'")
		h, _, err = l.Host(ctx, "h1")
		require.NoError(t, err)
		require.Equal(t, []string{"pool:x", "board:kevin"}, h.Labels)
		require.Equal(t, []string{"board:kevin"}, h.StaticLabels)
		for label, want := range map[string]int{"board:eve": 0, "board:kevin": 1, "pool:x": 1} {
			found, err := l.Hosts(ctx, lab.HostFilter{Labels: []string{label}}, "", 10)
			require.NoError(t, err)
			require.Len(t, found.Items, want, label)
		}
		_, _, err = l.PatchHost(ctx, root, "h1", "*", labapi.HostPatch{AddLabels: []string{"board:eve"}})
		require.ErrorIs(t, err, lab.ErrConflict)
		_, _, err = l.PatchHost(ctx, root, "h1", "*", labapi.HostPatch{Labels: &[]string{"pool:y", "board:kevin"}})
		require.NoError(t, err)
		pools, err := l.Pools(ctx, "board:kevin")
		require.NoError(t, err)
		require.Equal(t, 1, pools[0].Have)
	})
}

// TestPools: every host of a label counts once, and every entry that waits for it.
func TestPools(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := lab.New(db, whole())
		ctx := context.Background()
		for i := range 5 {
			_, _, err := l.AddHost(ctx, root, labapi.HostInput{Hostname: fmt.Sprint("h", i), Labels: []string{"pool:x"}})
			require.NoError(t, err)
		}
		_, _, err := l.AddHost(ctx, root, labapi.HostInput{Hostname: "other", Labels: []string{"pool:y"}})
		require.NoError(t, err)
		storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 1 WHERE hostname IN ('h1', 'h2')")
		storetest.Exec(t, db, "UPDATE afe_hosts SET status = 'Repair Failed' WHERE hostname = 'h3'")
		_, _, err = l.HoldHost(ctx, root, "h2", lab.Hold{Action: labapi.ActionDrain, Reason: "x"})
		require.NoError(t, err)
		storetest.Exec(t, db, "INSERT INTO afe_jobs (id, owner, name, priority, created_on, synch_count, timeout, email_list, reboot_before, reboot_after, max_runtime_hrs, max_runtime_mins, timeout_mins) VALUES (1, 'root', 'j', 7, "+db.Dialect.Now+", 1, 1, '', 0, 0, 1, 1, 1)")
		storetest.Exec(t, db, "INSERT INTO afe_jobs_dependency_labels (job_id, label_id) SELECT 1, id FROM afe_labels WHERE name = 'pool:x'")
		storetest.Exec(t, db, "INSERT INTO afe_host_queue_entries (id, job_id, status, meta_host, active, complete, deleted, execution_subdir, aborted) SELECT 9, 1, 'Queued', id, 0, 0, 0, '', 0 FROM afe_labels WHERE name = 'pool:x'")
		pools, err := l.Pools(ctx, "")
		require.NoError(t, err)
		require.Len(t, pools, 2)
		pools[0].OldestWait = 0
		require.Equal(t, labapi.Pool{Label: "pool:x", Have: 5, Idle: 2, Running: 1, Held: 1, Broken: 1, Waiting: 1}, pools[0])
		require.Equal(t, labapi.Pool{Label: "pool:y", Have: 1, Idle: 1}, pools[1])

		storetest.Exec(t, db, "UPDATE afe_jobs SET priority = 70, created_on = '2019-04-01 10:00:00'")
		waiting, err := l.WaitingEntries(ctx)
		require.NoError(t, err)
		require.Len(t, waiting, 25)
		for which, n := range waiting {
			require.Equal(t, which == lab.Waiting{Priority: "60-79", Age: "1d and above"}, n == 1, which)
		}
		storetest.Exec(t, db, "UPDATE afe_jobs SET priority = 7")
		until := time.Now().Add(time.Hour)
		_, _, err = l.HoldHost(ctx, root, "h3", lab.Hold{Action: labapi.ActionLock, Reason: "x", Until: &until})
		require.NoError(t, err)
		holds, err := l.Holds(ctx)
		require.NoError(t, err)
		require.Equal(t, map[lab.Holding]int{{Kind: "lock"}: 1, {Kind: "lock", Overdue: true}: 0, {Kind: "drain"}: 1, {Kind: "drain", Overdue: true}: 0, {Kind: "bad"}: 0}, holds)
		storetest.Exec(t, db, "UPDATE hostsched_hosts SET lock_until = CASE WHEN lock_until > 0 THEN 1 END, drain_deadline = CASE WHEN drain_since > 0 THEN 1 END")
		holds, err = l.Holds(ctx)
		require.NoError(t, err)
		require.Equal(t, map[lab.Holding]int{{Kind: "lock"}: 0, {Kind: "lock", Overdue: true}: 1, {Kind: "drain"}: 0, {Kind: "drain", Overdue: true}: 1, {Kind: "bad"}: 0}, holds)

		// root is in no ACL group yet, so nobody may use the host.
		e, err := l.ExplainHost(ctx, "h4")
		require.NoError(t, err)
		require.False(t, e.Given && len(e.Users) == 0)
		_, err = l.AddUser(ctx, root, "ann")
		require.NoError(t, err)
		storetest.Exec(t, db, "UPDATE afe_jobs SET owner = 'ann'")
		e, err = l.ExplainHost(ctx, "h4")
		require.NoError(t, err)
		require.True(t, e.Given)
		require.Contains(t, e.Users, "ann")
		require.Equal(t, []labapi.WaitingFor{{Entry: 9, Job: 1, Owner: "ann", Priority: 7}}, e.Waiting)
		e, err = l.ExplainHost(ctx, "h2")
		require.NoError(t, err)
		require.False(t, e.Given)
		require.Contains(t, e.Text, "drained by root: x")
		e, err = l.ExplainHost(ctx, "other")
		require.NoError(t, err)
		require.Empty(t, e.Waiting)

		require.NoError(t, admin.New(db).PauseShard(ctx, shard.Master, "root", "power work", "power work"))
		e, err = l.ExplainHost(ctx, "h4")
		require.NoError(t, err)
		require.False(t, e.Given)
		require.Equal(t, []string{"the shard is paused: power work"}, e.Reasons)
	})
}

// BenchmarkHosts reads all pages of a lab of 10,000 hosts with eight labels each.
func BenchmarkHosts(b *testing.B) {
	for _, d := range storetest.Databases(b) {
		b.Run(d.Name, func(b *testing.B) {
			l := lab.New(storetest.NewLab(b, d.DSN(b)), whole())
			ctx := context.Background()
			in := make([]labapi.HostInput, 10_000)
			for i := range in {
				in[i] = labapi.HostInput{Hostname: fmt.Sprintf("host-%d", i), Labels: []string{fmt.Sprint("board:", i%40), fmt.Sprint("pool:", i%7), "wifi", "bluetooth", fmt.Sprint("sku:", i%300), fmt.Sprint("rack:", i%100), "touch", fmt.Sprint("build:", i%1000)}}
			}
			_, err := l.ImportHosts(ctx, root, in, false, false)
			require.NoError(b, err)
			for _, limit := range []int{1000, 10_000} {
				b.Run(fmt.Sprint(limit), func(b *testing.B) {
					for b.Loop() {
						seen, after := 0, ""
						for {
							p, err := l.Hosts(ctx, lab.HostFilter{}, after, limit)
							require.NoError(b, err)
							seen += len(p.Items)
							if after = p.After; after == "" {
								break
							}
						}
						require.Equal(b, len(in), seen)
					}
				})
			}
			b.Run("import that changes nothing", func(b *testing.B) {
				for b.Loop() {
					d, err := l.ImportHosts(ctx, root, in, false, false)
					require.NoError(b, err)
					require.Equal(b, len(in), d.Unchanged)
				}
			})
		})
	}
}
