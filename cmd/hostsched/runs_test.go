package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// runLab is a standalone lab with an agent on this machine, as processes.
type runLab struct {
	*standalone
	t     *testing.T
	home  string
	agent *exec.Cmd
}

func newRunLab(t *testing.T) *runLab {
	t.Helper()
	l := &runLab{standalone: newStandalone(t), t: t, home: t.TempDir()}
	l.start(t, "--api-rate", "0")
	l.leads(t)
	l.joinAgent()
	return l
}

// joinAgent starts an agent that serves two new hosts.
func (l *runLab) joinAgent() {
	t := l.t
	t.Helper()
	l.must("host", "add", "h1", "h2", "--label", "board:eve")
	join := l.must("agent", "add", "rack-1", "--host", "h1,h2")
	require.NoError(t, os.WriteFile(filepath.Join(l.home, "join"), []byte(join), 0o600))
	text := fmt.Sprintf("name: rack-1\nservers: [http://%s]\njoin_token_file: %[2]s/join\ntoken_file: %[2]s/token\nspool: %[2]s/spool\ndrivers: [{driver: exec}]\n", l.listen, l.home)
	require.NoError(t, os.WriteFile(filepath.Join(l.home, "agent.yaml"), []byte(text), 0o600))
	l.agent = l.process("agent", "--config", filepath.Join(l.home, "agent.yaml"))
}

func (l *runLab) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "HOSTSCHED_SERVER=http://"+l.listen, "HOSTSCHED_TOKEN="+l.adminToken(l.t))
	return cmd
}

// process is a command that goes on.
func (l *runLab) process(args ...string) *exec.Cmd {
	l.t.Helper()
	cmd := l.command(args...)
	cmd.Stdout, cmd.Stderr = l.out, l.out
	require.NoError(l.t, cmd.Start())
	l.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return cmd
}

