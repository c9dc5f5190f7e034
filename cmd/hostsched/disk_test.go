package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
)

// TestDiskOfTheDatabaseIsFull: what the database has no room for is not done at all, the log
// says why, and once there is room everything goes on by itself.
func TestDiskOfTheDatabaseIsFull(t *testing.T) {
	disk := testserver.NewDisk(t, 400)
	db := asRoot{testserver.StartOn(t, disk, smallLog(testserver.Shared(t).Kind))}
	dsn, err := db.Create("lab")
	require.NoError(t, err)
	lab := storetest.NewLab(t, dsn)
	_, err = simlab.Create(t.Context(), lab.SQL(), simlab.Spec{Seed: 1, Hosts: 200, Boards: 2, Suites: 4, Entries: 3000})
	require.NoError(t, err)
	history, err := simlab.InstallHistory(t.Context(), lab.SQL(), false)
	require.NoError(t, err)
	storetest.Exec(t, lab, "UPDATE afe_hosts SET locked = 1 WHERE id % 2 = 0")
	s := newReplica(t, dsn)
	s.start(t)
	db.assigns(t, patience)
	s.leadsWithin(t, patience)

	disk.Fill(t)
	// The tables have a little room themselves.
	for err = nil; err == nil; {
		_, err = lab.SQL().ExecContext(t.Context(), "INSERT INTO lab_history (event, host_id, entry_id) SELECT 'none', 0, 0 FROM afe_hosts")
	}
	require.ErrorContains(t, err, "is full")
	before := storetest.Count(t, db, givenQuery)
	storetest.Exec(t, lab, "UPDATE afe_hosts SET locked = 0")
	require.Eventually(t, func() bool {
		code, ready, ok := s.get("/readyz")
		return ok && code == http.StatusServiceUnavailable && strings.Contains(ready, "is full")
	}, patience, 10*time.Millisecond, "readyz says why nothing is assigned")
	require.Contains(t, s.log(t), "is full")
	require.Equal(t, before, storetest.Count(t, db, givenQuery), "what failed has left nothing behind")

	disk.Free(t)
	require.Eventually(t, func() bool { return storetest.Count(t, db, givenQuery) >= 2*before }, patience, 20*time.Millisecond, "entries get the other hosts")
	twice, err := history.AssignedTwice(t.Context(), 0)
	require.NoError(t, err)
	require.Zero(t, twice)
}

// smallLog makes the log of a server, which is made at once, fit on a small disk.
func smallLog(kind testserver.Kind) string {
	if kind == testserver.MariaDB {
		return "--innodb-log-file-size=16M"
	}
	return "--innodb-redo-log-capacity=16M"
}

// TestDiskOfAServerIsFull: a server whose member of etcd finds no room for its data says so,
// hands over, and ends; the others lead. Once there is room it takes part again.
func TestDiskOfAServerIsFull(t *testing.T) {
	_, all := newMembers(t)
	disks := map[*member]*testserver.Disk{}
	for _, m := range all {
		disks[m] = testserver.NewDisk(t, 300)
		m.folder = filepath.Join(disks[m].Dir, "etcd")
		m.run(t, all)
	}
	leader := leaderOf(t, all, patience)
	for _, m := range all {
		require.Eventually(t, m.ready, patience, 10*time.Millisecond, m.name)
	}
	rest := slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m == leader })

	disks[leader].Fill(t)
	// etcd has some room of its own, so it notices only when that is used up.
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{rest[0].client, rest[1].client}, Logger: zap.NewNop()})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	value := strings.Repeat("x", 1<<20)
	for i := 0; !strings.Contains(leader.log(t), "no space left on device"); i++ {
		require.Less(t, i, 100, "the member of the leader finds no room")
		_, _ = client.Put(t.Context(), fmt.Sprintf("ballast/%d", i), value) // fails if nobody leads etcd any more
	}
	full := time.Now()
	next := leaderOf(t, rest, embeddedFailover)
	t.Logf("%s leads after %v", next.name, time.Since(full).Round(time.Millisecond))
	require.Equal(t, exitFailed, leader.exits(t, patience))

	disks[leader].Free(t)
	leader.start(t)
	require.Eventually(t, leader.ready, patience, 10*time.Millisecond, "it takes part again")
}

// TestDiskOfTheLogIsFull: what cannot be logged is not logged, and nothing else.
func TestDiskOfTheLogIsFull(t *testing.T) {
	dsn := testserver.Database(t)
	db := storetest.NewLab(t, dsn)
	_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 40, Boards: 2, Suites: 4, Entries: 50})
	require.NoError(t, err)
	s := newReplica(t, dsn)
	require.NoError(t, os.Symlink("/dev/full", filepath.Join(s.in.logDir, s.name)))
	s.start(t)
	s.leadsWithin(t, patience)
	require.Eventually(t, func() bool {
		return storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE host_id IS NOT NULL") > 0
	}, patience, 20*time.Millisecond, "an entry gets a host")
}

