package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
)

// runsLease is how long claims last in these tests. Runs are given up after twice that.
const runsLease = 4 * time.Second

// runsLab is three replicas with an agent, whose hosts are folders.
type runsLab struct {
	*installation
	// dir has what jobs and tasks write: a file for each.
	dir   string
	agent *exec.Cmd
	token string
}

func newRunsLab(t *testing.T, dsn string, lease time.Duration) *runsLab {
	t.Helper()
	l := &runsLab{dir: shortDir(t)}
	sockets := 0
	l.installation = newInstallationOn(t, dsn, simlab.Spec{}, 3, func(_ *testing.T, in *installation) {
		in.args = []string{"--runner", "agents", "--runs-lease", lease.String()}
		in.prepareServer = func(s *server) {
			sockets++
			s.args = []string{"--api-socket", l.path(fmt.Sprint("socket", sockets))}
		}
	})
	l.followersReady(t)
	require.Eventually(t, func() bool {
		code, _, _ := runCommand(t, "user", "add", "root", "--server", "unix:"+l.path("socket1"))
		return code == exitOK
	}, patience, 50*time.Millisecond)
	code, _, errs := runCommand(t, "role", "add", "user", "root", "admin", "--server", "unix:"+l.path("socket1"))
	require.Zero(t, code, errs)
	code, token, errs := runCommand(t, "token", "create", "root", "--login", "root", "--role", "admin", "--server", "unix:"+l.path("socket1"))
	require.Zero(t, code, errs)
	l.token = strings.TrimSpace(token)
	l.command(t, "host", "add", "h1", "-l", "board:eve")
	require.NoError(t, os.WriteFile(l.path("join"), []byte(l.command(t, "agent", "add", "rack", "--host", "h1")), 0o600))
	tasks := map[string][]string{}
	for _, task := range []string{"cleanup", "reset"} {
		tasks[task] = []string{"/bin/sh", "-c", "echo " + task + " $HOSTSCHED_EPOCH >> " + l.path("tasks")}
	}
	config, err := json.Marshal(map[string]any{
		"name": "rack", "servers": l.servers(), "join_token_file": l.path("join"), "token_file": l.path("token"), "spool": l.path("spool"), "capacity": 4,
		"drivers": []any{map[string]any{"driver": "exec", "tasks": tasks}},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.path("agent.yaml"), config, 0o600))
	l.agent = l.begin(t, "agent", "agent", "--config", l.path("agent.yaml"))
	t.Cleanup(func() {
		require.NoError(t, l.agent.Process.Signal(syscall.SIGTERM))
		_ = l.agent.Wait() // how it ends is not the point
	})
	return l
}

func (l *runsLab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *runsLab) servers() (all []string) {
	for _, s := range l.replicas {
		all = append(all, "http://"+s.listen)
	}
	return all
}

// process is a command line of the program as a process of its own, for all servers.
func (l *runsLab) process(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "HOSTSCHED_SERVER="+strings.Join(l.servers(), ","), "HOSTSCHED_TOKEN="+l.token, "LAB="+l.dir)
	return cmd
}

// begin starts a process whose output is in the files of a name, .out and .err.
func (l *runsLab) begin(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := l.process(args...)
	files := make([]*os.File, 2)
	for i, end := range []string{".out", ".err"} {
		file, err := os.Create(l.path(name + end))
		require.NoError(t, err)
		files[i] = file
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	require.NoError(t, cmd.Start())
	for _, file := range files {
		require.NoError(t, file.Close())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s says:\n%s", name, l.read(name+".err"))
		}
	})
	return cmd
}

// command is a command that ends well, and returns what it prints.
func (l *runsLab) command(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := l.process(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), "%v: %s", args, &errs)
	return strings.TrimSpace(out.String())
}

func (l *runsLab) read(name string) string {
	text, _ := os.ReadFile(l.path(name)) // none is empty
	return string(text)
}

// has waits until a file has a text.
func (l *runsLab) has(t *testing.T, name, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(l.read(name), text) }, patience, 20*time.Millisecond, "%s has %q", name, text)
}

