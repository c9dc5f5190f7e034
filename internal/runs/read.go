package runs

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Filter says which runs are listed; what is empty restricts nothing.
type Filter struct {
	Job         int64
	Host, State string
	// Login is who claimed it himself, Kind its kind; Open leaves out those that are over.
	Login, Kind string
	Open        bool
	// Before is the id before which the page begins, 0 for the newest.
	Before int64
	Limit  int
}

// states are those that people may ask for.
var states = []string{"claimed", "running", "finishing", stateDone, stateLost}

// List lists runs, the newest first.
func (r *Runs) List(ctx context.Context, f Filter) (page labapi.Page[labapi.Run], err error) {
	where, args := "1 = 1", []any(nil)
	restrict := func(condition string, value any) {
		where, args = where+" AND "+condition, append(args, value)
	}
	if f.Job != 0 {
		restrict("r.job_id = ?", f.Job)
	}
	if f.Host != "" {
		host := lab.EventFilter{Host: f.Host}
		if err := r.lab.ResolveHost(ctx, &host); err != nil {
			return page, err
		}
		restrict("r.id IN (SELECT x.run_id FROM hostsched_run_hosts x JOIN afe_hosts h ON h.id = x.host_id WHERE h.hostname = ?)", host.Host)
	}
	if f.State != "" {
		if !slices.Contains(states, f.State) {
			return page, fmt.Errorf("%w: %q is no state of a run", lab.ErrInput, f.State)
		}
		restrict("r.state = ?", f.State)
	}
	if f.Login != "" {
		restrict("r.login = ?", f.Login)
	}
	if f.Kind != "" {
		restrict("r.kind = ?", f.Kind)
	}
	if f.Open {
		where += " AND r.state IN " + lab.OpenRuns
	}
	if f.Before != 0 {
		restrict("r.id < ?", f.Before)
	}
	page.Items, err = r.read(ctx, where, append(args, f.Limit+1))
	if len(page.Items) > f.Limit {
		page.Items = page.Items[:f.Limit]
		page.After = lab.Cursor(page.Items[f.Limit-1].ID)
	}
	return page, err
}

// Get returns one run.
func (r *Runs) Get(ctx context.Context, id int64) (labapi.Run, error) {
	found, err := r.read(ctx, "r.id = ?", []any{id, 1})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%w: there is no run %d", lab.ErrNotFound, id)
	}
	if err != nil {
		return labapi.Run{}, err
	}
	return found[0], nil
}

func (r *Runs) read(ctx context.Context, where string, args []any) ([]labapi.Run, error) {
	out := []labapi.Run{}
	at := map[int64]int{}
	db := r.lab.DB()
	query := "SELECT r.id, r.kind, r.state, COALESCE(r.job_id, 0), COALESCE(r.task_id, 0), COALESCE((SELECT a.name FROM hostsched_agents a WHERE a.id = r.agent_id), ''), r.login, r.lease_until, r.claimed, r.started, r.ended, r.closed," +
		" r.exit_code, r.exit_signal, r.result, COALESCE((SELECT MAX(t.number) FROM hostsched_results t WHERE t.run_id = r.id), 0), r.tests_failed, r.stop_reason, r.not_run_reason, r.detail FROM hostsched_runs r WHERE " + where + " ORDER BY r.id DESC LIMIT ?"
	err := sqldb.EachRow(ctx, db.Pool, query, args, func(scan sqldb.Scanner) error {
		run := labapi.Run{Hosts: []labapi.RunHost{}}
		var lease, claimed int64
		var started, ended, closed, code, signal sql.NullInt64
		err := scan(&run.ID, &run.Kind, &run.State, &run.Job, &run.Task, &run.Agent, &run.Login, &lease, &claimed, &started, &ended, &closed,
			&code, &signal, &run.Result, &run.Tests, &run.TestsFailed, &run.StopReason, &run.NotRunReason, &run.Detail)
		run.LeaseUntil, run.Claimed = time.UnixMilli(lease).UTC(), time.UnixMilli(claimed).UTC()
		run.Started, run.Ended, run.Closed = timeOf(started), timeOf(ended), timeOf(closed)
		run.ExitCode, run.Signal = intOf(code), intOf(signal)
		at[run.ID] = len(out)
		out = append(out, run)
		return err
	})
	if err != nil || len(out) == 0 {
		return out, r.lab.Explain(err, "read runs")
	}
	in := sqldb.List(sqldb.IDsOf(out, func(run labapi.Run) int64 { return run.ID }))
	err = sqldb.EachRow(ctx, db.Pool, "SELECT x.run_id, COALESCE(h.hostname, ''), x.epoch, COALESCE(x.entry_id, 0) FROM hostsched_run_hosts x JOIN afe_hosts h ON h.id = x.host_id WHERE x.run_id IN "+in+" ORDER BY x.run_id, x.entry_id, x.host_id", nil, func(scan sqldb.Scanner) error {
		var id int64
		var h labapi.RunHost
		err := scan(&id, &h.Hostname, &h.Epoch, &h.Entry)
		out[at[id]].Hosts = append(out[at[id]].Hosts, h)
		return err
	})
	return out, r.lab.Explain(err, "read the hosts of runs")
}

func timeOf(at sql.NullInt64) *time.Time {
	if !at.Valid {
		return nil
	}
	t := time.UnixMilli(at.Int64).UTC()
	return &t
}

func intOf(n sql.NullInt64) *int {
	if !n.Valid {
		return nil
	}
	i := int(n.Int64)
	return &i
}
