package runs

import (
	"context"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Results of runs that the rules tell apart.
const (
	resultPassed   = "passed"
	resultFailed   = "failed"
	resultUnusable = "unusable"
	resultInfra    = "infra"
)

// Finish ends a run. A repeated call gets the same answer.
func (r *Runs) Finish(ctx context.Context, run Run, in labapi.RunFinish) (labapi.RunAnswer, error) {
	if run.State == stateDone {
		return r.answer(Run{}), nil
	}
	if err := r.requireLogs(ctx, run, in.Streams); err != nil {
		answer, terr := r.Touch(ctx, run)
		answer.Unfinished = errors.Is(err, ErrPartsMissing)
		return answer, errors.Join(err, terr)
	}
	err := r.changeRun(ctx, "finish a run", &run, func(c *change, entries []scheduler.EntryID) error { return c.finishRun(run, entries, in) })
	switch {
	case err == nil:
		r.tell(run, in.Result)
	case run.State == stateDone:
		err = nil // another call was faster
	}
	return r.answer(Run{}), err
}

// requireLogs fails with ErrPartsMissing unless the servers have all of a run's logs.
func (r *Runs) requireLogs(ctx context.Context, run Run, streams []labapi.StreamEnd) error {
	if len(streams) == 0 {
		return nil
	}
	err := r.lab.SealLogs(ctx, run.ID, streams)
	if errors.Is(err, lab.ErrLogsMissing) {
		err = fmt.Errorf("%w: %w", ErrPartsMissing, err)
	}
	return err
}

func (c *change) finishRun(run Run, entries []scheduler.EntryID, in labapi.RunFinish) error {
	begun := run.State == string(lifecycle.StateRunning) || run.State == string(lifecycle.StateFinishing)
	if run.State != string(lifecycle.StateFinishing) {
		if err := c.endRun(&run, entries, in.ExitCode, in.Signal); err != nil {
			return err
		}
	}
	if err := c.outcome(run, entries, in, begun); err != nil {
		return err
	}
	if err := c.judge(run, in.Result); err != nil {
		return err
	}
	if err := c.r.lab.EnterResults(c.ctx, c.tx, run.ID, in.Tests); err != nil {
		return err
	}
	c.noteRun("run.closed", run, in.Result)
	// What was said before stays if nothing is said now.
	err := c.exec("UPDATE hostsched_runs SET state = 'done', closed = "+c.dialect().NowMillis+", result = ?, exit_code = COALESCE(?, exit_code), exit_signal = COALESCE(?, exit_signal), tests_failed = ?,"+
		" stop_reason = CASE WHEN ? = '' THEN stop_reason ELSE ? END, not_run_reason = ?, detail = ? WHERE id = ?",
		in.Result, number(in.ExitCode), number(in.Signal), in.TestsFailed, in.StopReason, in.StopReason, in.NotRunReason, in.Detail, run.ID)
	if err != nil {
		return err
	}
	return c.doneAtOnce()
}

// outcome is what the end of a run means for its task or its entries.
func (c *change) outcome(run Run, entries []scheduler.EntryID, in labapi.RunFinish, begun bool) error {
	if run.isTask() {
		return c.apply(lifecycle.TaskEnded{Task: lifecycle.TaskID(run.Task), OK: in.Result == resultPassed})
	}
	if in.Result == resultInfra {
		again, err := c.mayTryAgain(run, begun)
		if err != nil {
			return err
		}
		if again {
			return c.apply(lifecycle.Requeued{Entries: entries})
		}
	}
	ok := in.Result == resultPassed && in.StopReason == ""
	return c.apply(
		lifecycle.Gathered{Entries: entries, OK: ok, TestsFailed: in.TestsFailed, Unusable: in.Result == resultUnusable},
		lifecycle.Parsed{Entries: entries, OK: ok},
	)
}

// mayTryAgain tells whether the entries of a run that the lab failed are queued again: if
// nothing had begun, as long as that does not go on and on, and otherwise if the job says so.
func (c *change) mayTryAgain(run Run, begun bool) (bool, error) {
	if run.Agent == 0 {
		return false, nil // whoever runs a job himself tries again himself
	}
	most := maxTries
	before := "x.started IS NULL"
	if begun {
		spec, err := c.spec()
		if err != nil || spec == nil || spec.Retry == nil {
			return false, err
		}
		most, before = spec.Retry.Infra, "x.started IS NOT NULL"
	}
	var tried int
	err := c.tx.QueryRowContext(c.ctx, "SELECT COUNT(*) FROM hostsched_runs x WHERE x.job_id = ? AND x.kind = ? AND x.id <> ? AND (x.result = ? OR x.state = 'lost') AND "+before+
		" AND x.id IN (SELECT h.run_id FROM hostsched_run_hosts h WHERE h.entry_id IN (SELECT o.entry_id FROM hostsched_run_hosts o WHERE o.run_id = ?))", run.Job, kindJob, run.ID, resultInfra, run.ID).Scan(&tried)
	return tried < most, err
}

// judge notes what a run says of the health of its hosts.
func (c *change) judge(run Run, result string) error {
	for _, host := range c.hostsOf(run) {
		before := c.hosts[host].health
		after := before
		switch {
		case run.isTask() && result == resultPassed, !run.isTask():
			after = before.Worked()
		case run.Kind == string(lifecycle.Repair):
			after = before.Failed(lifecycle.Failure{What: "a repair"})
		}
		if err := c.writeHealth(host, before, after); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) writeHealth(host scheduler.HostID, before, after lifecycle.Health) error {
	if before == after {
		return nil
	}
	bad := ""
	if after.Bad && !before.Bad {
		bad = ", bad_since = " + c.dialect().NowMillis
		c.noteBad(host, after.Reason)
	}
	return c.exec("UPDATE hostsched_host_epochs SET failures = ?, last_job = ?, bad_reason = ?"+bad+" WHERE host_id = ?", after.Failures, sqldb.IDOrNull(int64(after.LastJob)), after.Reason, int64(host))
}

func (c *change) noteBad(host scheduler.HostID, reason string) {
	c.note(lab.Event{Kind: "host.bad", Host: int64(host), Subject: c.hosts[host].name, Reason: reason})
}
