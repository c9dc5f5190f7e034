package runs

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// target is what a change is about.
type target struct {
	// job is 0 if it concerns a host alone.
	job int64
	// together means that the entries of the job start together, so that one concerns all.
	together bool
	// entries are those that it concerns; hosts are theirs, and others that it concerns.
	entries, hosts []int64
	// history means that the ended tasks of the entries count, too.
	history bool
}

// hostRow is what a change knows of a host beside what the rules look at.
type hostRow struct {
	name    string
	epoch   int64
	health  lifecycle.Health
	agent   int64 // 0 if no agent serves it
	leased  bool
	invalid bool
	// run is the run that had the host last, runState its state.
	run      int64
	runState string
}

// open tells whether a run that is not closed has the host.
func (h hostRow) open() bool { return h.run != 0 && h.runState != stateDone && h.runState != stateLost }

// change is a transaction that applies events to a State. The rows of hostsched_host_epochs
// of all its hosts are locked first: whatever happens to a host or its run goes through them.
type change struct {
	r   *Runs
	ctx context.Context
	tx  *sql.Tx
	who string

	target
	before, state lifecycle.State
	hosts         map[scheduler.HostID]hostRow
	shard         sql.NullInt64 // afe_jobs.shard_id
	events        []lab.Event
}

// change loads the State of what find returns, lets work apply events to it, and writes what
// is different. find runs before the transaction, because hosts are locked before the entries
// that have them; what has moved in between is looked up again.
func (r *Runs) change(ctx context.Context, what, who string, find func() (target, error), work func(*change) error) error {
	system, err := r.lab.SystemUser(ctx)
	if err != nil {
		return err
	}
	for {
		at, err := find()
		if err != nil {
			return r.lab.Explain(err, what)
		}
		err = r.lab.Change(ctx, what, func(tx *sql.Tx) error {
			c := &change{r: r, ctx: ctx, tx: tx, who: who, target: at}
			if err := c.load(scheduler.UserID(system)); err != nil {
				return err
			}
			if err := work(c); err != nil {
				return err
			}
			return c.finish()
		})
		if !errors.Is(err, errMoved) || ctx.Err() != nil {
			return err
		}
	}
}

// apply applies events to the state, all or none.
func (c *change) apply(events ...lifecycle.Event) error {
	after, err := c.state, error(nil)
	for _, e := range events {
		if after, err = lifecycle.Next(after, e); err != nil {
			return err
		}
	}
	c.state = after
	return nil
}

// finish writes what is different, and the events.
func (c *change) finish() error {
	if err := c.write(lifecycle.Diff(c.before, c.state)); err != nil || len(c.events) == 0 {
		return err
	}
	return c.r.lab.Note(c.ctx, c.tx, c.events...)
}

func (c *change) exec(query string, args ...any) error {
	_, err := c.tx.ExecContext(c.ctx, query, args...)
	return err
}

func (c *change) rows(query string, args []any, row func(sqldb.Scanner) error) error {
	return sqldb.EachRow(c.ctx, c.tx, query, args, row)
}

func (c *change) dialect() *sqldb.Dialect { return &c.r.lab.DB().Dialect }

// spec is what was submitted, nil if the job did not come through the API.
func (c *change) spec() (*labapi.JobSpec, error) {
	var text string
	err := c.tx.QueryRowContext(c.ctx, "SELECT spec FROM hostsched_job_specs WHERE job_id = ?", c.job).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var spec labapi.JobSpec
	return &spec, json.Unmarshal([]byte(text), &spec)
}