// said is what a command wrote, and its exit code.
func (l *runLab) call(args ...string) (stdout, stderr string, code int) {
	l.t.Helper()
	cmd := l.command(args...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	_ = cmd.Run() // the code tells
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

func (l *runLab) must(args ...string) string {
	l.t.Helper()
	out, stderr, code := l.call(args...)
	require.Zero(l.t, code, "%v: %s%s", args, out, stderr)
	return out
}

// prints waits until a command prints a text, and nothing else. It may fail while the servers are
// busy.
func (l *runLab) prints(text string, args ...string) {
	l.t.Helper()
	l.printsWhat(func(out string) bool { return out == text }, args...)
}

// printsWhat waits until a command ends well and prints what is right.
func (l *runLab) printsWhat(right func(out string) bool, args ...string) (out string) {
	l.t.Helper()
	require.Eventually(l.t, func() bool {
		var code int
		out, _, code = l.call(args...)
		return code == exitOK && right(out)
	}, patience, 50*time.Millisecond, "what %v prints", args)
	return out
}

// submit submits a job for a host of the agent.
func (l *runLab) submit(spec map[string]any) string {
	l.t.Helper()
	spec["name"], spec["labels"], spec["reset"], spec["cleanup"] = "j", []string{"board:eve"}, false, false
	text, err := json.Marshal(spec)
	require.NoError(l.t, err)
	file := filepath.Join(l.t.TempDir(), "job.json")
	require.NoError(l.t, os.WriteFile(file, text, 0o600))
	return strings.TrimSpace(l.must("job", "submit", file, "-o", "name"))
}

// ended waits for the end of a job, and returns how it is shown.
func (l *runLab) ended(job string) (shown struct {
	labapi.Job
	Runs []labapi.Run `json:"runs"`
}) {
	l.t.Helper()
	l.call("job", "wait", job, "--wait-timeout", patience.String())
	require.NoError(l.t, json.Unmarshal([]byte(l.must("job", "show", job, "-o", "json")), &shown))
	return shown
}

const junitReport = `<testsuite name="boot"><testcase name="up" time="1.5"/><testcase name="wifi"><failure message="no link">at line 7</failure></testcase><testcase name="modem"><skipped/></testcase></testsuite>`

// TestResultsAndFilesOfJobs come from the folder of a job to whoever asks for them.
func TestResultsAndFilesOfJobs(t *testing.T) {
	l := newRunLab(t)
	job := l.submit(map[string]any{
		"script":  "mkdir out; printf '" + junitReport + "' >out/r.xml; head -c 3000000 /dev/urandom >out/core; sha256sum <out/core; ln -s /etc/passwd out/link; exit 1",
		"results": "junit", "artifacts": []string{"out/*"},
	})
	shown := l.ended(job)
	require.Equal(t, labapi.JobFailed, shown.State)
	require.Len(t, shown.Runs, 1)
	run := shown.Runs[0]
	require.Equal(t, []int{3, 1, 1}, []int{run.Tests, run.TestsFailed, *run.ExitCode})
	require.Empty(t, run.Detail)
	require.NotNil(t, run.Started)
	require.NotNil(t, run.Closed)
	text := l.must("job", "show", job)
	require.Contains(t, text, "3, 1 failed")
	require.Contains(t, text, "failed boot.wifi: no link")

	var tests []testOfRun
	require.NoError(t, json.Unmarshal([]byte(l.must("job", "results", job, "-o", "json")), &tests))
	require.Equal(t, []testOfRun{
		{run.ID, labapi.TestResult{Name: "boot.up", Status: "passed", Millis: 1500}},
		{run.ID, labapi.TestResult{Name: "boot.wifi", Status: "failed", Message: "no link\nat line 7"}},
		{run.ID, labapi.TestResult{Name: "boot.modem", Status: "skipped"}},
	}, tests)
	require.Equal(t, "boot.wifi\n", l.must("job", "results", job, "--status", "failed", "-o", "name"))
	require.Equal(t, "out/core\nout/r.xml\n", l.must("job", "artifacts", job, "-o", "name"))
	require.Equal(t, junitReport, l.must("job", "artifacts", job, "--get", "out/r.xml"))
	to := filepath.Join(t.TempDir(), "to")
	l.must("job", "artifacts", job, "--to", to)
	core, err := os.ReadFile(filepath.Join(to, strconv.FormatInt(run.ID, 10), "out", "core"))
	require.NoError(t, err)
	require.Len(t, core, 3000000)
	_, stderr, code := l.call("job", "artifacts", job, "--get", "none")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, `no run of job `+job+` left a file "none"`)
	_, stderr, code = l.call("job", "results", job, "--status", "broken")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "passed, failed, skipped, error")

	// A mistake in them is said with the run, which passes all the same.
	for _, c := range []struct{ form, script, detail string }{
		{"junit", `printf '<!DOCTYPE x [<!ENTITY a "a">]><testsuite><testcase name="&a;"/>' >r.xml`, "results: r.xml: this is not in the form of results: junit, line 1: invalid character entity &a;"},
		{"junit", "true", "results: no file **/*.xml has results in the form of junit"},
		{"tap", "echo 1..3; echo ok 1 - a", "results: output: this is not in the form of results: tap: 3 tests were planned, and 1 ran"},
	} {
		shown := l.ended(l.submit(map[string]any{"script": c.script, "results": c.form}))
		require.Equal(t, labapi.JobPassed, shown.State, c.script)
		require.Equal(t, c.detail, shown.Runs[0].Detail, "%s: %+v", c.script, shown.Runs)
	}
}

