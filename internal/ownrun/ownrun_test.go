package ownrun_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/ownrun"
	"github.com/hostsched/hostsched/internal/testserver"
)

// TestMain is also the program that runs a command, and its guard.
func TestMain(m *testing.M) {
	switch server := os.Getenv("OWNRUN_TEST_SERVER"); {
	case server == "":
		os.Exit(m.Run())
	case os.Args[1] == "guard":
		ownrun.Guard(os.Stdin)
	default:
		os.Exit(program(server))
	}
}

func program(server string) int {
	client, err := agentclient.New(labclient.Config{Servers: []string{server}})
	if err != nil {
		panic(err)
	}
	calls, err := client.Run(7, "hsr_token")
	if err != nil {
		panic(err)
	}
	lease, _ := strconv.ParseInt(os.Getenv("OWNRUN_TEST_LEASE"), 10, 64)
	timeout, _ := time.ParseDuration(os.Getenv("OWNRUN_TEST_TIMEOUT"))
	signals := make(chan os.Signal, 16)
	ownrun.Notify(signals)
	return ownrun.Run(ownrun.Options{
		Claimed: labapi.Claimed{
			Run: 7, Token: "hsr_token", LeaseMillis: lease, Hosts: []labapi.RunHost{{Hostname: "h1", Epoch: 3}, {Hostname: "h2", Epoch: 5}},
			Manifest: labapi.Manifest{Job: 9, GraceMillis: 300, LogCap: 1 << 20},
		},
		Sent: command.Now(), Calls: calls, Args: os.Args[1:], Timeout: timeout, Signals: signals, Guard: []string{"/proc/self/exe", "guard"}, Log: os.Getenv("OWNRUN_TEST_LOG") != "", Mask: []string{os.Getenv("OWNRUN_TEST_MASK")},
		Say: func(format string, args ...any) { fmt.Fprintf(os.Stderr, "hostsched: "+format+"\n", args...) },
	})
}

const bound = 20 * time.Second

// servers is the half of the protocol that a run sees.
type servers struct {
	*httptest.Server
	lease int64

	mu       sync.Mutex
	away     bool
	lost     bool
	stop     *labapi.Stop
	begun    int
	renewed  int
	finished []labapi.RunFinish
	// logs are what came of each, of which the answer to every second call is lost, or to none.
	logs   map[string][]byte
	puts   int
	loseNo bool
}

func newServers(t *testing.T, lease time.Duration) *servers {
	s := &servers{lease: lease.Milliseconds(), logs: map[string][]byte{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *servers) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *servers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.away:
		w.WriteHeader(http.StatusBadGateway)
		return
	case s.lost:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusGone)
		_, _ = fmt.Fprintf(w, `{"type":"/problems/%s","status":410,"detail":"the run is over"}`, labapi.ProblemRunLost)
		return
	}
	switch name := filepath.Base(r.URL.Path); name {
	case "stdout", "stderr":
		s.put(w, r, name)
		return
	case "state":
		s.begun++
	case "renew":
		s.renewed++
	case "finish":
		var in labapi.RunFinish
		if json.NewDecoder(r.Body).Decode(&in) == nil {
			s.finished = append(s.finished, in)
		}
		for _, log := range in.Streams {
			if have := len(s.logs[log.Stream]); int64(have) < log.Size {
				w.WriteHeader(http.StatusAccepted)
				_ = json.NewEncoder(w).Encode(labapi.RunAnswer{LeaseMillis: s.lease, Unfinished: true})
				return
			}
		}
	}
	_ = json.NewEncoder(w).Encode(labapi.RunAnswer{LeaseMillis: s.lease, Stop: s.stop})
}

func (s *servers) put(w http.ResponseWriter, r *http.Request, stream string) {
	have := len(s.logs[stream])
	if offset := r.URL.Query().Get("offset"); offset != strconv.Itoa(have) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprintf(w, `{"type":"/problems/log-offset","status":409,"expected_offset":%d}`, have)
		return
	}
	data, _ := io.ReadAll(r.Body) // what broke off is sent again
	s.logs[stream] = append(s.logs[stream], data...)
	if s.puts++; s.puts%2 == 0 && !s.loseNo {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(labapi.LogEnd{RunAnswer: labapi.RunAnswer{LeaseMillis: s.lease}, End: int64(len(s.logs[stream]))})
}

