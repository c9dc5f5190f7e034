package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/replica"
)

// RunFigures are about jobs that really run: through agents, and by `hostsched run`.
type RunFigures struct {
	// Start is from the request that submits a job to the beginning of its command through
	// an agent, in a lab where nothing else happens.
	Start50 float64 `json:"run_start_p50_ms"`
	Start99 float64 `json:"run_start_p99_ms"`
	// RoundTrip is a whole `hostsched run -- true`.
	RoundTrip50 float64 `json:"run_roundtrip_p50_ms"`
	RoundTrip99 float64 `json:"run_roundtrip_p99_ms"`
	// AgentRSS is the resident memory of an agent with agentHosts idle hosts, AgentOwn what
	// of it is no file's.
	AgentRSS float64 `json:"agent_rss_mib"`
	AgentOwn float64 `json:"agent_rss_anon_mib"`
	// Idle is what the server, and its database, use of the processors while idleAgents wait.
	IdleCores    float64 `json:"agents_idle_cores"`
	IdleDatabase float64 `json:"agents_idle_database_cores"`
	IdleCalls    float64 `json:"agents_idle_calls_per_s"`
	// PerSecond is how many runs end: those of jobs, and of the special tasks before them.
	PerSecond     float64 `json:"runs_per_s"`
	JobsPerSecond float64 `json:"runs_jobs_per_s"`
	// LogSpeed is in millions of bytes. LogsMoved is how long after the last log all those of
	// runs that are over are files.
	LogSpeed  float64 `json:"log_mb_per_s"`
	LogsMoved float64 `json:"log_moved_s"`
}

const (
	agentHosts = 10
	runLabel   = "board:eve"
	startRuns  = 100
	roundTrips = 50
	// restingAgent is longer than an agent's call waits, so that it has called again.
	restingAgent = 25 * time.Second
)

// runServer is a server of a lab in which jobs really run.
type runServer struct {
	*installation
	// admin calls as an administrator.
	admin *labclient.Client
	token string
	// blobs is the folder of logs of runs that are over.
	blobs string
}

// installRuns starts a server, and enters an administrator.
func (l *testLab) installRuns(ctx context.Context) (s *runServer, err error) {
	// In the folder of the lab its name could be too long for a socket.
	socket := filepath.Join(l.b.dir, l.name+".sock")
	s = &runServer{blobs: filepath.Join(l.b.dir, l.name+"-blobs")}
	if s.installation, err = l.install(1, "--runner", "agents", "--api-socket", socket, "--api-rate", "0", "--runs-blobs", s.blobs); err != nil {
		return nil, err
	}
	if err := s.enterAdmin(ctx, socket); err != nil {
		return nil, errors.Join(err, s.logs(), s.stop())
	}
	return s, nil
}

func (s *runServer) enterAdmin(ctx context.Context, socket string) error {
	if _, _, err := s.leader(ctx, "ticks in an empty lab", func(st replica.Status) bool { return st.Ticks >= restingTicks }); err != nil {
		return err
	}
	c, err := labclient.New(labclient.Config{Servers: []string{"unix:" + socket}})
	if err != nil {
		return err
	}
	const login = "alice"
	if err := post(ctx, c, "/users", labapi.UserInput{Login: login}, nil); err != nil {
		return err
	}
	if err := c.Do(ctx, labclient.Call{Method: http.MethodPut, Path: labclient.Path("roles", "user", login), Body: map[string]string{"role": "admin"}}, nil); err != nil {
		return err
	}
	var token labapi.NewToken
	if err := post(ctx, c, "/tokens", labapi.TokenInput{Login: login, Name: "bench"}, &token); err != nil {
		return err
	}
	s.token = token.Secret
	s.admin, err = labclient.New(labclient.Config{Servers: []string{s.address()}, Token: s.token})
	return err
}

func (s *runServer) address() string { return "http://" + s.servers[0].listen }

