package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// runsLab is the lab of -runs: real claimants run real processes on its hosts.
type runsLab struct {
	dir       string // of the witnesses
	self      string // this program, which is the witness, too
	token     string
	claimants []*claimant
	agents    []*agent

	lab *lab.Lab
	// claims are the tokens of agents' runs, by run.
	claims map[int64]string
	// refused counts calls of closed runs that were refused, accepted those that were not.
	refused, accepted int64
	// returned are when servers or database came back after they were away for so long that
	// leases ended, in microseconds.
	returned []int64

	mu sync.Mutex
	// ends counts how commands ended.
	ends map[string]int
}

// The lab of -runs is small: each claimant is several processes.
var runsSpec = simlab.Spec{Hosts: 24, Boards: 8}

const (
	runsClaimants = 6
	// runsLease is how long claims last.
	runsLease = 6 * time.Second
	// restRunsPatience is how long a lab of runs may take to come to rest: commands wait for
	// hosts whose last runs may have been lost.
	restRunsPatience = 4 * time.Minute
)

// createRunsLab makes the lab, its histories, and who may call the API.
func (c *chaos) createRunsLab(ctx context.Context) (err error) {
	if _, err := schema.Up(ctx, c.db.DB, schema.Options{}); err != nil {
		return err
	}
	if err := c.exec(ctx, "CREATE USER '"+replicaUser+"'@'127.0.0.1' IDENTIFIED BY ''", "GRANT ALL ON "+databaseName+".* TO '"+replicaUser+"'@'127.0.0.1'"); err != nil {
		return err
	}
	if err := errors.Join(c.installHistory(ctx), c.exec(ctx, runTexts...)); err != nil {
		return err
	}
	spec := runsSpec
	spec.Seed = c.o.seed
	if c.lab, err = simlab.Create(ctx, c.db.SQL(), spec); err != nil {
		return err
	}
	c.runs = &runsLab{dir: filepath.Join(c.dir, "witness"), lab: lab.New(c.db, store.Scope{}), claims: map[int64]string{}, ends: map[string]int{}}
	if c.runs.self, err = os.Executable(); err != nil {
		return err
	}
	if err := os.Mkdir(c.runs.dir, 0o755); err != nil {
		return err
	}
	chaos := access.Caller{Login: "chaos", Role: access.Admin}
	made, err := c.runs.lab.CreateToken(ctx, chaos, labapi.TokenInput{Login: "alice", Name: "chaos", Role: access.User.String()})
	c.runs.token = made.Secret
	return errors.Join(err, c.divide(ctx))
}

// playRuns lets faults happen while claimants work, lets all of it come to rest, and judges.
func (c *chaos) playRuns(ctx context.Context) error {
	working, enough := context.WithCancel(ctx)
	defer enough()
	watching, seen := context.WithCancel(ctx)
	defer seen()
	var work, watch errgroup.Group
	watch.Go(func() error { return c.watch.run(watching) })
	watch.Go(func() error { return c.route(watching) })
	for n := range c.o.agents {
		a, err := c.newAgent(ctx, n+1)
		if err == nil {
			err = a.start()
		}
		if err != nil {
			return err
		}
		c.runs.agents = append(c.runs.agents, a)
	}
	if len(c.runs.agents) > 0 {
		work.Go(func() error { return c.submit(working) })
	}
	for n := range runsClaimants {
		cl, err := c.newClaimant(n + 1)
		if err != nil {
			return err
		}
		c.runs.claimants = append(c.runs.claimants, cl)
		work.Go(func() error { return cl.work(working, c) })
	}
	err := c.runFaults(ctx)
	enough()
	if err = errors.Join(err, work.Wait()); err == nil {
		err = c.comeToRest(ctx)
	}
	seen()
	return errors.Join(err, watch.Wait())
}

