package simlab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Simulator plays the services around the scheduler: special tasks run and
// complete, jobs run and end, new suites arrive, somebody asks for a Verify of
// an idle host.
type Simulator struct {
	db  *sql.DB
	lab *Lab
	cfg Simulation
	rng *rand.Rand

	// due is when the current stage of an active entry ends, and running tells
	// whether that stage is the job itself.
	due     map[int64]time.Time
	running map[int64]bool
	taskDue map[int64]time.Time // frontend tasks

	queue atomic.Int64
	held  atomic.Bool
}

// Simulation sets the pace.
type Simulation struct {
	// Step is the time from one look at the lab to the next.
	Step time.Duration
	// A pre-job task and a job each last between the two bounds.
	TaskMin, TaskMax, JobMin, JobMax time.Duration
	// Queue is how many entries should wait; suites of SuiteSize entries arrive
	// when there are fewer. 0 adds none.
	Queue, SuiteSize int
	// Submit submits the suites that arrive; they are written into the database if it is
	// nil. An error that is ErrBusy goes away by trying again.
	Submit func(context.Context, Arriving) error
	// Agents run what is assigned: suites arrive and people ask for tasks, and nothing else
	// is played.
	Agents bool
	// FrontendTasks is how many tasks without entry are begun per step, on
	// average.
	FrontendTasks float64
}

// NewSimulator returns a simulator for a lab.
func NewSimulator(db *sql.DB, l *Lab, cfg Simulation) *Simulator {
	s := &Simulator{db: db, lab: l, cfg: cfg, rng: rand.New(rand.NewPCG(l.spec.Seed, 2)),
		due: map[int64]time.Time{}, running: map[int64]bool{}, taskDue: map[int64]time.Time{}}
	s.queue.Store(int64(cfg.Queue))
	return s
}

// SetQueue changes how many entries should wait, while the simulator runs: with 0
// the lab runs empty.
func (s *Simulator) SetQueue(n int) { s.queue.Store(int64(n)) }

// Hold stops all jobs and tasks from ending, or lets them end again: meanwhile what
// the lab is given stays given, so that it can be looked at.
func (s *Simulator) Hold(held bool) { s.held.Store(held) }

// Run steps until ctx ends. Steps that collide with the scheduler are repeated.
func (s *Simulator) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Step)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.Step(ctx); err != nil && ctx.Err() == nil && !Collision(err) {
			return fmt.Errorf("simulate the lab: %w", err)
		}
	}
}

// ErrBusy is an error of Simulation.Submit that goes away by trying again.
var ErrBusy = errors.New("the lab is busy")

// Collision tells errors that go away by trying again: the other side had the
// lock.
func Collision(err error) bool {
	if errors.Is(err, ErrBusy) {
		return true
	}
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return my.Number == 1205 || my.Number == 1213
	}
	return strings.Contains(err.Error(), "database is locked")
}

// Step moves everything on that is due.
func (s *Simulator) Step(ctx context.Context) error {
	now := time.Now()
	if s.held.Load() {
		return nil
	}
	steps := []func(context.Context, time.Time) error{s.aborts, s.entries, s.tasks, s.verifies, s.arrivals}
	if s.cfg.Agents {
		steps = steps[3:]
	}
	for _, step := range steps {
		if err := step(ctx, now); err != nil {
			return err
		}
	}
	return nil
}

// aborts ends the waiting entries that somebody aborted. Active ones end in their
// time.
func (s *Simulator) aborts(ctx context.Context, _ time.Time) error {
	aborted, err := s.ids(ctx, "SELECT id, COALESCE(host_id, 0) FROM afe_host_queue_entries WHERE aborted = 1 AND active = 0 AND complete = 0")
	if err != nil || len(aborted) == 0 {
		return err
	}
	var ids []int64
	for _, e := range aborted {
		ids = append(ids, e.id)
	}
	_, err = s.db.ExecContext(ctx, "UPDATE afe_host_queue_entries SET status = 'Aborted', complete = 1 WHERE active = 0 AND complete = 0 AND id IN "+in(ids))
	return err
}