// submit submits a job for the agent's host.
func (l *runsLab) submit(t *testing.T, script string) (id string) {
	t.Helper()
	spec, err := json.Marshal(labapi.JobSpec{Name: "a job", Labels: []string{"board:eve"}, Script: strings.ReplaceAll(script, "$LAB", l.dir)})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.path("job.json"), spec, 0o600))
	return l.command(t, "job", "submit", l.path("job.json"))
}

// runsOf are those of a job of one kind.
func (l *runsLab) runsOf(t *testing.T, job, kind string) (of []labapi.Run) {
	t.Helper()
	var all []labapi.Run
	require.NoError(t, json.Unmarshal([]byte(l.command(t, "job", "runs", job, "-o", "json")), &all))
	for _, r := range all {
		if r.Kind == kind {
			of = append(of, r)
		}
	}
	return of
}

// becomes waits until a job has a state. Commands may fail while the servers are busy.
func (l *runsLab) becomes(t *testing.T, job string, state labapi.JobState) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		out, err := l.process("job", "show", job, "-o", "json").Output()
		require.NoError(c, err)
		var j labapi.Job
		require.NoError(c, json.Unmarshal(out, &j))
		require.Equal(c, state, j.State)
	}, patience, 100*time.Millisecond)
}

// atRest waits until the host is free, and nothing is left to do on it.
func (l *runsLab) atRest(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		return storetest.Count(t, l.db, "SELECT COUNT(*) FROM afe_hosts WHERE status = 'Ready' AND leased = 0 AND NOT EXISTS (SELECT 1 FROM afe_special_tasks WHERE is_complete = 0)") == 1
	}, patience, 20*time.Millisecond)
}

// TestRunsOnThreeServers is a lab whose servers and claimants die: what runs is run once, and its
// host comes back.
func TestRunsOnThreeServers(t *testing.T) {
	l := newRunsLab(t, testserver.Database(t), runsLease)
	for _, part := range []struct {
		name string
		test func(*runsLab, *testing.T)
	}{
		{"a run goes on while one server after the other is killed", (*runsLab).serversDieInTurn},
		{"the host of a claimant that was killed comes back, and is reset first", (*runsLab).claimantDies},
		{"what all servers together are away for is neither lost nor run twice", (*runsLab).allServersAreAway},
	} {
		require.True(t, t.Run(part.name, func(t *testing.T) { part.test(l, t) }))
		l.atRest(t)
	}
	l.requireNothingTwice(t)
}

func (l *runsLab) serversDieInTurn(t *testing.T) {
	l.runsOnceWhile(t, "first", func() {
		leader, _ := l.leaderIn(t, anyPhase()...)
		for _, s := range append([]*server{leader}, l.replicas...) {
			s.kill(t)
			time.Sleep(runsLease / 4) // how long it is away is the point
			s.start(t)
			l.followersReady(t)
		}
	})
}

// runsOnceWhile runs a job of a name while something happens to the servers: it is begun once,
// passes, and its log is whole, for those who follow it, too.
func (l *runsLab) runsOnceWhile(t *testing.T, name string, happens func()) {
	t.Helper()
	job := l.submit(t, strings.ReplaceAll(`echo begins >> $LAB/NAME; i=0; while [ ! -e $LAB/NAME.go ]; do echo line $((i=i+1)); sleep 0.05; done; echo $i > $LAB/NAME.lines; echo the end`, "NAME", name))
	l.has(t, name, "begins")
	id := strconv.FormatInt(l.runsOf(t, job, "job")[0].ID, 10)
	follower := l.begin(t, name+".follower", "job", "logs", "-f", job, "--run", id, "--stream", "stdout")
	l.has(t, name+".follower.out", "line 1\n")
	happens()
	require.NoError(t, os.WriteFile(l.path(name+".go"), nil, 0o600))
	require.NoError(t, follower.Wait())
	l.becomes(t, job, labapi.JobPassed)
	require.Equal(t, "begins\n", l.read(name))
	runs := l.runsOf(t, job, "job")
	require.Len(t, runs, 1)
	require.Equal(t, "done passed", runs[0].State+" "+runs[0].Result)

	lines, err := strconv.Atoi(strings.TrimSpace(l.read(name + ".lines")))
	require.NoError(t, err)
	var want strings.Builder
	for i := range lines {
		fmt.Fprintln(&want, "line", i+1)
	}
	want.WriteString("the end\n")
	require.Equal(t, want.String(), l.command(t, "job", "logs", job, "--run", id, "--stream", "stdout")+"\n")
	require.Equal(t, want.String(), l.read(name+".follower.out"), "whoever follows misses nothing, and gets nothing twice")
}