func (c *chaos) runFaults(ctx context.Context) error {
	if err := c.watch.healthy(ctx); err != nil {
		return err
	}
	for end := time.Now().Add(time.Duration(c.o.minutes * float64(time.Minute))); ctx.Err() == nil && time.Now().Before(end); {
		if err := errors.Join(c.turn(ctx), c.restartAgents()); err != nil {
			return err
		}
		if err := c.operate(ctx); err != nil {
			c.journal.say("people of the lab can do nothing now: %v", err)
		}
		c.noteClaims()
	}
	return ctx.Err()
}

// placeTaken is the status of an agent whose name another process serves under.
const placeTaken = 3

// restartAgents starts agents that ended by themselves, as a service manager would.
func (c *chaos) restartAgents() (err error) {
	for _, a := range c.runs.agents {
		code := a.ended()
		if code < 0 {
			continue
		}
		if !a.replaced || code != placeTaken {
			c.wrong("%s ended by itself with status %d", a.name, code)
		}
		a.replaced = false
		err = errors.Join(err, a.start())
	}
	return err
}

// operate does what people of a lab do: hosts that were held as bad, or could not be repaired,
// are fine by now.
func (c *chaos) operate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var bad []string
	err := sqldb.EachRow(ctx, c.db.SQL(), "SELECT h.hostname FROM hostsched_host_epochs e JOIN afe_hosts h ON h.id = e.host_id WHERE e.bad_since IS NOT NULL", nil, func(scan sqldb.Scanner) error {
		var name string
		err := scan(&name)
		bad = append(bad, name)
		return err
	})
	if err == nil && len(bad) > 0 {
		_, err = c.runs.lab.HoldHosts(ctx, caller, bad, lab.Hold{Action: labapi.ActionUnlock})
	}
	return errors.Join(err, c.exec(ctx, "UPDATE afe_hosts SET status = 'Ready' WHERE status = 'Repair Failed'"))
}

// comeToRest waits until nothing is left to do. The database may have been started again just
// now, so it is asked until it answers.
func (c *chaos) comeToRest(ctx context.Context) error {
	for deadline := time.Now().Add(restRunsPatience); ctx.Err() == nil; sleep(ctx, time.Second) {
		var left []string
		var hosts, others int64
		err := errors.Join(c.restartAgents(), c.restartEnded(), c.operate(ctx))
		if err == nil {
			left, hosts, others, err = c.notAtRest(ctx)
		}
		switch {
		case err == nil && len(left) == 0:
			return nil
		case time.Now().Before(deadline):
		case err != nil:
			return fmt.Errorf("after %v: %w", restRunsPatience, err)
		default:
			c.wrong("after %v: %s", restRunsPatience, strings.Join(left, ", "))
			c.res.stranded, c.res.stuck = c.res.stranded+hosts, c.res.stuck+others
			return nil
		}
	}
	return ctx.Err()
}

// RunsReport is what -json has about runs, beside what it has about everything.
type RunsReport struct {
	Runs          int64 `json:"runs"`
	RunsLost      int64 `json:"runs_lost"`
	CommandsBegun int64 `json:"commands_begun"`
	// Refused counts calls of closed runs, made under their former tokens.
	LateCallsRefused int64          `json:"late_calls_refused"`
	CommandEnds      map[string]int `json:"command_ends"`

	HostsUsedTwice       int64 `json:"hosts_used_twice"`
	RunsUnderFormerEpoch int64 `json:"runs_under_former_epoch"`
	RunsNotFenced        int64 `json:"runs_not_fenced"`
	RunsLostByOutage     int64 `json:"runs_lost_by_outage"`
	EntriesRunTwice      int64 `json:"entries_run_twice"`
	EntriesEndedTwice    int64 `json:"entries_ended_twice"`
	EntriesInconsistent  int64 `json:"entries_inconsistent"`
	LogsIncomplete       int64 `json:"logs_incomplete"`
	ProcessesLeft        int64 `json:"processes_left"`
}

