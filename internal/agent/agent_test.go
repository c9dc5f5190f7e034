package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/agent"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/shim"
)

// TestMain is also the agent, the shim and the ssh of tests, in processes of their own.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || !strings.HasPrefix(os.Args[1], "as-") {
		os.Exit(m.Run())
	}
	os.Exit(asProgram(os.Args[1], os.Args[2]))
}

func asProgram(what, arg string) int {
	var err error
	switch what {
	case "as-shim":
		err = shim.Run(arg)
	case "as-ssh":
		var status int
		status, err = agent.SSHStep(context.Background(), arg, os.Stdout, os.Stderr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return status
	case "as-agent":
		var cfg *agent.Config
		if cfg, err = agent.Read(arg); err == nil {
			err = program(cfg).Run(context.Background())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func program(cfg *agent.Config) *agent.Agent {
	a := agent.New(cfg)
	a.Shim, a.SSH = []string{"/proc/self/exe", "as-shim"}, []string{"/proc/self/exe", "as-ssh"}
	if exe, err := os.Executable(); err == nil {
		a.Shim[0], a.SSH[0] = exe, exe
	}
	return a
}

func lines(text []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(string(text)) {
			if !yield(strings.TrimRight(line, "\n")) {
				return
			}
		}
	}
}

// machine is that of an agent.
type machine struct {
	t      *testing.T
	lab    *lab
	dir    string
	config string
}

const execDriver = "drivers: [{driver: exec}]"

func newMachine(t *testing.T, l *lab, more string) *machine {
	dir := t.TempDir()
	m := &machine{t: t, lab: l, dir: dir, config: filepath.Join(dir, "agent.yaml")}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "join"), []byte("hsj_join\n"), 0o600))
	m.configure(more)
	t.Cleanup(m.killAll)
	return m
}

func (m *machine) configure(more string) {
	text := fmt.Sprintf("name: a1\nservers: [%s]\njoin_token_file: %s/join\ntoken_file: %s/token\nspool: %s/spool\n%s\n", m.lab.server.URL, m.dir, m.dir, m.dir, more)
	require.NoError(m.t, os.WriteFile(m.config, []byte(text), 0o600))
}

// killAll leaves nothing behind after a test that failed.
func (m *machine) killAll() {
	folders, _ := filepath.Glob(m.dir + "/spool/runs/*")
	for _, f := range folders {
		_ = shim.Folder(f).Kill()
	}
}

func (m *machine) folder(run int64) shim.Folder {
	return shim.Folder(filepath.Join(m.dir, "spool", "runs", strconv.FormatInt(run, 10)))
}

// serving is an agent in this process.
type serving struct {
	end  context.CancelFunc
	done chan error
}

func (m *machine) serve() *serving {
	m.t.Helper()
	cfg, err := agent.Read(m.config)
	require.NoError(m.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	s := &serving{end: cancel, done: make(chan error, 1)}
	go func() { s.done <- program(cfg).Run(ctx) }()
	m.t.Cleanup(func() {
		cancel()
		_ = s.result(m.t) // the test looked at it if it is about that
	})
	return s
}

func (s *serving) result(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.done:
		s.done <- err
		return err
	case <-time.After(bound):
		require.Fail(t, "the agent does not end")
		return nil
	}
}

// process starts an agent as a process of its own.
func (m *machine) process() *exec.Cmd {
	m.t.Helper()
	exe, err := os.Executable()
	require.NoError(m.t, err)
	cmd := exec.Command(exe, "as-agent", m.config)
	cmd.Stderr = os.Stderr
	require.NoError(m.t, cmd.Start())
	m.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func job(id int64, script string) offered {
	return offered{
		Offer:    labapi.Offer{Kind: "job", Job: id, Entries: []int64{id}, Hosts: []string{fmt.Sprintf("h%d", id)}},
		manifest: labapi.Manifest{Kind: "job", Job: id, Name: "j", Owner: "ada", Script: script, GraceMillis: 500, LogCap: 1 << 20},
	}
}

// pid waits for a file in which a script wrote the number of a process.
func (m *machine) pid(run int64, file string) int {
	m.t.Helper()
	var pid int
	require.Eventually(m.t, func() bool {
		text, err := os.ReadFile(filepath.Join(m.folder(run).Work(), file))
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	}, bound, 5*time.Millisecond)
	return pid
}

func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func gone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return !alive(pid) }, bound, 5*time.Millisecond, "process %d lives on", pid)
}

