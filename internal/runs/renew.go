package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// agentRun is a run of an agent that is not closed.
type agentRun struct {
	Run
	session string
}

// Renew renews the leases of the runs that an agent names. Those that the servers have closed
// it is to forget. Runs of a former process that it does not name, and all of them after a
// reboot of its machine, are given up: nothing works at them any more. A former process with
// another spool may have been on another machine, where its runs go on: those are left alone
// until their leases end.
func (r *Runs) Renew(ctx context.Context, agent int64, session, bootID string, named []labapi.AgentRun) (renewed, forget []int64, stop []labapi.Stop, err error) {
	if err := r.check(); err != nil {
		return nil, nil, nil, err
	}
	open, boot, err := r.openRuns(ctx, agent)
	if err != nil {
		return nil, nil, nil, err
	}
	rebooted := boot != "" && bootID != "" && boot != bootID
	known := map[int64]bool{}
	for _, n := range named {
		known[n.Run] = true
	}
	for _, run := range open {
		former := run.session != session && !labapi.OtherSpool(run.session, session)
		if former && (rebooted || !known[run.ID]) {
			reason := "the agent does not know of it"
			if rebooted {
				reason = "the agent's machine was booted again"
			}
			if err := r.lose(ctx, run.Run, reason, ""); err != nil {
				return nil, nil, nil, err
			}
			continue
		}
		if !known[run.ID] {
			continue // the answer to its claim is on the way, or it is another machine's
		}
		renewed = append(renewed, run.ID)
		if run.Stop != nil {
			stop = append(stop, *run.Stop)
		}
	}
	for _, n := range named {
		if !slices.Contains(renewed, n.Run) {
			forget = append(forget, n.Run)
		}
	}
	return renewed, forget, stop, r.renewAll(ctx, renewed, session)
}

// openRuns are the runs of an agent that are not closed, and the boot of its machine when it
// called last.
func (r *Runs) openRuns(ctx context.Context, agent int64) (open []agentRun, boot string, err error) {
	db := r.lab.DB()
	if err := db.Pool.QueryRowContext(ctx, "SELECT COALESCE(MAX(boot_id), '') FROM hostsched_agents WHERE id = ?", agent).Scan(&boot); err != nil {
		return nil, "", r.lab.Explain(err, "read an agent")
	}
	err = sqldb.EachRow(ctx, db.Pool, "SELECT "+runColumns+", r.session FROM hostsched_runs r WHERE r.agent_id = ? AND r.state IN "+lab.OpenRuns+" ORDER BY r.id", []any{agent}, func(scan sqldb.Scanner) error {
		var run agentRun
		err := run.scan(scan, &run.session)
		open = append(open, run)
		return err
	})
	return open, boot, r.lab.Explain(err, "read the runs of an agent")
}

func (r *Runs) renewAll(ctx context.Context, ids []int64, session string) error {
	if len(ids) == 0 {
		return nil
	}
	db := r.lab.DB()
	now := db.Dialect.NowMillis
	lease := r.Lease.Milliseconds()
	_, err := db.Pool.ExecContext(ctx, "UPDATE hostsched_runs SET session = ?, lease_ms = ?, lease_until = CASE WHEN "+mayRenew(now)+" THEN "+now+" + ? ELSE lease_until END WHERE state IN "+lab.OpenRuns+" AND id IN "+sqldb.List(ids), session, lease, lease)
	return r.lab.Explain(err, "renew the runs of an agent")
}

// lose gives a run up. If there is a condition, of a run r, only if that still holds.
func (r *Runs) lose(ctx context.Context, run Run, reason, condition string) error {
	run.Who = sweeper
	still := true
	err := r.changeRun(ctx, "give a run up", &run, func(c *change, entries []scheduler.EntryID) (err error) {
		if condition != "" {
			query := "SELECT COUNT(*) > 0 FROM hostsched_runs r WHERE r.id = ? AND " + condition
			if err := c.tx.QueryRowContext(c.ctx, query, run.ID).Scan(&still); err != nil || !still {
				return err
			}
		}
		return c.loseRun(run, entries, reason)
	})
	switch {
	case errors.Is(err, ErrRunLost):
		return r.dropRun(ctx, run, reason)
	case err == nil && still:
		r.tell(run, stateLost)
	}
	return err
}

// leaseOver holds for runs r whose lease ended long ago, as lifecycle.Due finds them.
func leaseOver(now string) string {
	return fmt.Sprintf("r.lease_until + CASE WHEN r.lease_ms < %d THEN r.lease_ms ELSE %d END < %s", lifecycle.MostLossGrace, lifecycle.MostLossGrace, now)
}

// neverNamed holds for runs r of which their agents do not know.
var neverNamed = fmt.Sprintf("EXISTS (SELECT 1 FROM hostsched_agents a WHERE a.id = r.agent_id AND a.session = r.session AND a.seen > r.lease_until - r.lease_ms + %d)", lifecycle.UnknownAfter)

func (c *change) loseRun(run Run, entries []scheduler.EntryID, reason string) error {
	begun := run.State != string(lifecycle.StateClaimed)
	if err := c.lost(run, entries, begun); err != nil {
		return err
	}
	for _, host := range c.hostsOf(run) {
		before := c.hosts[host].health
		after := before.Failed(lifecycle.Failure{What: fmt.Sprintf("run %d (%s): %s", run.ID, run.Kind, reason), Job: scheduler.JobID(c.job)})
		if err := c.writeHealth(host, before, after); err != nil {
			return err
		}
	}
	c.noteRun("run.lost", run, reason)
	notRun := ""
	if !begun {
		notRun = notRunAgentLost
	}
	err := c.exec("UPDATE hostsched_runs SET state = 'lost', closed = "+c.dialect().NowMillis+", result = ?, not_run_reason = ?, detail = ? WHERE id = ?", resultInfra, notRun, reason, run.ID)
	if err != nil {
		return err
	}
	return c.doneAtOnce()
}

// notRunAgentLost is why a run never began whose claimant was not heard of again.
const notRunAgentLost = "agent-lost"

// lost is what the loss of a run means for its task or its entries. What had not begun is made
// again, what had begun only if the job says so.
func (c *change) lost(run Run, entries []scheduler.EntryID, begun bool) error {
	if run.isTask() {
		return c.apply(lifecycle.TaskEnded{Task: lifecycle.TaskID(run.Task), Lost: true})
	}
	again, err := c.mayTryAgain(run, begun)
	if err != nil {
		return err
	}
	var ended []lifecycle.Event
	if run.State != string(lifecycle.StateFinishing) {
		ended = append(ended, lifecycle.RunEnded{Entries: entries})
	}
	if again {
		return c.apply(append(ended, lifecycle.Requeued{Entries: entries})...)
	}
	return c.apply(append(ended, lifecycle.Gathered{Entries: entries, Lost: true}, lifecycle.Parsed{Entries: entries})...)
}

// dropRun closes a run whose task or entries somebody changed by hand, so that no event fits
// them any more. What they leave behind is for the sweeps.
func (r *Runs) dropRun(ctx context.Context, run Run, reason string) error {
	db := r.lab.DB()
	res, err := db.Pool.ExecContext(ctx, "UPDATE hostsched_runs SET state = 'lost', closed = "+db.Dialect.NowMillis+", result = ?, detail = ? WHERE id = ? AND state IN "+lab.OpenRuns, resultInfra, reason, run.ID)
	if err != nil {
		return r.lab.Explain(err, fmt.Sprintf("give run %d up", run.ID))
	}
	if n, err := res.RowsAffected(); err == nil && n > 0 {
		r.tell(run, stateLost)
	}
	return nil
}
