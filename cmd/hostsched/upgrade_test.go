package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/shard"
)

// maxGap is how long a shard may go without a tick in a rolling upgrade.
const maxGap = time.Second

// TestRollingUpgrade replaces the replicas of one version by those of the next,
// one by one, under load: the next version has a newer schema and another format
// in etcd, and both run side by side for a while.
func TestRollingUpgrade(t *testing.T) {
	next := filepath.Join(t.TempDir(), "hostsched-next")
	build := exec.Command("go", "build", "-tags", "hostsched_next", "-o", next, ".")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	in := newInstallation(t, failoverLab, 3, withShards(3, 3), asAutotests)
	stop := in.simulate(t, busy)
	in.spread(t, 4, 2)
	in.requireHostsAtHome(t)

	// The next version refuses a database that was not migrated, and the first
	// of it migrates while the old ones continue.
	gaps := in.watchTicks(t)
	refused := exec.Command(next, "serve", "--database-dsn", in.dsn, "--etcd-endpoints", in.endpoint, "--listen", "127.0.0.1:0")
	refused.Env = append(refused.Environ(), "HOSTSCHED_DATABASE_DSN="+in.dsn)
	refused.Args = append(refused.Args[:2], refused.Args[4:]...)
	out, err = refused.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "run 'hostsched migrate up'")
	migrate := exec.Command(next, "migrate", "up")
	migrate.Env = append(migrate.Environ(), "HOSTSCHED_DATABASE_DSN="+in.dsn)
	out, err = migrate.CombinedOutput()
	require.NoError(t, err, "%s", out)

	// An old replica can still be restarted in between.
	in.restart(t, in.replicas[0])
	for _, s := range in.replicas {
		s.program = next
		in.restart(t, s)
	}
	in.spread(t, 4, 2)
	worst := gaps()
	for name, gap := range worst {
		t.Logf("%s: longest time between two ticks %v", name, gap.Round(time.Millisecond))
		require.Less(t, gap, maxGap, "shard %s", name)
	}
	stop()
	in.requireNothingTwice(t)
	in.requireOrderedEpochs(t)
}

// asAutotests makes a lab look like Autotest's own, so that a migration does not
// put the guard back: what keeps the leaders apart is the fence alone.
func asAutotests(t *testing.T, in *installation) {
	_, err := in.db.SQL().Exec("DROP TABLE hostsched_lab_schema")
	require.NoError(t, err)
}

// restart stops a replica in an orderly way, starts it again, and waits until it
// has settled and leads its part.
func (in *installation) restart(t *testing.T, s *server) {
	t.Helper()
	s.stop(t)
	s.start(t)
	in.followersReady(t)
	in.spread(t, 4, 2)
}

// watchTicks looks at all shards until the returned function is called, which
// returns the longest time without a finished tick by shard. It looks at each replica apart,
// because one that does not answer must not hide the ticks of the others.
func (in *installation) watchTicks(t *testing.T) func() map[shard.Name]time.Duration {
	t.Helper()
	var mu sync.Mutex
	ticks := map[shard.Name][]time.Time{}
	look := func(s *server) {
		all := s.all()
		mu.Lock()
		defer mu.Unlock()
		for name, st := range all {
			if !st.LastTick.IsZero() {
				ticks[name] = append(ticks[name], st.LastTick)
			}
		}
	}
	stop := make(chan struct{})
	var watching sync.WaitGroup
	for _, s := range in.replicas {
		watching.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
					look(s)
				}
			}
		})
	}
	return func() map[shard.Name]time.Duration {
		close(stop)
		watching.Wait()
		worst := map[shard.Name]time.Duration{}
		for name, all := range ticks {
			worst[name] = longestGap(all)
		}
		return worst
	}
}

// longestGap is the longest time between two moments that follow each other, in whatever order
// they were seen: the last tick of a former leader may be seen after the first of the next one.
func longestGap(all []time.Time) (gap time.Duration) {
	slices.SortFunc(all, time.Time.Compare)
	for i := 1; i < len(all); i++ {
		gap = max(gap, all[i].Sub(all[i-1]))
	}
	return gap
}