// finish is how the run ended, as the servers know it.
func (s *servers) finish(t *testing.T) labapi.RunFinish {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Len(t, s.finished, 1)
	return s.finished[0]
}

// started is a process that runs a command under a claim.
type started struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	said  strings.Builder
	ended bool
}

func (s *servers) start(t *testing.T, env []string, args ...string) *started {
	t.Helper()
	p := &started{t: t, cmd: exec.Command("/proc/self/exe", args...)}
	p.cmd.Env = append(os.Environ(), "OWNRUN_TEST_SERVER="+s.URL, fmt.Sprint("OWNRUN_TEST_LEASE=", s.lease))
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = &p.said
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.lines = bufio.NewScanner(out)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		if !p.ended {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

func (p *started) says() string {
	p.t.Helper()
	require.True(p.t, p.lines.Scan(), "nothing was said")
	return p.lines.Text()
}

// status waits for the end.
func (p *started) status() int {
	p.t.Helper()
	timer := time.AfterFunc(bound, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	for p.lines.Scan() {
	}
	err := p.cmd.Wait()
	p.ended = true
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	require.NoError(p.t, err)
	return 0
}

func gone(t *testing.T, pid string) {
	t.Helper()
	require.Eventually(t, func() bool {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(text), ") Z ")
	}, bound, time.Millisecond, "process %s lives on", pid)
}

func TestTheCommandIsTold(t *testing.T) {
	s := newServers(t, time.Minute)
	p := s.start(t, nil, "sh", "-c", "echo $HOSTSCHED_HOST, $HOSTSCHED_HOSTS, $HOSTSCHED_JOB, $HOSTSCHED_RUN, $HOSTSCHED_EPOCH; echo $0 $# $*", "{host}", "on {hosts}", "{hosts}", "{hosts}x")
	require.Equal(t, "h1, h1 h2, 9, 7, 3 5", p.says())
	require.Equal(t, "h1 4 on h1 h2 h1 h2 h1 h2x", p.says())
	require.Zero(t, p.status())
	require.Empty(t, p.said.String())
	zero := 0
	require.Equal(t, labapi.RunFinish{Result: "passed", ExitCode: &zero}, s.finish(t))
}

func TestStatuses(t *testing.T) {
	for script, want := range map[string]struct {
		status int
		result string
	}{
		"exit 3": {3, "failed"}, "exit 69": {69, "unusable"}, "exit 75": {75, "infra"}, "exit 200": {200, "failed"}, "kill -KILL $$": {137, "failed"}, "kill -TERM $$": {143, "failed"},
	} {
		s := newServers(t, time.Minute)
		require.Equal(t, want.status, s.start(t, nil, "sh", "-c", script).status(), script)
		require.Equal(t, want.result, s.finish(t).Result, script)
		require.Empty(t, s.finish(t).StopReason)
	}
}

func TestWhatCannotBeStartedGivesTheHostBack(t *testing.T) {
	for name, want := range map[string]int{"/no/such/program": 127, "/etc/passwd": 126} {
		s := newServers(t, time.Minute)
		p := s.start(t, nil, name)
		require.Equal(t, want, p.status())
		require.Contains(t, p.said.String(), name)
		require.Equal(t, "not-started", s.finish(t).NotRunReason)
		require.Equal(t, want, *s.finish(t).ExitCode)
	}
}

func TestTimeout(t *testing.T) {
	s := newServers(t, time.Minute)
	p := s.start(t, []string{"OWNRUN_TEST_TIMEOUT=200ms"}, "sh", "-c", "trap '' TERM; while :; do sleep 0.01; done")
	require.Equal(t, 124, p.status())
	require.Equal(t, "timeout", s.finish(t).StopReason)
	require.Equal(t, 9, *s.finish(t).Signal)
}

func TestOneInterruptAsksAndTheSecondKills(t *testing.T) {
	s := newServers(t, time.Minute)
	p := s.start(t, nil, "sh", "-c", "trap 'echo asked' INT; echo ready; while :; do sleep 0.01; done")
	require.Equal(t, "ready", p.says())
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM), "it comes at once, and belongs to the first")
	require.Equal(t, "asked", p.says())
	testserver.Throughout(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.finished) == 0
	}, command.OneRequest, 10*time.Millisecond)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	require.Equal(t, 137, p.status())
	require.Equal(t, "aborted", s.finish(t).StopReason)

	s = newServers(t, time.Minute)
	p = s.start(t, nil, "sh", "-c", "echo ready; sleep 1000")
	require.Equal(t, "ready", p.says())
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 143, p.status())
	s.finish(t)
}

