package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

const (
	// idleAgents wait with hostsEach idle hosts each, for idleTime after idleSettle: then each
	// has called more than once, and all come evenly.
	idleAgents = 1000
	hostsEach  = 10
	idleSettle = 30 * time.Second
	idleTime   = time.Minute
	// The agents whose runs are counted for runsTime, once they have worked for runsWarm.
	busyAgents = 20
	runsWarm   = 5 * time.Second
	runsTime   = 30 * time.Second
	// moreJobs are submitted whenever fewer than that wait.
	moreJobs = 2000
	// Logs are sent for logTime from logHosts runs at a time, each of logParts parts as an
	// agent sends them.
	logHosts = 4
	logParts = 64
	logPart  = 256 << 10
	logTime  = 20 * time.Second
	logLine  = "2026-01-02T03:04:05.678Z test_network: ping 192.0.2.1: 64 bytes, time 0.42 ms\n"
	// enterAtOnce bounds what is entered at the same time.
	enterAtOnce = 8
	// simWait is how long a call waits, as an agent's.
	simWait = 20 * time.Second
)

// simAgent is an agent without processes: what it takes up is over when its work returns, and
// then it asks for more.
type simAgent struct {
	calls   *agentclient.Client
	session string
	hosts   int
	// called counts the calls that were answered.
	called *atomic.Int64
}

// simAgents enters agents with so many hosts each, which carry a label.
func (s *runServer) simAgents(ctx context.Context, prefix string, n, hosts int, label string) ([]*simAgent, error) {
	names, err := s.addHosts(ctx, prefix+"-host", n*hosts, label)
	if err != nil {
		return nil, err
	}
	all := make([]*simAgent, n)
	called := new(atomic.Int64)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(enterAtOnce)
	for i := range all {
		g.Go(func() (err error) {
			all[i], err = s.simAgent(gctx, fmt.Sprintf("%s%d", prefix, i), names[i*hosts:(i+1)*hosts], called)
			return err
		})
	}
	return all, g.Wait()
}

func (s *runServer) simAgent(ctx context.Context, name string, hosts []string, called *atomic.Int64) (*simAgent, error) {
	join, err := s.addAgent(ctx, name, hosts)
	if err != nil {
		return nil, err
	}
	// Each has connections of its own.
	calls, err := agentclient.New(labclient.Config{Servers: []string{s.address()}})
	if err != nil {
		return nil, err
	}
	joined, err := calls.Register(ctx, labapi.AgentJoin{JoinToken: join, Name: name, Protocols: simProtocols})
	if err != nil {
		return nil, err
	}
	if calls, err = calls.As(joined.Token); err != nil {
		return nil, err
	}
	return &simAgent{calls: calls, session: rand.Text(), hosts: len(hosts), called: called}, nil
}

var simProtocols = labapi.Protocols{Least: labapi.AgentProtocol, Most: labapi.AgentProtocol}

// work is what is done with a run that was claimed, up to its end.
type work func(ctx context.Context, run *agentclient.Run, claimed labapi.Claimed) error

// serveAll has agents serve until the context ends.
func serveAll(ctx context.Context, agents []*simAgent, do work) func() error {
	g, ctx := errgroup.WithContext(ctx)
	for _, a := range agents {
		g.Go(func() error { return a.serve(ctx, do) })
	}
	return g.Wait
}

func (a *simAgent) serve(ctx context.Context, do work) error {
	in := labapi.AgentSync{Session: a.session, Begin: true, BootID: "bench", Version: "bench", Protocols: simProtocols, Capacity: a.hosts}
	for {
		out, err := a.calls.Sync(ctx, in)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		a.called.Add(1)
		if err := a.take(ctx, out.Offers, do); err != nil && ctx.Err() == nil {
			return err
		}
		in.Begin, in.WaitMillis = false, simWait.Milliseconds()
		if sleep(ctx, time.Duration(out.NextMillis)*time.Millisecond) != nil {
			return nil
		}
	}
}

// take runs all offers, at the same time.
func (a *simAgent) take(ctx context.Context, offers []labapi.Offer, do work) error {
	var g errgroup.Group
	for _, o := range offers[:min(len(offers), a.hosts)] {
		g.Go(func() error {
			claimed, err := a.calls.Claim(ctx, labapi.ClaimInput{Session: a.session, ClaimKey: rand.Text(), Offer: o})
			if errors.Is(err, agentclient.ErrOfferGone) {
				return nil
			}
			if err != nil {
				return err
			}
			run, err := a.calls.Run(claimed.Run, claimed.Token)
			if err != nil {
				return err
			}
			return do(ctx, run, claimed)
		})
	}
	return g.Wait()
}

// atOnce ends runs as soon as they have begun: special tasks without being announced, as an agent
// does that has no command for them.
func atOnce(ctx context.Context, run *agentclient.Run, claimed labapi.Claimed) error {
	if claimed.Manifest.Kind == kindJob {
		if _, err := run.State(ctx, labapi.RunState{Phase: "running"}); err != nil {
			return err
		}
	}
	return passed(ctx, run)
}

const kindJob = "job"

func passed(ctx context.Context, run *agentclient.Run, streams ...labapi.StreamEnd) error {
	_, err := run.Finish(ctx, labapi.RunFinish{Result: labapi.ResultPassed, ExitCode: new(int), Streams: streams})
	return err
}