// TestLogsOfJobs are followed while they come, whatever happens to the server.
func TestLogsOfJobs(t *testing.T) {
	l := newRunLab(t)
	job := l.submit(map[string]any{
		"script":  `printf '\033[31mred\033[0m \000\377\n'; echo "$KEY"; touch "$STOP.began"; until [ -e "$STOP" ]; do sleep 0.05; done; echo last; exit 3`,
		"env":     map[string]string{"STOP": filepath.Join(l.home, "stop")},
		"secrets": map[string]string{"KEY": "hunter2hunter2"},
	})
	follow := l.command("job", "logs", "-f", job)
	out, err := os.Create(filepath.Join(t.TempDir(), "followed"))
	require.NoError(t, err)
	follow.Stdout, follow.Stderr = out, l.out
	require.NoError(t, follow.Start())
	has := func(want string) {
		t.Helper()
		require.Eventually(t, func() bool {
			text, err := os.ReadFile(out.Name())
			return err == nil && string(text) == want
		}, patience, 10*time.Millisecond)
	}
	first := "\x1b[31mred\x1b[0m \x00\xff\n***\n"
	has(first)
	// The server dies and comes back while the job goes on.
	l.end(t, syscall.SIGKILL)
	require.NoError(t, os.WriteFile(filepath.Join(l.home, "stop"), nil, 0o600))
	l.start(t, "--api-rate", "0")
	has(first + "last\n")
	require.NoError(t, follow.Wait())
	require.NoError(t, out.Close())
	require.Equal(t, first+"last\n", l.must("job", "logs", job))
	require.Equal(t, "last\n", l.must("job", "logs", job, "--offset", strconv.Itoa(len(first))))
	require.NotContains(t, l.must("job", "show", job, "-o", "json"), "hunter2")
	run := l.ended(job).Runs[0]
	require.Equal(t, 3, *run.ExitCode)
	require.Empty(t, run.StopReason+run.NotRunReason)
}

