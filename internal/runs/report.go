package runs

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

const runColumns = "r.id, r.kind, r.state, COALESCE(r.job_id, 0), COALESCE(r.task_id, 0), COALESCE(r.agent_id, 0), COALESCE((SELECT a.name FROM hostsched_agents a WHERE a.id = r.agent_id), ''), r.login, r.stop_reason, COALESCE(r.stop_since, 0), r.result"

func (run *Run) scan(scan sqldb.Scanner, more ...any) error {
	var stop, agent string
	err := scan(append([]any{&run.ID, &run.Kind, &run.State, &run.Job, &run.Task, &run.Agent, &agent, &run.Who, &stop, &run.stopSince, &run.result}, more...)...)
	if run.Agent != 0 {
		run.Who = Claimant{Name: agent}.who()
	}
	if run.stopSince != 0 {
		run.Stop = stopOf(run.ID, stop)
	}
	return err
}

func stopOf(run int64, reason string) *labapi.Stop {
	return &labapi.Stop{Run: run, Reason: reason, GraceMillis: stopGrace.Milliseconds()}
}

// ByToken returns the run whose token this is. Of one that is over it returns ErrRunLost, and
// the run: a Finish may be repeated.
func (r *Runs) ByToken(ctx context.Context, token string) (run Run, err error) {
	if err := r.check(); err != nil {
		return run, err
	}
	if !lab.WellFormed(token, lab.RunPrefix) {
		return run, fmt.Errorf("%w: it is no token of a run", lab.ErrToken)
	}
	db := r.lab.DB()
	err = run.scan(db.Pool.QueryRowContext(ctx, "SELECT "+runColumns+" FROM hostsched_runs r WHERE r.token_hash = ?", lab.HashOf(token)).Scan)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return run, fmt.Errorf("%w: no run has this token", ErrRunLost)
	case err != nil:
		return run, r.lab.Explain(err, "look the token of a run up")
	case !run.Open():
		return run, overError(run)
	}
	return run, nil
}

func overError(run Run) error {
	if run.State == stateLost {
		return fmt.Errorf("%w: run %d was given up; stop what is left of it", ErrRunLost, run.ID)
	}
	return fmt.Errorf("%w: run %d is closed", ErrRunLost, run.ID)
}

// Touch renews the lease of a run.
func (r *Runs) Touch(ctx context.Context, run Run) (labapi.RunAnswer, error) {
	return r.renewed(ctx, run, "")
}

// renewed renews the lease of a run and, with it, sets columns. A run that does not stop
// although it was asked to is not renewed.
func (r *Runs) renewed(ctx context.Context, run Run, set string, args ...any) (labapi.RunAnswer, error) {
	db := r.lab.DB()
	now := db.Dialect.NowMillis
	query := "UPDATE hostsched_runs SET lease_ms = ?, lease_until = CASE WHEN " + mayRenew(now) + " THEN " + now + " + ? ELSE lease_until END" + set + " WHERE id = ? AND state IN " + lab.OpenRuns
	lease := r.Lease.Milliseconds()
	args = append(append([]any{lease, lease}, args...), run.ID)
	if _, err := db.Pool.ExecContext(ctx, query, args...); err != nil {
		return labapi.RunAnswer{}, r.lab.Explain(err, fmt.Sprintf("renew run %d", run.ID))
	}
	again, err := r.byID(ctx, db.Pool, run.ID, "")
	if err == nil && !again.Open() {
		err = overError(again)
	}
	return r.answer(again), err
}

// mayRenew is lifecycle.Run.MayRenew in SQL. The lease of a reservation is all of its time.
func mayRenew(now string) string {
	return fmt.Sprintf("(kind <> 'reserve' AND (state = 'finishing' OR stop_since IS NULL OR %s < stop_since + %d))", now, lifecycle.StopPatience)
}