// entries lets pre-job tasks complete and jobs begin and end.
func (s *Simulator) entries(ctx context.Context, now time.Time) error {
	active, err := s.ids(ctx, "SELECT id, host_id FROM afe_host_queue_entries WHERE active = 1 AND complete = 0 AND host_id IS NOT NULL")
	if err != nil {
		return err
	}
	var begin, end, beginHosts, endHosts []int64
	for _, e := range active {
		switch due, known := s.due[e.id]; {
		case !known:
			s.due[e.id] = now.Add(s.between(s.cfg.TaskMin, s.cfg.TaskMax))
		case now.Before(due):
		case s.running[e.id]:
			end, endHosts = append(end, e.id), append(endHosts, e.host)
		default:
			begin, beginHosts = append(begin, e.id), append(beginHosts, e.host)
		}
	}
	if err := s.inTx(ctx, len(begin),
		"UPDATE afe_special_tasks SET is_active = 0, is_complete = 1, success = 1, time_finished = CURRENT_TIMESTAMP WHERE is_complete = 0 AND queue_entry_id IN "+in(begin),
		"UPDATE afe_host_queue_entries SET status = 'Running', started_on = CURRENT_TIMESTAMP WHERE id IN "+in(begin),
		"UPDATE afe_hosts SET status = 'Running' WHERE id IN "+in(beginHosts)); err != nil {
		return err
	}
	for _, id := range begin {
		s.due[id] = now.Add(s.between(s.cfg.JobMin, s.cfg.JobMax))
		s.running[id] = true
	}
	if err := s.inTx(ctx, len(end),
		"UPDATE afe_host_queue_entries SET status = 'Completed', active = 0, complete = 1, finished_on = CURRENT_TIMESTAMP WHERE id IN "+in(end),
		"UPDATE afe_hosts SET status = 'Ready', dirty = 1 - dirty WHERE id IN "+in(endHosts)); err != nil {
		return err
	}
	for _, id := range end {
		delete(s.due, id)
		delete(s.running, id)
	}
	return nil
}

// tasks completes frontend tasks.
func (s *Simulator) tasks(ctx context.Context, now time.Time) error {
	open, err := s.ids(ctx, "SELECT id, host_id FROM afe_special_tasks WHERE is_complete = 0 AND queue_entry_id IS NULL")
	if err != nil {
		return err
	}
	var done []int64
	for _, t := range open {
		due, known := s.taskDue[t.id]
		switch {
		case !known:
			s.taskDue[t.id] = now.Add(s.between(s.cfg.TaskMin, s.cfg.TaskMax))
		case !now.Before(due):
			done = append(done, t.id)
		}
	}
	if err := s.inTx(ctx, len(done), "UPDATE afe_special_tasks SET is_complete = 1, success = 1 WHERE id IN "+in(done)); err != nil {
		return err
	}
	for _, id := range done {
		delete(s.taskDue, id)
	}
	return nil
}

// verifies begins frontend tasks.
func (s *Simulator) verifies(ctx context.Context, _ time.Time) error {
	if s.queue.Load() == 0 || s.rng.Float64() >= s.cfg.FrontendTasks {
		return nil
	}
	_, err := s.db.ExecContext(ctx, "INSERT INTO afe_special_tasks ("+TaskColumns+") VALUES (?, 'Verify', NULL, 1, 0, 0, CURRENT_TIMESTAMP)", 1+s.rng.IntN(s.lab.spec.Hosts))
	return err
}

// arrivals keeps the queue filled.
func (s *Simulator) arrivals(ctx context.Context, _ time.Time) error {
	queue := int(s.queue.Load())
	if queue == 0 {
		return nil
	}
	var waiting int
	if err := s.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE status = 'Queued' AND active = 0 AND complete = 0").Scan(&waiting); err != nil {
		return err
	}
	for ; waiting < queue; waiting += s.cfg.SuiteSize {
		if err := s.arrival(ctx); err != nil {
			return err
		}
	}
	return nil
}

// arrival adds one suite.
func (s *Simulator) arrival(ctx context.Context) error {
	if s.cfg.Submit != nil {
		return s.cfg.Submit(ctx, s.lab.DrawSuite(s.cfg.SuiteSize))
	}
	// The ids of a suite that collides are not used again.
	return InTx(ctx, s.db, func(tx *sql.Tx) error { return s.lab.AddSuite(ctx, tx, s.cfg.SuiteSize) })
}

func (s *Simulator) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(s.rng.Int64N(int64(high-low)))
}

type row struct{ id, host int64 }

func (s *Simulator) ids(ctx context.Context, query string) ([]row, error) {
	var out []row
	err := Each(ctx, s.db, query, func(rows *sql.Rows) error {
		var r row
		err := rows.Scan(&r.id, &r.host)
		out = append(out, r)
		return err
	})
	return out, err
}

// inTx runs statements that concern n rows in one transaction.
func (s *Simulator) inTx(ctx context.Context, n int, texts ...string) error {
	if n == 0 {
		return nil
	}
	return InTx(ctx, s.db, func(tx *sql.Tx) error {
		for _, text := range texts {
			if _, err := tx.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		return nil
	})
}

func in(ids []int64) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(id, 10))
	}
	return "(" + b.String() + ")"
}