func TestAJobRunsWithItsLogsAndEndsWithItsResult(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	m.serve()
	o := job(7, `echo "$HOSTSCHED_HOST $HOSTSCHED_HOSTS $HOSTSCHED_JOB $HOSTSCHED_RUN $HOSTSCHED_EPOCH $COLOR"; pwd; env | grep -i -e token -e hsa_ -e hsr_; printf '\033[31m\000\377' >&2; echo '{"tests_failed":2,"text":"two fail"}' >result.json; exit 3`)
	o.Hosts = []string{"h1", "h2"}
	o.manifest.Env = map[string]string{"COLOR": "red", "HOSTSCHED_EPOCH": "99"}
	l.offer(o)
	run := l.finished(1)
	require.Equal(t, "h1 h1 h2 7 1 1 1 red\n"+m.folder(1).Work()+"\n", string(run.logs["stdout"]))
	require.Equal(t, "\x1b[31m\x00\xff", string(run.logs["stderr"]))
	three := 3
	require.Len(t, run.finish.Streams, 2)
	require.EqualValues(t, len(run.logs["stdout"]), run.finish.Streams[0].Size)
	run.finish.Streams = nil
	require.Equal(t, labapi.RunFinish{Result: "failed", ExitCode: &three, TestsFailed: 2, Detail: "two fail"}, *run.finish)
	require.Eventually(t, func() bool { _, err := os.Stat(string(m.folder(1))); return errors.Is(err, os.ErrNotExist) }, bound, 5*time.Millisecond)
	token, err := os.ReadFile(filepath.Join(m.dir, "token"))
	require.NoError(t, err)
	require.Equal(t, "hsa_new\n", string(token))
	info, err := os.Stat(filepath.Join(m.dir, "token"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// TestAJobBeginsOnlyWhenTheServersKnow: what the servers were never told of they may give to
// somebody else, so its process must not have begun.
func TestAJobBeginsOnlyWhenTheServersKnow(t *testing.T) {
	l := newLab(t)
	l.deaf = true
	m := newMachine(t, l, execDriver)
	m.serve()
	trace := filepath.Join(t.TempDir(), "trace")
	l.offer(job(7, "touch "+trace))
	run := l.finished(1)
	require.Equal(t, "not-announced", run.finish.NotRunReason)
	require.Equal(t, labapi.ResultInfra, run.finish.Result)
	require.NoFileExists(t, trace)
}

func TestHowACommandEndsIsKeptApart(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, "capacity: 20\n"+execDriver)
	m.serve()
	number := func(n int) *int { return &n }
	cases := []struct {
		script string
		want   labapi.RunFinish
	}{
		{"exit 0", labapi.RunFinish{Result: "passed", ExitCode: number(0)}},
		{"exit 63", labapi.RunFinish{Result: "failed", ExitCode: number(63)}},
		{"exit 69", labapi.RunFinish{Result: "unusable", ExitCode: number(69)}},
		{"exit 75", labapi.RunFinish{Result: "infra", ExitCode: number(75)}},
		{"exit 124", labapi.RunFinish{Result: "failed", ExitCode: number(124)}},
		{"exit 200", labapi.RunFinish{Result: "failed", ExitCode: number(200)}},
		{"exit 255", labapi.RunFinish{Result: "failed", ExitCode: number(255)}},
		{"kill -9 $$", labapi.RunFinish{Result: "failed", Signal: number(9)}},
		{"kill -SEGV $$", labapi.RunFinish{Result: "failed", Signal: number(11)}},
		{"#!/no/such/interpreter\n", labapi.RunFinish{Result: "failed", ExitCode: number(127), NotRunReason: "not-started"}},
		{"#!/etc/passwd\n", labapi.RunFinish{Result: "failed", ExitCode: number(126), NotRunReason: "not-started"}},
	}
	for i, c := range cases {
		o := job(int64(i+1), c.script)
		o.manifest.Name = strconv.Itoa(i)
		l.offer(o)
	}
	for id := range int64(len(cases)) {
		run := l.finished(id + 1)
		i, err := strconv.Atoi(run.claimed.Manifest.Name)
		require.NoError(t, err)
		got := *run.finish
		got.Streams, got.Detail = nil, ""
		require.Equal(t, cases[i].want, got, cases[i].script)
		if got.NotRunReason != "" {
			require.NotEmpty(t, run.finish.Detail)
		}
	}
}

func TestTasksAreCommandsOfTheLab(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, `drivers:
  - {label: odd, driver: exec, tasks: {verify: [sh, -c, "echo odd {host}; exit 1"]}}
  - {driver: exec, tasks: {verify: [sh, -c, "echo plain {host} {epoch}"], repair: ["{dir}/none"], fence: [sh, -c, "echo fence {host}"]}}`)
	m.serve()
	task := func(id int64, kind string, labels ...string) offered {
		return offered{
			Offer:    labapi.Offer{Kind: kind, Task: id, Hosts: []string{fmt.Sprintf("h%d", id)}},
			manifest: labapi.Manifest{Kind: kind, Task: id, GraceMillis: 100, LogCap: 1 << 20}, labels: labels,
		}
	}
	l.offer(task(1, "Verify", "odd"))
	run := l.finished(1)
	require.Equal(t, "failed", run.finish.Result)
	require.Equal(t, "odd h1\n", string(run.logs["stdout"]))

	fenced := task(2, "Verify")
	fenced.manifest.Fence = true
	l.offer(fenced)
	run = l.finished(2)
	require.Equal(t, "passed", run.finish.Result)
	require.Equal(t, "fence h2\nplain h2 2\n", string(run.logs["stdout"]))

	l.offer(task(3, "Reset"))
	run = l.finished(3)
	require.Equal(t, "passed", run.finish.Result, "a task without command is done at once")
	require.Nil(t, run.finish.ExitCode)

	l.offer(task(4, "Repair"))
	run = l.finished(4)
	require.Equal(t, "infra", run.finish.Result, "a command that is gone is no fault of the host")
	require.Equal(t, "not-started", run.finish.NotRunReason)
}

func TestAnAgentThatIsKilledGoesOnWithItsRuns(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	first := m.process()
	l.offer(job(1, "echo $$ >pid; for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; sleep 0.1; done; while ! [ -e go ]; do sleep 0.01; done; echo end; exit 5"))
	l.says(1, "line 3")
	require.NoError(t, first.Process.Kill())
	_ = first.Wait()
	pid := m.pid(1, "pid")
	require.True(t, alive(pid), "the run goes on without an agent")
	require.NoError(t, os.WriteFile(filepath.Join(m.folder(1).Work(), "go"), nil, 0o600))
	gone(t, pid)
	m.process()
	run := l.finished(1)
	require.Equal(t, 5, *run.finish.ExitCode)
	require.Equal(t, "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nline 7\nline 8\nline 9\nline 10\nend\n", string(run.logs["stdout"]))
	require.False(t, run.lost)
}

func TestAnAgentThatEndsLeavesItsRunsToTheNext(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	first := m.serve()
	l.offer(job(1, "echo $$ >pid; echo ready; while ! [ -e go ]; do sleep 0.01; done; exit 4"))
	l.says(1, "ready")
	first.end()
	require.NoError(t, first.result(t))
	require.True(t, alive(m.pid(1, "pid")))
	m.serve()
	require.NoError(t, os.WriteFile(filepath.Join(m.folder(1).Work(), "go"), nil, 0o600))
	require.Equal(t, 4, *l.finished(1).finish.ExitCode)
}

// stubborn ignores requests to end, also in a child and in a daemon with a session and an
// environment of its own.
const stubborn = `trap '' TERM; sleep 1000 & echo $! >child; setsid env -i sh -c 'trap "" TERM; echo $$ >daemon; while :; do sleep 1; done' & echo $$ >pid; echo ready; while :; do sleep 0.05; done`

func (m *machine) stubborns(run int64) []int {
	return []int{m.pid(run, "pid"), m.pid(run, "child"), m.pid(run, "daemon")}
}

func TestWhatIgnoresTheEndIsKilled(t *testing.T) {
	for _, cgroup := range []string{"off", "auto"} {
		t.Run("cgroup "+cgroup, func(t *testing.T) {
			l := newLab(t)
			m := newMachine(t, l, "cgroup: "+cgroup+"\n"+execDriver)
			m.serve()
			l.offer(job(1, stubborn))
			l.says(1, "ready")
			pids := m.stubborns(1)
			l.change(func() { l.runs[1].stop = &labapi.Stop{Run: 1, Reason: "aborted", GraceMillis: 300} })
			run := l.finished(1)
			for _, pid := range pids {
				require.False(t, alive(pid), "a run is over only when nothing of it is left")
			}
			require.Equal(t, "aborted", run.finish.StopReason)
			require.Equal(t, "failed", run.finish.Result)
			require.Equal(t, 9, *run.finish.Signal)
		})
	}
}

func TestTimesOver(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	m.serve()
	o := job(1, "sleep 1000")
	o.manifest.HardMillis = 200
	l.offer(o)
	o = job(2, "while :; do echo x; sleep 0.1; [ -e ../2 ] && break; done & sleep 0.5; kill $!; sleep 1000")
	o.manifest.OutputMillis = 400
	l.offer(o)
	reasons := map[int64]string{1: "timeout", 2: "timeout-output"}
	for id := range int64(2) {
		run := l.finished(id + 1)
		require.Equal(t, reasons[run.claimed.Manifest.Job], run.finish.StopReason)
		require.Equal(t, "failed", run.finish.Result)
	}
}

func TestNothingOfARunLivesLongerThanItsLease(t *testing.T) {
	short := func(t *testing.T) (*lab, *machine) {
		l := newLab(t)
		l.lease = 3 * time.Second
		return l, newMachine(t, l, execDriver)
	}
	// dies waits for the end of a run that began before a time.
	dies := func(t *testing.T, m *machine, pids []int, from time.Time) {
		for _, pid := range pids {
			gone(t, pid)
		}
		require.Less(t, time.Since(from), m.lab.lease)
	}
	t.Run("the network is cut", func(t *testing.T) {
		l, m := short(t)
		m.serve()
		l.offer(job(1, stubborn))
		l.says(1, "ready")
		pids := m.stubborns(1)
		l.change(func() { l.away = true })
		dies(t, m, pids, time.Now())
		l.change(func() { l.away, l.runs[1].lost = false, true })
		require.Eventually(t, func() bool { _, err := os.Stat(string(m.folder(1))); return err != nil }, bound, 10*time.Millisecond)
	})
	t.Run("the agent is stopped", func(t *testing.T) {
		l, m := short(t)
		p := m.process()
		l.offer(job(1, stubborn))
		l.says(1, "ready")
		pids := m.stubborns(1)
		require.NoError(t, p.Process.Signal(syscall.SIGSTOP))
		dies(t, m, pids, time.Now())
		require.NoError(t, p.Process.Signal(syscall.SIGCONT))
		require.Equal(t, "infra lease-lost", l.finished(1).finish.Result+" "+l.finished(1).finish.StopReason)
	})
	t.Run("the shim is stopped", func(t *testing.T) {
		l, m := short(t)
		m.serve()
		l.offer(job(1, stubborn))
		l.says(1, "ready")
		pids := m.stubborns(1)
		began, ok := m.folder(1).Began()
		require.True(t, ok)
		require.NoError(t, syscall.Kill(began.Shim, syscall.SIGSTOP))
		l.change(func() { l.away = true })
		dies(t, m, append(pids, began.Shim), time.Now())
		l.change(func() { l.away = false })
		run := l.finished(1)
		require.Equal(t, "infra", run.finish.Result)
		require.Equal(t, "lease-lost", run.finish.StopReason)
	})
	t.Run("the agent is killed", func(t *testing.T) {
		l, m := short(t)
		p := m.process()
		l.offer(job(1, stubborn))
		l.says(1, "ready")
		pids := m.stubborns(1)
		require.NoError(t, p.Process.Kill())
		dies(t, m, pids, time.Now())
	})
}

func TestAShimThatIsKilledTakesItsRunAlong(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	m.serve()
	l.offer(job(1, "sleep 1000 & echo $! >child; setsid sleep 1000 & echo $! >daemon; echo $$ >pid; echo ready; wait"))
	l.says(1, "ready")
	pids := m.stubborns(1)
	began, _ := m.folder(1).Began()
	require.NoError(t, syscall.Kill(began.Shim, syscall.SIGKILL))
	run := l.finished(1)
	for _, pid := range pids {
		require.False(t, alive(pid))
	}
	require.Equal(t, "infra", run.finish.Result)
	require.NotEmpty(t, run.finish.Detail)
}

func TestRunsOfAMachineThatWasStartedAgainAreForgotten(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	first := m.serve()
	l.offer(job(1, "echo $$ >pid; echo ready; sleep 1000"))
	l.says(1, "ready")
	first.end()
	require.NoError(t, first.result(t))
	require.True(t, m.folder(1).Kill())
	claim := m.folder(1).Path("claim.json")
	text, err := os.ReadFile(claim)
	require.NoError(t, err)
	var record map[string]any
	require.NoError(t, json.Unmarshal(text, &record))
	record["boot"] = "another"
	text, err = json.Marshal(record)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(claim, text, 0o600))
	m.serve()
	l.until(1, "is not given up", func(r labRun) bool { return r.lost })
	require.NoDirExists(t, string(m.folder(1)))
}

func TestFoldersThatNoRunOwnsAreEmptied(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	first := m.serve()
	l.offer(job(1, stubborn))
	l.says(1, "ready")
	first.end()
	require.NoError(t, first.result(t))
	pids := m.stubborns(1)
	require.NoError(t, os.Remove(m.folder(1).Path("claim.json")))
	m.serve()
	for _, pid := range pids[:2] {
		gone(t, pid)
	}
	require.Eventually(t, func() bool { _, err := os.Stat(string(m.folder(1))); return err != nil }, bound, 10*time.Millisecond)
}