func (r *Runs) byID(ctx context.Context, q sqldb.Querier, id int64, lock string) (run Run, err error) {
	err = run.scan(q.QueryRowContext(ctx, "SELECT "+runColumns+" FROM hostsched_runs r WHERE r.id = ?"+lock, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return run, fmt.Errorf("%w: there is no run %d", ErrRunLost, id)
	}
	return run, r.lab.Explain(err, fmt.Sprintf("read run %d", id))
}

// State notes that the process of a run began, or ended. Repeating it changes nothing.
func (r *Runs) State(ctx context.Context, run Run, in labapi.RunState) (labapi.RunAnswer, error) {
	switch {
	case in.Phase == string(lifecycle.StateRunning) && run.State == string(lifecycle.StateClaimed):
		return r.begin(ctx, run)
	case in.Phase == string(lifecycle.StateFinishing) && run.State != string(lifecycle.StateFinishing):
		return r.end(ctx, run, in)
	}
	return r.Touch(ctx, run)
}

func (r *Runs) begin(ctx context.Context, run Run) (labapi.RunAnswer, error) {
	if run.isTask() {
		return r.renewed(ctx, run, ", state = CASE WHEN state = 'claimed' THEN 'running' ELSE state END, started = COALESCE(started, "+r.lab.DB().Dialect.NowMillis+")")
	}
	err := r.changeRun(ctx, "note that a run began", &run, func(c *change, entries []scheduler.EntryID) error {
		if run.State != string(lifecycle.StateClaimed) {
			return nil
		}
		if err := c.apply(lifecycle.RunStarted{Entries: entries}); err != nil {
			return err
		}
		c.noteRun("run.started", run, "")
		return c.exec("UPDATE hostsched_runs SET state = 'running', started = "+c.dialect().NowMillis+" WHERE id = ?", run.ID)
	})
	if err != nil {
		return labapi.RunAnswer{}, err
	}
	return r.Touch(ctx, run)
}

func (r *Runs) end(ctx context.Context, run Run, in labapi.RunState) (labapi.RunAnswer, error) {
	err := r.changeRun(ctx, "note that a run ended", &run, func(c *change, entries []scheduler.EntryID) error {
		if run.State == string(lifecycle.StateFinishing) {
			return nil
		}
		return c.endRun(&run, entries, in.ExitCode, in.Signal)
	})
	if err != nil {
		return labapi.RunAnswer{}, err
	}
	return r.Touch(ctx, run)
}

// endRun notes that the process of a run ended, or never came to be.
func (c *change) endRun(run *Run, entries []scheduler.EntryID, code, signal *int) error {
	if !run.isTask() {
		if err := c.apply(lifecycle.RunEnded{Entries: entries}); err != nil {
			return err
		}
	}
	run.State = string(lifecycle.StateFinishing)
	c.noteRun("run.ended", *run, "")
	return c.exec("UPDATE hostsched_runs SET state = 'finishing', ended = "+c.dialect().NowMillis+", exit_code = ?, exit_signal = ? WHERE id = ?", number(code), number(signal), run.ID)
}

func number(n *int) any {
	if n == nil {
		return nil
	}
	return *n
}

// changeRun is change for a run that must not be over. It hands on the run's entries.
func (r *Runs) changeRun(ctx context.Context, what string, run *Run, work func(c *change, entries []scheduler.EntryID) error) error {
	find := func() (target, error) { return r.runTarget(ctx, *run) }
	err := r.change(ctx, what, run.Who, find, func(c *change) error {
		now, err := r.byID(ctx, c.tx, run.ID, c.dialect().ForUpdate)
		if err != nil {
			return err
		}
		if *run = now; !run.Open() {
			return overError(*run)
		}
		entries, err := c.entriesOf(*run)
		if err != nil {
			return err
		}
		return work(c, entries)
	})
	if errors.Is(err, lifecycle.ErrNotNow) {
		// Somebody changed the rows by hand. The sweeps look after what is left.
		err = fmt.Errorf("%w: run %d: %w", ErrRunLost, run.ID, err)
	}
	return err
}

// entriesOf are the entries of a run. They must have the hosts that they had when it began.
func (c *change) entriesOf(run Run) (ids []scheduler.EntryID, err error) {
	if run.isTask() {
		return nil, nil
	}
	err = c.rows("SELECT entry_id, host_id FROM hostsched_run_hosts WHERE run_id = ? ORDER BY entry_id", []any{run.ID}, func(scan sqldb.Scanner) error {
		var id scheduler.EntryID
		var host scheduler.HostID
		if err := scan(&id, &host); err != nil {
			return err
		}
		if c.state.Entries[id].Host != host {
			return fmt.Errorf("%w: entry %d has not host %d any more", lifecycle.ErrNotNow, id, host)
		}
		ids = append(ids, id)
		return nil
	})
	return ids, err
}

// hostsOf are the hosts of a run.
func (c *change) hostsOf(run Run) (hosts []scheduler.HostID) {
	for _, id := range c.target.hosts {
		if h := c.hosts[scheduler.HostID(id)]; h.run == run.ID {
			hosts = append(hosts, scheduler.HostID(id))
		}
	}
	return hosts
}

func (c *change) noteRun(kind string, run Run, reason string) {
	for _, host := range c.hostsOf(run) {
		c.note(lab.Event{Kind: kind, Host: int64(host), Job: cmp.Or(run.Job, c.job), Subject: fmt.Sprint("run ", run.ID, " ", run.Kind), Reason: reason})
	}
}