// TestDiskOfAStandaloneLabIsFull: what a lab in one file has no room for is refused, with the
// word that nothing was written, which is so; once there is room everything goes on.
func TestDiskOfAStandaloneLabIsFull(t *testing.T) {
	disk := testserver.NewDisk(t, 200)
	s := newStandalone(t)
	s.cmd = disk.Enter(exec.Command(os.Args[0], "serve", "--standalone", "--data-dir", filepath.Join(disk.Point, "lab"), "--listen", s.listen))
	s.cmd.Env = append(os.Environ(), asProgram+"=1")
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	require.NoError(t, s.cmd.Start())
	s.leads(t)
	t.Setenv("HOSTSCHED_SERVER", "http://"+s.listen)
	token := filepath.Join(disk.Dir, "lab", "admin.token")
	hosts := func() string {
		code, out, errs := runCommand(t, "host", "list", "-o", "name", "--token-file", token)
		require.Equal(t, exitOK, code, errs)
		return out
	}
	attributes := strings.Repeat("x", 200)
	add := func(name string) (code int, errs string) {
		code, _, errs = runCommand(t, "host", "add", name, "-l", "new:"+name, "--attribute", "a="+attributes, "--token-file", token)
		return code, errs
	}
	code, errs := add("before")
	require.Equal(t, exitOK, code, errs)
	disk.Fill(t)
	refused := 0
	for i := 0; refused < 5; i++ {
		require.Less(t, i, 500, "the disk is full")
		before := hosts()
		code, errs := add(fmt.Sprint("h", i))
		if code == exitOK {
			continue // the files have a little room themselves
		}
		refused++
		require.Contains(t, errs, "the database has no room")
		require.Contains(t, errs, "nothing was written")
		require.Equal(t, before, hosts())
	}
	disk.Free(t)
	code, errs = add("after")
	require.Equal(t, exitOK, code, errs)
	require.Equal(t, exitOK, s.end(t, syscall.SIGTERM))
}

// TestDiskOfAStandaloneLabIsFullInMidRun: what a job writes waits with its agent while the
// servers have no room for it, and arrives whole, as its result does, once there is room. The
// server says meanwhile what is wrong.
func TestDiskOfAStandaloneLabIsFullInMidRun(t *testing.T) {
	disk := testserver.NewDisk(t, 200)
	l := &runLab{standalone: newStandalone(t), t: t, home: t.TempDir()}
	l.cmd = disk.Enter(exec.Command(os.Args[0], "serve", "--standalone", "--data-dir", filepath.Join(disk.Point, "lab"), "--listen", l.listen, "--api-rate", "0"))
	l.cmd.Env = append(os.Environ(), asProgram+"=1")
	l.cmd.Stdout, l.cmd.Stderr = l.out, l.out
	require.NoError(t, l.cmd.Start())
	l.dir = filepath.Join(disk.Dir, "lab")
	l.leads(t)
	l.joinAgent()
	// What it writes while the disk is full is more than the files have room for themselves.
	job := l.submit(map[string]any{"script": `echo begins; until [ -e $HOME_OF_TEST/full ]; do sleep 0.05; done; head -c 5000000 /dev/zero | tr '\0' x; echo; echo ends; touch $HOME_OF_TEST/ended; exit 3`, "env": map[string]string{"HOME_OF_TEST": l.home}})
	l.prints("begins\n", "job", "logs", job)
	disk.Fill(t)
	require.NoError(t, os.WriteFile(filepath.Join(l.home, "full"), nil, 0o600))
	require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(l.home, "ended")); return err == nil }, patience, 10*time.Millisecond, "the job ends all the same")
	address := "http://" + l.listen
	const says = "the database has no room"
	shows := func(it bool) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, address+"/v1/status", nil)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			_, text, ok := askOnce(apiClient, req)
			return ok && strings.Contains(string(text), says) == it
		}, patience, 50*time.Millisecond, "whether the status says it: %v", it)
	}
	shows(true)
	require.Regexp(t, `hostsched_background_failures_total\{work="sweeps"\} [1-9]`, string(answersWith(t, address+"/metrics", http.StatusOK)))
	require.Contains(t, l.said(t), says)
	require.Contains(t, l.must("job", "show", job, "-o", "json"), `"state": "running"`, "its end waits for its log")

	disk.Free(t)
	shown := l.ended(job)
	require.Equal(t, labapi.JobFailed, shown.State)
	require.Equal(t, 3, *shown.Runs[0].ExitCode)
	require.Len(t, shown.Runs, 1)
	require.Equal(t, "begins\n"+strings.Repeat("x", 5000000)+"\nends\n", l.must("job", "logs", job))
	shows(false)
}
