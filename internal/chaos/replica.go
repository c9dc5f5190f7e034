package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/embedetcd"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/internal/web"
)

// replica is a `hostsched serve` process with links of its own.
type replica struct {
	name, listen string
	program      string
	dir          string
	env          []string
	// etcd are the links to the members, db is the one to the database.
	etcd []*testserver.Link
	db   *testserver.Link
	// peers, in a calm run, is how the other replicas reach this one. It hides the end of
	// the process, because a link takes connections also while nobody listens behind it.
	peers *testserver.Link
	ttl   time.Duration
	// busy means that a fault concerns the process, and down that it is not to run.
	busy, down bool
	// starts counts processes, goroutines are what the running one had at drains.
	starts     int
	goroutines []goroutineCount

	cmd  *exec.Cmd
	exit *child.Exit
}

func replicaName(n int) string { return "replica-" + strconv.Itoa(n) }

func (c *chaos) newReplica(n int) (*replica, error) {
	r := &replica{name: replicaName(n), program: c.o.program, dir: c.dir, ttl: c.o.ttl}
	var err error
	if r.listen, err = embedetcd.FreeAddr(); err != nil {
		return nil, err
	}
	advertise := r.listen
	if c.o.calm {
		if r.peers, err = testserver.OpenLink(r.listen); err != nil {
			return nil, err
		}
		advertise = r.peers.Addr
	}
	var endpoints []string
	for _, m := range c.etcd.Members {
		link, err := testserver.OpenLink(m.Addr)
		if err != nil {
			return nil, err
		}
		r.etcd = append(r.etcd, link)
		endpoints = append(endpoints, "http://"+link.Addr)
	}
	if r.db, err = testserver.OpenLink(address(c.database.nodeOf(c, n))); err != nil {
		return nil, err
	}
	r.env = []string{
		fmt.Sprintf("HOSTSCHED_DATABASE_DSN=%s@tcp(%s)/%s", replicaUser, r.db.Addr, databaseName),
		"HOSTSCHED_ETCD_ENDPOINTS=" + strings.Join(endpoints, ","),
		"HOSTSCHED_CLUSTER=" + clusterName, "HOSTSCHED_ADVERTISE=" + advertise,
	}
	r.env = append(r.env, c.runner()...)
	return r, nil
}

// runner says who runs the jobs: agents and people, or the simulator, as monitor_db does.
func (c *chaos) runner() []string {
	if c.o.runs {
		return []string{"HOSTSCHED_RUNNER=agents", "HOSTSCHED_RUNS_LEASE=" + runsLease.String()}
	}
	return []string{"HOSTSCHED_RUNNER=autotest"}
}

func (r *replica) start() error {
	r.cmd = exec.Command(r.program, "serve", "--server", r.name, "--listen", r.listen,
		"--etcd-ttl", r.ttl.String(), "--tick-min", tickMin.String(), "--placement-hold-off", holdOff.String(), "--log-level", "debug")
	r.cmd.Env = append(os.Environ(), r.env...)
	r.starts++
	r.goroutines, r.down = nil, false
	var err error
	r.exit, err = child.StartLogging(r.cmd, filepath.Join(r.dir, r.name+".log"))
	return err
}

func (r *replica) ended() bool {
	select {
	case <-r.exit.Done():
		return true
	default:
		return false
	}
}

func (r *replica) signal(s syscall.Signal) error {
	if err := r.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to %s: %w", s, r.name, err)
	}
	return nil
}

// kill sends SIGKILL and waits for the end.
func (r *replica) kill() error {
	r.down = true
	if err := r.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-r.exit.Done()
	return nil
}

// endTimeout bounds how long a replica may take to end after SIGTERM, also while
// its database or etcd is away.
const endTimeout = 15 * time.Second

// terminate sends SIGTERM and waits for an orderly end.
func (r *replica) terminate() error {
	r.down = true
	if err := r.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-r.exit.Done():
		return nil
	case <-time.After(endTimeout):
		return errors.Join(fmt.Errorf("%w: %s did not end within %v of SIGTERM", errViolated, r.name, endTimeout), r.kill())
	}
}

// stop ends the process, whatever state it is in, and its links.
func (r *replica) stop() error {
	var err error
	if r.exit != nil && !r.ended() {
		err = errors.Join(r.signal(syscall.SIGCONT), r.terminate())
	}
	for _, l := range append(r.etcd, r.db) {
		l.Close()
	}
	if r.peers != nil {
		r.peers.Close()
	}
	return err
}

// statusTimeout bounds a question to a replica, which may be stopped.
const statusTimeout = time.Second

func (r *replica) status(ctx context.Context) (web.ServerStatus, error) {
	return web.Client{}.ReadStatus(ctx, r.listen, statusTimeout)
}