// TestHowRunsEnded: exit code, signal, why it was stopped and why it was never run are apart.
func TestHowRunsEnded(t *testing.T) {
	l := newRunLab(t)
	number := func(n int) *int { return &n }
	aborted := l.submit(map[string]any{"script": "trap '' TERM; touch " + l.home + "/began; while :; do sleep 0.1; done"})
	for _, c := range []struct {
		script       string
		code, signal *int
		notRun       string
	}{
		{"exit 200", number(200), nil, ""},
		{"kill -SEGV $$", nil, number(11), ""},
		{"#!/no/such/interpreter", number(127), nil, "not-started"},
		{"#!/etc/passwd", number(126), nil, "not-started"},
	} {
		shown := l.ended(l.submit(map[string]any{"script": c.script}))
		run := shown.Runs[0]
		require.Equal(t, labapi.JobFailed, shown.State, c.script)
		require.Equal(t, c.code, run.ExitCode, c.script)
		require.Equal(t, c.signal, run.Signal, c.script)
		require.Equal(t, c.notRun, run.NotRunReason, c.script)
	}
	require.Eventually(t, func() bool { _, err := os.Stat(l.home + "/began"); return err == nil }, patience, 10*time.Millisecond)
	l.must("job", "abort", aborted, "--yes", "--reason", "test")
	// It ignores the request, and is killed after the grace of half a minute: what is asked
	// for is seen at once.
	l.printsWhat(func(out string) bool { return strings.Contains(out, `"stop_reason": "aborted"`) }, "job", "runs", aborted, "-o", "json")

	// Two agents of one name: the one that came last serves, the other one ends by itself.
	second := filepath.Join(l.home, "second.yaml")
	text, err := os.ReadFile(filepath.Join(l.home, "agent.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(second, bytes.ReplaceAll(text, []byte("/spool"), []byte("/spool2")), 0o600))
	l.process("agent", "--config", second)
	require.Error(t, l.agent.Wait())
	require.Equal(t, exitDenied, l.agent.ProcessState.ExitCode())
}

// TestMuchOutput: what is over the cap of a log is not kept, which is said; what a command
// writes that runs here is passed through whole.
func TestMuchOutput(t *testing.T) {
	l := newRunLab(t)
	job := l.submit(map[string]any{"script": "head -c 100000000 /dev/zero"})
	require.Equal(t, labapi.JobPassed, l.ended(job).State)
	log, stderr, code := l.call("job", "logs", job)
	require.Zero(t, code)
	require.LessOrEqual(t, len(log), 64<<20)
	require.Greater(t, len(log), 60<<20)
	require.Contains(t, log[len(log)-200:], "[hostsched: the log is cut here, after ")
	require.Contains(t, stderr, "more bytes were over the cap and were not kept")

	cmd := l.command("run", "-l", "board:eve", "-q", "--", "head", "-c", "1000000000", "/dev/zero")
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	buffer, total := make([]byte, 1<<20), 0
	for {
		n, err := pipe.Read(buffer)
		total += n
		if err != nil {
			break
		}
	}
	require.NoError(t, cmd.Wait())
	require.Equal(t, 1000000000, total)
}

// TestWhoHasWhat: people find the hosts that they have, and names of agents by the tabulator key.
func TestWhoHasWhat(t *testing.T) {
	l := newRunLab(t)
	require.Empty(t, l.must("host", "list", "--mine", "-o", "name"))
	l.must("host", "reserve", "h2", "--for", "1h", "--reason", "test")
	require.Equal(t, "h2\n", l.must("host", "list", "--mine", "-o", "name"))
	require.Regexp(t, `h2 .*reserved by \w+ until \S+: test `, l.must("host", "list"))
	require.Regexp(t, `nobody gets host h2: reserved by \w+: test, until 2`, l.must("host", "explain", "h2"))
	l.must("host", "release", "h2")
	require.NotContains(t, l.must("host", "list"), "reserved")
	require.Empty(t, l.must("host", "list", "--mine", "-o", "name"))
	for _, verb := range []string{"show", "hosts", "join-token", "drain", "resume", "stop", "rotate", "revoke", "remove"} {
		require.Contains(t, l.must("__complete", "agent", verb, "rack"), "rack-1\n", verb)
		require.NotContains(t, l.must("__complete", "agent", verb, "x"), "rack-1", verb)
	}
	text := l.must("help", "exit-codes")
	for _, code := range []string{"124", "125", "126", "127", "128"} {
		require.Contains(t, text, code)
	}
}

// TestACommandIsSubmittedOnce over a link that breaks while it is submitted, also when the
// servers have the job and only their answer is lost.
func TestACommandIsSubmittedOnce(t *testing.T) {
	l := newRunLab(t)
	link := testserver.NewLink(t, l.listen)
	jobs := func() int { return strings.Count(l.must("job", "list", "-o", "name"), "\n") }
	lists := func(n int) {
		l.printsWhat(func(out string) bool { return strings.Count(out, "\n") == n }, "job", "list", "-o", "name")
	}
	start := func(args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
		t.Helper()
		cmd, stdout, stderr = l.command(append([]string{"run", "-l", "board:eve"}, args...)...), &bytes.Buffer{}, &bytes.Buffer{}
		cmd.Env = append(cmd.Env, "HOSTSCHED_SERVER=http://"+link.Addr)
		cmd.Stdout, cmd.Stderr = stdout, stderr
		require.NoError(t, cmd.Start())
		return cmd, stdout, stderr
	}
	before := jobs()
	for _, c := range []struct {
		name          string
		breaks, heals func()
	}{
		{"each answer breaks off", func() { link.Limit(t, testserver.ToClient, 1) }, func() { link.Limit(t, testserver.ToClient, 0) }},
		{"no answer arrives", func() { link.Cut(t, testserver.ToClient) }, func() { link.Heal(t) }},
	} {
		c.breaks()
		cmd, stdout, stderr := start("--", "echo", "ran")
		lists(before + 1)
		c.heals()
		require.NoError(t, cmd.Wait(), "%s: %s", c.name, stderr)
		require.Equal(t, "ran\n", stdout.String(), c.name)
		require.Contains(t, stderr.String(), "the job could not be submitted; trying again for 30s: ", c.name)
		require.Equal(t, before+1, jobs(), c.name)
		before++
	}

	l.end(t, syscall.SIGKILL)
	cmd, stdout, stderr := start("-q", "--", "echo", "ran")
	l.start(t, "--api-rate", "0")
	require.NoError(t, cmd.Wait(), "%s", stderr)
	require.Equal(t, "ran\n", stdout.String())
	require.Empty(t, stderr.String(), "it was told to be quiet")

	link.Limit(t, testserver.ToClient, 1)
	cmd, _, stderr = start("--wait-timeout", "1s", "--", "echo", "ran")
	require.Error(t, cmd.Wait())
	require.Equal(t, command.StatusTimeout, cmd.ProcessState.ExitCode())
	require.Contains(t, stderr.String(), "trying again for 1s: ")
}

// TestLogsOfCommandsThatRanHere are at the servers if that was asked for, and where they are is
// said if not.
func TestLogsOfCommandsThatRanHere(t *testing.T) {
	l := newRunLab(t)
	script := `printf '\033[31mred\n'; echo oh $HOSTSCHED_TOKEN >&2; exit 3`
	oh := "oh " + l.adminToken(t) + "\n"
	for _, keep := range []bool{true, false} {
		args := []string{"run", "-q", "-l", "board:eve", "--", "sh", "-c", script}
		if keep {
			args = slices.Insert(args, 1, "--log")
		}
		stdout, stderr, code := l.call(args...)
		require.Equal(t, []any{3, "\033[31mred\n", oh}, []any{code, stdout, stderr})
		job, _, _ := strings.Cut(l.must("job", "list", "-o", "name"), "\n")
		if keep {
			require.Equal(t, "\033[31mred\n", l.must("job", "logs", job, "--stream", "stdout"))
			require.Equal(t, "oh ***\n", l.must("job", "logs", "-f", job, "--stream", "stderr"))
			continue
		}
		for _, more := range [][]string{nil, {"-f"}} {
			stdout, stderr, code = l.call(append([]string{"job", "logs", job}, more...)...)
			require.Equal(t, []any{0, ""}, []any{code, stdout})
			require.Contains(t, stderr, "job "+job+" has no logs: admin ran its command with 'hostsched run', and what it wrote, if anything, went to where that was called; 'hostsched run --log' also keeps it here\n")
		}
	}
	l.must("run", "-q", "--log", "-l", "board:eve", "--", "true")
	job, _, _ := strings.Cut(l.must("job", "list", "-o", "name"), "\n")
	_, stderr, _ := l.call("job", "logs", job)
	require.Contains(t, stderr, "what it wrote, if anything,")

	// Who does not read any more ends the command, as without --log.
	cmd := l.command("run", "-q", "--log", "-l", "board:eve", "--", "sh", "-c", "yes; echo $? >"+l.home+"/ended")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, out.Close())
	require.NoError(t, cmd.Wait())
	text, err := os.ReadFile(l.home + "/ended")
	require.NoError(t, err)
	require.Equal(t, "141\n", string(text), "SIGPIPE")
}

// TestACommandWhoseJobWasGivenUp because the servers did not hear from it for long is submitted
// again, as long as it may wait.
func TestACommandWhoseJobWasGivenUp(t *testing.T) {
	l := newRunLab(t)
	link := testserver.NewLink(t, l.listen)
	l.must("host", "lock", "h1", "h2", "--forever", "--reason", "test")
	cmd := l.command("run", "-l", "board:eve", "--wait-timeout", "5m", "--", "echo", "ran")
	cmd.Env = append(cmd.Env, "HOSTSCHED_SERVER=http://"+link.Addr)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	first := strings.TrimSpace(l.printsWhat(func(out string) bool { return out != "" }, "job", "list", "-o", "name"))
	link.Cut(t)
	db, err := store.Open(t.Context(), sqldb.Config{DSN: "sqlite:" + filepath.Join(l.dir, "lab.db")})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		storetest.Exec(t, db, "UPDATE hostsched_own_jobs SET seen = seen - 60000")
		shown, _, code := l.call("job", "show", first, "-o", "json")
		return code == exitOK && strings.Contains(shown, `"state": "aborted"`)
	}, patience, 200*time.Millisecond)
	require.NoError(t, db.Close())
	l.must("host", "unlock", "h1", "h2")
	link.Heal(t)
	require.NoError(t, cmd.Wait(), "%s", &stderr)
	require.Equal(t, "ran\n", stdout.String())
	require.Contains(t, stderr.String(), "job "+first+" ended before it had a host, because the servers had not heard from here for a minute; submitting it again\n")
	require.Equal(t, 2, strings.Count(l.must("job", "list", "-o", "name"), "\n"))
}