// simulatedRuns measures with simulated agents.
func (b *bench) simulatedRuns(ctx context.Context, f *RunFigures) error {
	for _, measure := range []func(*runServer, context.Context, *RunFigures) error{(*runServer).idle, (*runServer).perSecond, (*runServer).logSpeed} {
		err := b.with(ctx, 0, 0, func(l *testLab) error {
			s, err := l.installRuns(ctx)
			if err != nil {
				return err
			}
			if err = measure(s, ctx, f); err != nil {
				err = errors.Join(err, s.logs())
			}
			return errors.Join(err, s.stop())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// idle measures what agents cost that only wait.
func (s *runServer) idle(ctx context.Context, f *RunFigures) error {
	progress("%d agents with %d hosts each that wait", idleAgents, hostsEach)
	agents, err := s.simAgents(ctx, "idle", idleAgents, hostsEach, runLabel)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	served := serveAll(ctx, agents, atOnce)
	err = sleep(ctx, idleSettle)
	if err == nil {
		err = s.idleCores(ctx, f, agents[0].called)
	}
	stop()
	return errors.Join(err, served())
}

func (s *runServer) idleCores(ctx context.Context, f *RunFigures, called *atomic.Int64) error {
	pids := []int{s.servers[0].cmd.Process.Pid, s.l.b.server.Pid()}
	var before, after [2]time.Duration
	began, calls := time.Now(), called.Load()
	for i, pid := range pids {
		var err error
		if before[i], err = cpuOf(pid); err != nil {
			return err
		}
	}
	if err := sleep(ctx, idleTime); err != nil {
		return err
	}
	took := time.Since(began)
	for i, pid := range pids {
		var err error
		if after[i], err = cpuOf(pid); err != nil {
			return err
		}
	}
	f.IdleCores = (after[0] - before[0]).Seconds() / took.Seconds()
	f.IdleDatabase = (after[1] - before[1]).Seconds() / took.Seconds()
	f.IdleCalls = float64(called.Load()-calls) / took.Seconds()
	return nil
}

// perSecond counts runs that end while there are always jobs that wait.
func (s *runServer) perSecond(ctx context.Context, f *RunFigures) error {
	progress("runs of %d agents for %v", busyAgents, runsTime)
	agents, err := s.simAgents(ctx, "busy", busyAgents, hostsEach, runLabel)
	if err != nil {
		return err
	}
	if err := s.moreJobs(ctx); err != nil {
		return err
	}
	var runs, jobs atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	gctx, stop := context.WithCancel(gctx)
	g.Go(serveAll(gctx, agents, func(ctx context.Context, run *agentclient.Run, claimed labapi.Claimed) error {
		err := atOnce(ctx, run, claimed)
		if err == nil {
			runs.Add(1)
			if claimed.Manifest.Kind == kindJob {
				jobs.Add(1)
			}
		}
		return err
	}))
	g.Go(func() error { return s.keepBusy(gctx) })
	g.Go(func() error {
		defer stop()
		if err := sleep(gctx, runsWarm); err != nil {
			return err
		}
		began, runsBefore, jobsBefore := time.Now(), runs.Load(), jobs.Load()
		if err := sleep(gctx, runsTime); err != nil {
			return err
		}
		took := time.Since(began).Seconds()
		f.PerSecond, f.JobsPerSecond = float64(runs.Load()-runsBefore)/took, float64(jobs.Load()-jobsBefore)/took
		return nil
	})
	return g.Wait()
}

// moreJobs submits jobs as a suite.
func (s *runServer) moreJobs(ctx context.Context) error {
	in := labapi.SuiteInput{Name: "runs"}
	for range moreJobs {
		in.Jobs = append(in.Jobs, labapi.JobSpec{Name: "run", Labels: []string{runLabel}, Script: "true"})
	}
	return post(ctx, s.admin, "/suites", in, nil)
}

// keepBusy submits more jobs before the last ones begin.
func (s *runServer) keepBusy(ctx context.Context) error {
	for sleep(ctx, time.Second) == nil {
		var pool labapi.Pool
		err := s.admin.Get(ctx, labclient.Path("pools", runLabel), nil, &pool)
		if err == nil && pool.Waiting < moreJobs {
			err = s.moreJobs(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// logSpeed measures how fast logs come in while those of runs that are over move to files.
func (s *runServer) logSpeed(ctx context.Context, f *RunFigures) error {
	progress("logs for %v", logTime)
	agents, err := s.simAgents(ctx, "logs", 1, logHosts, runLabel)
	if err != nil {
		return err
	}
	if err := s.moreJobs(ctx); err != nil {
		return err
	}
	part := bytes.Repeat([]byte(logLine), logPart/len(logLine)+1)[:logPart]
	var sent, runs atomic.Int64
	ctx, stop := context.WithTimeout(ctx, logTime)
	defer stop()
	began := time.Now()
	err = serveAll(ctx, agents, func(ctx context.Context, run *agentclient.Run, claimed labapi.Claimed) error {
		if claimed.Manifest.Kind != kindJob {
			return atOnce(ctx, run, claimed)
		}
		if _, err := run.State(ctx, labapi.RunState{Phase: "running"}); err != nil {
			return err
		}
		for i := range int64(logParts) {
			if _, err := run.PutLog(ctx, "stdout", i*logPart, part); err != nil {
				return err
			}
			sent.Add(logPart)
		}
		err := passed(ctx, run, labapi.StreamEnd{Stream: "stdout", Size: logParts * logPart})
		if err == nil {
			runs.Add(1)
		}
		return err
	})()
	if err != nil {
		return err
	}
	f.LogSpeed = float64(sent.Load()) / 1e6 / time.Since(began).Seconds()
	over := time.Now()
	err = wait(context.WithoutCancel(ctx), "the files of all logs", func() (bool, error) {
		n, err := countFiles(s.blobs, logParts*logPart)
		return n >= int(runs.Load()), err
	})
	f.LogsMoved = time.Since(over).Seconds()
	return err
}

// countFiles counts files of a size.
func countFiles(dir string, size int64) (n int, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was renamed meanwhile
		}
		if err == nil && !d.IsDir() && info.Size() == size {
			n++
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	return n, err
}