func TestTheClaimIsRenewed(t *testing.T) {
	s := newServers(t, 600*time.Millisecond)
	p := s.start(t, nil, "sh", "-c", "sleep 2; exit 5")
	require.Equal(t, 5, p.status())
	s.finish(t)
	require.Equal(t, 1, s.begun)
	require.GreaterOrEqual(t, s.renewed, 5)
}

func TestAClaimThatCannotBeRenewedEndsTheCommandBeforeItEnds(t *testing.T) {
	s := newServers(t, 3*time.Second)
	began := time.Now()
	p := s.start(t, nil, "sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.01; done")
	pid := p.says()
	s.set(func() { s.away = true })
	gone(t, pid)
	require.Less(t, time.Since(began), 3*time.Second)
	require.Equal(t, 125, p.status())
	require.Contains(t, p.said.String(), "claim of h1, h2")
	require.Empty(t, s.finished)
}

func TestALostClaimKills(t *testing.T) {
	s := newServers(t, time.Second)
	p := s.start(t, nil, "sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.01; done")
	pid := p.says()
	s.set(func() { s.lost = true })
	require.Equal(t, 125, p.status())
	gone(t, pid)
	require.Equal(t, 1, strings.Count(p.said.String(), "\n"), p.said.String())
}

func TestAnAbort(t *testing.T) {
	s := newServers(t, time.Second)
	p := s.start(t, nil, "sh", "-c", "echo ready; sleep 1000")
	require.Equal(t, "ready", p.says())
	s.set(func() { s.stop = &labapi.Stop{Run: 7, Reason: "aborted", GraceMillis: 1000} })
	require.Equal(t, 143, p.status())
	require.Contains(t, p.said.String(), "job 9 was aborted")
	require.Equal(t, "aborted", s.finish(t).StopReason)
}

func TestServersThatAreAwayForAMoment(t *testing.T) {
	s := newServers(t, 4*time.Second)
	p := s.start(t, nil, "sh", "-c", "echo ready; sleep 0.3")
	require.Equal(t, "ready", p.says())
	s.set(func() { s.away = true })
	time.AfterFunc(time.Second, func() { s.set(func() { s.away = false }) })
	require.Zero(t, p.status())
	require.Contains(t, p.said.String(), "trying to give h1, h2 back")
	require.Equal(t, "passed", s.finish(t).Result)
}

// TestARunInARun: if the outer program is killed, nothing of the inner one's command lives on.
func TestARunInARun(t *testing.T) {
	s := newServers(t, time.Minute)
	p := s.start(t, nil, "/proc/self/exe", "sh", "-c", daemon)
	pids := []string{p.says(), p.says()}
	require.NoError(t, p.cmd.Process.Kill())
	p.status()
	for _, pid := range pids {
		gone(t, pid)
	}
}

// daemon is a script that leaves its group, and says the id of a process that did.
const daemon = "setsid sh -c 'echo $$; exec sleep 1000' & echo $$; wait"

func TestNothingLivesOnIfTheProgramIsKilled(t *testing.T) {
	s := newServers(t, time.Minute)
	p := s.start(t, nil, "sh", "-c", daemon)
	pids := []string{p.says(), p.says()}
	require.NoError(t, p.cmd.Process.Kill())
	p.status()
	for _, pid := range pids {
		gone(t, pid)
	}
	require.Empty(t, s.finished)
}

func TestNothingLivesLongerThanTheLeaseIfTheProgramIsStopped(t *testing.T) {
	s := newServers(t, 2*time.Second)
	began := time.Now()
	p := s.start(t, nil, "sh", "-c", daemon)
	pids := []string{p.says(), p.says()}
	s.set(func() { s.away = true }) // no renewal is under way
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	for _, pid := range pids {
		gone(t, pid)
	}
	require.Less(t, time.Since(began), 3*time.Second)
	s.set(func() { s.away, s.lost = false, true })
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
	require.Equal(t, 125, p.status())
}