// figures are those that must be 0.
func (r *RunsReport) figures() map[string]int64 {
	if r == nil {
		return nil
	}
	return map[string]int64{
		"hosts_used_twice": r.HostsUsedTwice, "runs_under_former_epoch": r.RunsUnderFormerEpoch, "runs_not_fenced": r.RunsNotFenced,
		"runs_lost_by_outage": r.RunsLostByOutage, "entries_run_twice": r.EntriesRunTwice, "entries_ended_twice": r.EntriesEndedTwice,
		"entries_inconsistent": r.EntriesInconsistent, "logs_incomplete": r.LogsIncomplete, "processes_left": r.ProcessesLeft,
	}
}

// reportRuns judges the runs.
func (c *chaos) reportRuns(ctx context.Context) (r *RunsReport, err error) {
	r = &RunsReport{CommandEnds: c.runs.ends, LateCallsRefused: c.runs.refused, RunsUnderFormerEpoch: c.runs.accepted}
	for query, to := range map[string]*int64{
		"SELECT COUNT(*) FROM hostsched_runs":                      &r.Runs,
		"SELECT COUNT(*) FROM hostsched_runs WHERE state = 'lost'": &r.RunsLost,
	} {
		if *to, err = c.number(ctx, query); err != nil {
			return r, err
		}
	}
	for _, at := range c.runs.returned {
		n, err := c.number(ctx, lostAfterOutage, at, at+runsLease.Microseconds())
		if err != nil {
			return r, err
		}
		r.RunsLostByOutage += n
	}
	wrong, err := c.judgeRuns(ctx, r)
	if err != nil {
		return r, err
	}
	logs, err := c.incompleteLogs(ctx)
	if err != nil {
		return r, fmt.Errorf("read the logs of runs: %w", err)
	}
	r.LogsIncomplete = int64(len(logs))
	for _, w := range append(wrong, logs...) {
		c.wrong("%s", w)
	}
	return r, c.judgeWitnesses(r)
}

// judgeWitnesses looks at what happened on the hosts.
func (c *chaos) judgeWitnesses(r *RunsReport) error {
	began, err := linesOf(c.runs.dir, beganFile)
	if err != nil {
		return err
	}
	met, err := linesOf(c.runs.dir, wrongFile)
	if err != nil {
		return err
	}
	for _, line := range met {
		c.wrong("%s", line)
	}
	if len(began) == 0 {
		c.wrong("no command was begun")
	}
	twice := begunTwice(began)
	if len(twice) > 0 {
		c.wrong("jobs %v ran more than once", twice)
	}
	left := processesOf(func(args string) bool { return strings.Contains(args, c.runs.dir) })
	if len(left) > 0 {
		c.wrong("processes %v work although all runs have ended", left)
	}
	r.CommandsBegun, r.EntriesRunTwice, r.ProcessesLeft = int64(len(began)), int64(len(twice)), int64(len(left))
	for _, line := range met {
		// One that comes late finds a later epoch, one that comes early somebody at work.
		if strings.Contains(line, wasThere) {
			r.RunsUnderFormerEpoch++
		} else {
			r.HostsUsedTwice++
		}
	}
	return nil
}

func (r *RunsReport) String() string {
	return fmt.Sprintf(`%d runs, %d lost, %d commands begun, which ended with %v; %d late calls were refused
hosts used twice %d, runs under a former epoch %d, not fenced %d, lost by an outage %d, entries run twice %d, ended twice %d, inconsistent %d, logs incomplete %d, processes left %d`,
		r.Runs, r.RunsLost, r.CommandsBegun, r.CommandEnds, r.LateCallsRefused,
		r.HostsUsedTwice, r.RunsUnderFormerEpoch, r.RunsNotFenced, r.RunsLostByOutage, r.EntriesRunTwice, r.EntriesEndedTwice, r.EntriesInconsistent, r.LogsIncomplete, r.ProcessesLeft)
}