func post(ctx context.Context, c *labclient.Client, path string, in, out any) error {
	return c.Do(ctx, labclient.Call{Method: http.MethodPost, Path: path, Body: in}, out)
}

// addHosts enters hosts with names of their own.
func (s *runServer) addHosts(ctx context.Context, prefix string, n int, labels ...string) (names []string, err error) {
	var in labapi.HostsInput
	for i := range n {
		name := fmt.Sprintf("%s%d", prefix, i)
		names = append(names, name)
		in.Hosts = append(in.Hosts, labapi.HostInput{Hostname: name, Labels: labels})
	}
	return names, s.admin.Do(ctx, labclient.Call{Method: http.MethodPut, Path: "/hosts", Body: in}, nil)
}

// addAgent enters an agent and returns its join token.
func (s *runServer) addAgent(ctx context.Context, name string, hosts []string) (string, error) {
	var added labapi.AgentAdded
	err := post(ctx, s.admin, "/agents", labapi.AgentInput{Name: name, Hosts: hosts}, &added)
	return added.Join.Token, err
}

// realRuns measures with processes of `hostsched agent` and `hostsched run`.
func (b *bench) realRuns(ctx context.Context, f *RunFigures) error {
	return b.with(ctx, 0, 0, func(l *testLab) (err error) {
		s, err := l.installRuns(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.stop()) }()
		hosts, err := s.addHosts(ctx, "h", agentHosts, runLabel)
		if err != nil {
			return err
		}
		agent, err := s.startAgent(ctx, hosts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, agent.end()) }()
		progress("memory of an agent")
		if err := sleep(ctx, restingAgent); err != nil {
			return err
		}
		if err := agent.memory(f); err != nil {
			return err
		}
		progress("%d jobs through an agent, one at a time", startRuns)
		if err := s.starts(ctx, f); err != nil {
			return errors.Join(err, agent.log())
		}
		progress("hostsched run -- true, %d times", roundTrips)
		return s.roundTrips(ctx, f)
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// agentProcess is a `hostsched agent`.
type agentProcess struct {
	cmd     *exec.Cmd
	exit    *child.Exit
	logFile string
}

// startAgent starts an agent whose jobs run on this machine, and waits until it is there.
func (s *runServer) startAgent(ctx context.Context, hosts []string) (*agentProcess, error) {
	const name = "agent"
	join, err := s.addAgent(ctx, name, hosts)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, name)
	file := func(name string) string { return filepath.Join(dir, name) }
	config := fmt.Sprintf("name: %s\nservers: [%q]\njoin_token_file: %q\ntoken_file: %q\nspool: %q\ndrivers: [{driver: exec}]\n",
		name, s.address(), file("join"), file("token"), file("spool"))
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(file("join"), []byte(join), 0o600), os.WriteFile(file("agent.yaml"), []byte(config), 0o600)); err != nil {
		return nil, err
	}
	p := &agentProcess{cmd: exec.Command(s.l.b.program, "agent", "--config", file("agent.yaml")), logFile: file("agent.log")}
	if p.exit, err = child.StartLogging(p.cmd, p.logFile); err != nil {
		return nil, err
	}
	err = wait(ctx, "an agent", func() (bool, error) {
		var a labapi.Agent
		err := s.admin.Get(ctx, labclient.Path("agents", name), nil, &a)
		return a.State == labapi.AgentOnline, err
	})
	if err != nil {
		return nil, errors.Join(err, p.log(), p.end())
	}
	return p, nil
}

// wait looks again and again until something is so.
func wait(ctx context.Context, what string, holds func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; {
		done, err := holds()
		if err != nil || done {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited in vain for %s", what)
		}
		if err := sleep(ctx, look); err != nil {
			return err
		}
	}
}

func (p *agentProcess) end() error { return end(p.cmd.Process, p.exit, syscall.SIGTERM) }