func (l *runsLab) claimantDies(t *testing.T) {
	first := l.begin(t, "own", "run", "-l", "board:eve", "--", "sh", "-c", `echo $$ > $LAB/pid; echo $HOSTSCHED_EPOCH > $LAB/epoch; exec sleep 600`)
	l.has(t, "epoch", "\n")
	require.NoError(t, os.WriteFile(l.path("tasks"), nil, 0o600))
	require.NoError(t, first.Process.Kill())
	_ = first.Wait() // it was killed
	pid, err := strconv.Atoi(strings.TrimSpace(l.read("pid")))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, patience, 20*time.Millisecond, "its command does not outlive it")

	next := l.command(t, "run", "-l", "board:eve", "--", "sh", "-c", `cat $LAB/tasks; echo job $HOSTSCHED_EPOCH`)
	epoch, err := strconv.Atoi(strings.TrimSpace(l.read("epoch")))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("reset %d\nreset %d\njob %d", epoch+1, epoch+2, epoch+3), next, "because of what was lost, and because every job begins with one")
}

func (l *runsLab) allServersAreAway(t *testing.T) {
	lost := "SELECT COUNT(*) FROM hostsched_runs WHERE state = 'lost'"
	before := storetest.Count(t, l.db, lost)
	job := l.submit(t, `echo begins >> $LAB/second; exec sleep 600`)
	l.has(t, "second", "begins")
	var group sync.WaitGroup
	for _, s := range l.replicas {
		group.Go(func() { _ = s.cmd.Process.Kill() })
	}
	group.Wait()
	for _, s := range l.replicas {
		s.wait(t)
	}
	time.Sleep(3 * runsLease) // longer than after which a run is given up
	for _, s := range l.replicas {
		s.start(t)
	}
	l.followersReady(t)
	l.becomes(t, job, labapi.JobFailed)
	require.Equal(t, before, storetest.Count(t, l.db, lost), "nobody is to blame but the servers")
	runs := l.runsOf(t, job, "job")
	require.Len(t, runs, 1)
	require.Equal(t, "done infra lease-lost", strings.Join([]string{runs[0].State, runs[0].Result, runs[0].StopReason}, " "))
	l.atRest(t)
	require.Equal(t, "begins\n", l.read("second"), "it is not run twice")
}

// TestRunsOnThreeServersWhoseDatabaseIsRestarted: what runs goes on while the database is away,
// and while a leader is killed, too.
func TestRunsOnThreeServersWhoseDatabaseIsRestarted(t *testing.T) {
	database := testserver.StartAnother(t)
	dsn, err := database.Create("lab")
	require.NoError(t, err)
	// A claim outlasts the start of a database on a busy machine.
	l := newRunsLab(t, dsn, time.Minute)
	l.runsOnceWhile(t, "restart", func() {
		require.NoError(t, database.Kill())
		require.NoError(t, database.Restart())
		l.followersReady(t)
	})
	l.runsOnceWhile(t, "both", func() {
		leader, _ := l.leaderIn(t, anyPhase()...)
		leader.kill(t)
		require.NoError(t, database.Kill())
		require.NoError(t, database.Restart())
		leader.start(t)
		l.followersReady(t)
	})
	l.atRest(t)
	require.Zero(t, storetest.Count(t, l.db, "SELECT COUNT(*) FROM hostsched_runs WHERE state = 'lost'"))
	l.requireNothingTwice(t)
}