// TestLogsAreWhole although answers are lost and servers are away, and go through as they are.
func TestLogsAreWhole(t *testing.T) {
	s := newServers(t, 10*time.Second)
	p := s.start(t, []string{"OWNRUN_TEST_LOG=1"}, "sh", "-c", "echo ready; for i in $(seq 20000); do echo line $i; done; echo oh >&2; exit 3")
	require.Equal(t, "ready", p.says())
	s.set(func() { s.away = true })
	time.AfterFunc(time.Second, func() { s.set(func() { s.away = false }) })
	want := "ready\n"
	for i := range 20000 {
		require.Equal(t, fmt.Sprint("line ", i+1), p.says())
		want += fmt.Sprintln("line", i+1)
	}
	require.Equal(t, 3, p.status())
	require.Contains(t, p.said.String(), "oh\n")
	in := s.finish(t)
	require.Len(t, in.Streams, 2)
	require.Equal(t, []int64{int64(len(want)), 3}, []int64{in.Streams[0].Size, in.Streams[1].Size})
	require.Equal(t, want, string(s.logs["stdout"]))
	require.Equal(t, "oh\n", string(s.logs["stderr"]))
}

// TestTheServersDoNotKeepTheTokenOfWhoCalls: many may read logs. The caller sees what is written.
func TestTheServersDoNotKeepTheTokenOfWhoCalls(t *testing.T) {
	s := newServers(t, 10*time.Second)
	p := s.start(t, []string{"OWNRUN_TEST_LOG=1", "OWNRUN_TEST_MASK=hst_alices"}, "sh", "-c", "echo token=hst_alices; echo hst_alices >&2")
	require.Equal(t, "token=hst_alices", p.says())
	require.Zero(t, p.status())
	require.Contains(t, p.said.String(), "hst_alices\n")
	s.finish(t)
	require.Equal(t, "token=***\n", string(s.logs["stdout"]))
	require.Equal(t, "***\n", string(s.logs["stderr"]))
}

// TestLogsThatNobodyReads keep the host no longer than a person wants to wait. No answer is
// lost meanwhile: whoever asks for the end once more while a log is sent again gives it up.
func TestLogsThatNobodyReads(t *testing.T) {
	s := newServers(t, time.Minute)
	s.set(func() { s.loseNo = true })
	// It fits into the pipes on the way, but not into the last one.
	p := s.start(t, []string{"OWNRUN_TEST_LOG=1"}, "sh", "-c", "trap '' INT; echo $$; printf '%0150000d' 0")
	pid := p.says()
	gone(t, pid)
	require.Eventually(t, func() bool {
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.finished) > 0
	}, bound, 200*time.Millisecond)
	require.Equal(t, "passed", s.finish(t).Result)
	require.Len(t, s.finish(t).Streams, 1)
	require.EqualValues(t, len(pid)+1+150000, s.finish(t).Streams[0].Size)
	p.status()
}

// TestTheGuardKnowsOfACommandBeforeItBegins: whoever starts it may be killed at once, or may stand
// still until the claim has ended, and what it starts may have left its group.
func TestTheGuardKnowsOfACommandBeforeItBegins(t *testing.T) {
	guarded := func(until command.Instant) (to io.WriteCloser, over chan struct{}) {
		from, to := io.Pipe()
		over = make(chan struct{})
		go func() { ownrun.Guard(from); close(over) }()
		_, err := fmt.Fprintf(to, "watch %s\nuntil %d\n", t.Name(), until)
		require.NoError(t, err)
		return to, over
	}
	begun := func() *exec.Cmd {
		cmd := exec.Command("sleep", "1000")
		cmd.Env = append(os.Environ(), "HOSTSCHED_CLAIM="+t.Name())
		require.NoError(t, cmd.Start())
		return cmd
	}
	cmd := begun()
	to, over := guarded(command.Now().Add(time.Hour))
	require.NoError(t, to.Close())
	require.ErrorContains(t, cmd.Wait(), "killed")
	<-over

	to, over = guarded(command.Now().Add(-time.Second))
	for range 2 {
		require.ErrorContains(t, begun().Wait(), "killed", "also what comes when the guard has looked already")
	}
	require.NoError(t, to.Close())
	<-over
}