// log is what the agent said, as an error.
func (p *agentProcess) log() error {
	text, err := os.ReadFile(p.logFile)
	return errors.Join(err, fmt.Errorf("agent: %s", text[max(0, len(text)-2000):]))
}

func (p *agentProcess) memory(f *RunFigures) (err error) {
	if f.AgentRSS, err = memoryOf(p.cmd.Process.Pid, "VmRSS"); err != nil {
		return err
	}
	f.AgentOwn, err = memoryOf(p.cmd.Process.Pid, "RssAnon")
	return err
}

// starts measures from the request to the first command of the job's script, which writes
// into a pipe that is read here.
func (s *runServer) starts(ctx context.Context, f *RunFigures) (err error) {
	path := filepath.Join(s.dir, "begun")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return err
	}
	// Open for both, so that neither side waits for the other.
	pipe, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pipe.Close()) }()
	spec := labapi.JobSpec{Name: "start", Labels: []string{runLabel}, Script: "echo > " + path}
	var took []float64
	for range startRuns {
		began := time.Now()
		var job labapi.Submitted
		if err := post(ctx, s.admin, "/jobs", spec, &job); err != nil {
			return err
		}
		if err := pipe.SetReadDeadline(began.Add(patience)); err != nil {
			return err
		}
		if _, err := pipe.Read(make([]byte, 1)); err != nil {
			return fmt.Errorf("job %d does not begin: %w", job.ID, err)
		}
		took = append(took, ms(time.Since(began)))
		if err := s.untilIdle(ctx); err != nil {
			return err
		}
	}
	f.Start50, f.Start99, _ = percentiles(took)
	return nil
}

// untilIdle waits until no host is in use.
func (s *runServer) untilIdle(ctx context.Context) error {
	return wait(ctx, "hosts that are idle", func() (bool, error) {
		var pool labapi.Pool
		err := s.admin.Get(ctx, labclient.Path("pools", runLabel), nil, &pool)
		return pool.Idle == pool.Have && pool.Waiting == 0, err
	})
}

// roundTrips measures whole processes.
func (s *runServer) roundTrips(ctx context.Context, f *RunFigures) error {
	var took []float64
	for range roundTrips {
		cmd := exec.CommandContext(ctx, s.l.b.program, "run", "--server", s.address(), "-l", runLabel, "--", "true")
		cmd.Env = append(os.Environ(), "HOSTSCHED_TOKEN="+s.token)
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("hostsched run: %w: %s", err, strings.TrimSpace(string(out)))
		}
		took = append(took, ms(time.Since(began)))
		if err := s.untilIdle(ctx); err != nil {
			return err
		}
	}
	f.RoundTrip50, f.RoundTrip99, _ = percentiles(took)
	return nil
}

func (f *RunFigures) print(w io.Writer) {
	table(w, "jobs that really run|p50 ms|p99 ms|")
	row(w, "submitted to begun through an agent, idle lab|%.0f|%.0f|", f.Start50, f.Start99)
	row(w, "hostsched run -- true|%.0f|%.0f|", f.RoundTrip50, f.RoundTrip99)
	table(w, "an agent with idle hosts|RSS MiB|of it no file's|")
	row(w, "%d hosts|%.1f|%.1f|", agentHosts, f.AgentRSS, f.AgentOwn)
	table(w, "simulated agents|calls per second|cores: server|database|")
	row(w, "%d with %d hosts each, idle|%.0f|%.3f|%.3f|", idleAgents, hostsEach, f.IdleCalls, f.IdleCores, f.IdleDatabase)
	table(w, "simulated agents|runs per second|of them of jobs|")
	row(w, "%d with %d hosts each, busy|%.0f|%.0f|", busyAgents, hostsEach, f.PerSecond, f.JobsPerSecond)
	table(w, "logs of so many runs at a time|MB per second|until all are files s|")
	row(w, "%d|%.1f|%.1f|", logHosts, f.LogSpeed, f.LogsMoved)
}
