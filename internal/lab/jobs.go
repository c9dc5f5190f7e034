package lab

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/selector"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// JobFilter says which jobs are listed; what is empty restricts nothing.
type JobFilter struct {
	State        labapi.JobState
	Owner, Label string
	// Selector holds for the labels that the jobs depend on.
	Selector      selector.Selector
	Suite, Before int64
	Limit         int
}

// states are the conditions on a job j for each state: what its entries are like.
var states = map[labapi.JobState]string{
	labapi.JobRunning: running,
	labapi.JobQueued:  "NOT " + running + " AND " + open,
	labapi.JobAborted: "NOT " + open + " AND " + some("(q.aborted = 1 OR q.status = 'Aborted')"),
	labapi.JobFailed:  "NOT " + open + " AND NOT " + some("(q.aborted = 1 OR q.status = 'Aborted')") + " AND " + some("q.status IN ('Failed', 'Stopped')"),
	labapi.JobPassed:  "NOT " + open + " AND NOT " + some("(q.aborted = 1 OR q.status IN ('Aborted', 'Failed', 'Stopped'))"),
}

var (
	// An entry whose results are parsed is neither active nor complete.
	running = some("(q.active = 1 OR q.complete = 0 AND q.status <> 'Queued')")
	open    = some("q.complete = 0")
)

func some(condition string) string {
	return "EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.job_id = j.id AND " + condition + ")"
}

// stateOf is the state of entries, by the same rules.
func stateOf(n entryCounts) labapi.JobState {
	switch {
	case n.running > 0:
		return labapi.JobRunning
	case n.open > 0:
		return labapi.JobQueued
	case n.aborted > 0:
		return labapi.JobAborted
	case n.failed > 0:
		return labapi.JobFailed
	}
	return labapi.JobPassed
}

// entryCounts counts entries.
type entryCounts struct {
	all, running, open, aborted, failed, holds, waiting int
	started, ended                                      sql.NullInt64
}

// Jobs lists jobs that have entries, the newest first.
func (l *Lab) Jobs(ctx context.Context, f JobFilter) (page labapi.Page[labapi.Job], err error) {
	where, args := "EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.job_id = j.id)", []any(nil)
	restrict := func(condition string, values ...any) {
		where += " AND " + condition
		args = append(args, values...)
	}
	if f.State != "" {
		condition, known := states[f.State]
		if !known {
			return page, fmt.Errorf("%w: %q is no state of a job", ErrInput, f.State)
		}
		restrict(condition)
	}
	if f.Owner != "" {
		restrict("j.owner = ?", f.Owner)
	}
	if f.Label != "" {
		condition, values := dependsOn("l.name = ?", f.Label)
		restrict(condition, values...)
	}
	for _, term := range f.Selector {
		condition, values := termOf(term, dependsOn)
		restrict(condition, values...)
	}
	if f.Suite != 0 {
		restrict("j.parent_job_id = ?", f.Suite)
	}
	if f.Before != 0 {
		restrict("j.id < ?", f.Before)
	}
	page.Items, err = l.readJobs(ctx, where, append(args, f.Limit+1))
	if len(page.Items) > f.Limit {
		page.Items = page.Items[:f.Limit]
		page.After = Cursor(page.Items[f.Limit-1].ID)
	}
	return page, err
}

// dependsOn is a condition on a job j: it depends on a label l for which a condition holds.
func dependsOn(label string, args ...any) (condition string, values []any) {
	return "EXISTS (SELECT 1 FROM afe_jobs_dependency_labels d JOIN afe_labels l ON l.id = d.label_id WHERE d.job_id = j.id AND " + label + ")", args
}

func (l *Lab) readJobs(ctx context.Context, where string, args []any) ([]labapi.Job, error) {
	jobs := []labapi.Job{}
	at := map[int64]int{}
	query := "SELECT j.id, COALESCE(j.name, ''), COALESCE(j.owner, ''), COALESCE(j.priority, 0), COALESCE(j.parent_job_id, 0), j.synch_count, " + l.db.Dialect.Unix("j.created_on") +
		", COALESCE((SELECT s.clone_of FROM hostsched_job_specs s WHERE s.job_id = j.id), 0) FROM afe_jobs j WHERE " + where + " ORDER BY j.id DESC LIMIT ?"
	err := l.each(ctx, "read jobs", query, args, func(scan sqldb.Scanner) error {
		var created sql.NullInt64
		j := labapi.Job{Labels: []string{}}
		err := scan(&j.ID, &j.Name, &j.Owner, &j.Priority, &j.Suite, &j.Synch, &created, &j.CloneOf)
		j.Created = time.Unix(created.Int64, 0).UTC()
		at[j.ID] = len(jobs)
		jobs = append(jobs, j)
		return err
	})
	if err != nil || len(jobs) == 0 {
		return jobs, err
	}
	ids := sqldb.IDsOf(jobs, func(j labapi.Job) int64 { return j.ID })
	err = l.each(ctx, "read the labels of jobs", "SELECT d.job_id, l.name FROM afe_jobs_dependency_labels d JOIN afe_labels l ON l.id = d.label_id WHERE d.job_id IN "+sqldb.List(ids)+" ORDER BY d.id", nil, func(scan sqldb.Scanner) error {
		var id int64
		var name string
		err := scan(&id, &name)
		j := &jobs[at[id]]
		j.Labels = append(j.Labels, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	counts, err := l.count(ctx, "q.job_id", "", "q.job_id IN "+sqldb.List(ids))
	for i := range jobs {
		n := counts[jobs[i].ID]
		jobs[i].State, jobs[i].Started = stateOf(n), seconds(n.started)
		if n.open == 0 {
			jobs[i].Ended = seconds(n.ended)
		}
	}
	return jobs, err
}

// count counts entries q by a column.
func (l *Lab) count(ctx context.Context, by, join, where string) (map[int64]entryCounts, error) {
	out := map[int64]entryCounts{}
	sum := func(condition string) string { return "SUM(CASE WHEN " + condition + " THEN 1 ELSE 0 END), " }
	query := "SELECT " + by + ", COUNT(*), " + sum("q.active = 1 OR q.complete = 0 AND q.status <> 'Queued'") + sum("q.complete = 0") + sum("q.complete = 1 AND (q.aborted = 1 OR q.status = 'Aborted')") +
		sum("q.complete = 1 AND q.aborted = 0 AND q.status IN ('Failed', 'Stopped')") + sum("q.active = 1 AND q.complete = 0 AND q.host_id IS NOT NULL") + sum("q.status = 'Queued' AND q.active = 0 AND q.complete = 0") +
		"MIN(" + l.db.Dialect.Unix("q.started_on") + "), MAX(" + l.db.Dialect.Unix("q.finished_on") + ") FROM afe_host_queue_entries q" + join + " WHERE " + where + " GROUP BY " + by
	err := l.each(ctx, "count queue entries", query, nil, func(scan sqldb.Scanner) error {
		var id int64
		var n entryCounts
		err := scan(&id, &n.all, &n.running, &n.open, &n.aborted, &n.failed, &n.holds, &n.waiting, &n.started, &n.ended)
		out[id] = n
		return err
	})
	return out, err
}

// seconds is a time of Autotest's tables, nil if there is none.
func seconds(at sql.NullInt64) *time.Time {
	if !at.Valid {
		return nil
	}
	t := time.Unix(at.Int64, 0).UTC()
	return &t
}

// Job returns a job with its entries.
func (l *Lab) Job(ctx context.Context, id int64) (labapi.Job, error) {
	jobs, err := l.readJobs(ctx, "j.id = ?", []any{id, 1})
	if err != nil {
		return labapi.Job{}, err
	}
	if len(jobs) == 0 {
		return labapi.Job{}, fmt.Errorf("%w: there is no job %d", ErrNotFound, id)
	}
	j := jobs[0]
	if err := l.readEntries(ctx, &j); err != nil {
		return j, err
	}
	if len(j.Entries) == 0 {
		counts, err := l.count(ctx, "j.parent_job_id", childrenJoin, fmt.Sprintf("j.parent_job_id = %d", id))
		if err != nil {
			return j, err
		}
		j.State = stateOf(counts[id])
	}
	j.Keyvals = map[string]string{}
	err = l.each(ctx, "read keyvals", "SELECT `key`, value FROM afe_job_keyvals WHERE job_id = ? ORDER BY id", []any{id}, func(scan sqldb.Scanner) error {
		var key, value string
		err := scan(&key, &value)
		j.Keyvals[key] = value
		return err
	})
	if err != nil {
		return j, err
	}
	if j.Spec, err = l.spec(ctx, id); err == nil && j.Spec != nil {
		for name := range j.Spec.Secrets {
			j.Spec.Secrets[name] = hidden
		}
	}
	return j, err
}

// hidden stands for a secret where a job is shown.
const hidden = "******"

// childrenJoin finds the jobs j of entries q.
const childrenJoin = " JOIN afe_jobs j ON j.id = q.job_id"

func (l *Lab) readEntries(ctx context.Context, j *labapi.Job) error {
	j.Entries = []labapi.Entry{}
	unix := l.db.Dialect.Unix
	query := "SELECT q.id, COALESCE(q.status, ''), COALESCE(h.hostname, ''), q.aborted, COALESCE(q.active, 0), COALESCE(q.complete, 0), " + unix("q.started_on") + ", " + unix("q.finished_on") +
		" FROM afe_host_queue_entries q LEFT JOIN afe_hosts h ON h.id = q.host_id WHERE q.job_id = ? ORDER BY q.id"
	return l.each(ctx, "read queue entries", query, []any{j.ID}, func(scan sqldb.Scanner) error {
		var e labapi.Entry
		var started, ended sql.NullInt64
		err := scan(&e.ID, &e.Status, &e.Host, &e.Aborted, &e.Active, &e.Complete, &started, &ended)
		e.Started, e.Ended = seconds(started), seconds(ended)
		j.Entries = append(j.Entries, e)
		return err
	})
}

// spec is what was submitted, nil if the job did not come through the API.
func (l *Lab) spec(ctx context.Context, id int64) (*labapi.JobSpec, error) {
	var text string
	err := l.db.Pool.QueryRowContext(ctx, "SELECT spec FROM hostsched_job_specs WHERE job_id = ?", id).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, l.explain(err, "read the spec of a job")
	}
	var spec labapi.JobSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return nil, fmt.Errorf("the spec of job %d in hostsched_job_specs: %w", id, err)
	}
	return &spec, nil
}

// Requeue submits a job once more.
func (l *Lab) Requeue(ctx context.Context, s Submission, id int64) (labapi.Submitted, NewEntries, error) {
	job, err := l.Job(ctx, id)
	if err != nil {
		return labapi.Submitted{}, nil, err
	}
	spec, err := l.specAgain(ctx, job)
	if err != nil {
		return labapi.Submitted{}, nil, err
	}
	spec.Owner, spec.Suite, spec.AllowUnplaceable = job.Owner, job.Suite, true
	s.CloneOf, s.MaxPriority = id, max(s.MaxPriority, spec.Priority)
	return l.SubmitJob(ctx, s, *spec)
}

// specAgain is what is submitted once more.
func (l *Lab) specAgain(ctx context.Context, job labapi.Job) (*labapi.JobSpec, error) {
	spec, err := l.spec(ctx, job.ID)
	switch {
	case err != nil:
		return nil, err
	case spec == nil:
		return l.specOfRows(ctx, job)
	case spec.Own != "":
		return nil, fmt.Errorf("%w: job %d was run by who submitted it; use 'hostsched run' or 'hostsched host reserve' again", ErrConflict, job.ID)
	}
	return spec, nil
}

// specOfRows is the spec of a job that another client entered.
func (l *Lab) specOfRows(ctx context.Context, job labapi.Job) (*labapi.JobSpec, error) {
	if len(job.Entries) == 0 {
		return nil, fmt.Errorf("%w: job %d has no queue entries; a suite is submitted again as a whole", ErrConflict, job.ID)
	}
	spec := &labapi.JobSpec{Name: job.Name, Priority: job.Priority, Labels: job.Labels, Synch: job.Synch, Keyvals: job.Keyvals}
	var verify, reset bool
	var timeout, runtime, before, after int64
	err := l.db.Pool.QueryRowContext(ctx, "SELECT COALESCE(control_file, ''), COALESCE(run_verify, 0), run_reset <> 0, timeout_mins, max_runtime_mins, reboot_before, reboot_after, email_list FROM afe_jobs WHERE id = ?", job.ID).
		Scan(&spec.Script, &verify, &reset, &timeout, &runtime, &before, &after, &spec.Notify)
	if err != nil {
		return nil, l.explain(err, "read a job")
	}
	spec.Verify, spec.Reset, spec.Reboot = &verify, &reset, jobspec.RebootNames(before, after)
	if timeout > 0 {
		spec.Timeout = fmt.Sprintf("%dm", timeout)
	}
	if runtime > 0 {
		spec.MaxRuntime = fmt.Sprintf("%dm", runtime)
	}
	var named []string
	err = l.each(ctx, "read which hosts a job names", "SELECT h.hostname FROM afe_host_queue_entries q JOIN afe_hosts h ON h.id = q.host_id WHERE q.job_id = ? AND q.meta_host IS NULL ORDER BY q.id", []any{job.ID}, func(scan sqldb.Scanner) error {
		var name string
		err := scan(&name)
		named = append(named, name)
		return err
	})
	if spec.Hosts = named; len(named) == 0 {
		spec.Count = len(job.Entries)
	}
	return spec, err
}

// ShardsOf are the shards that a job belongs to, by its entries or by their hosts.
func (l *Lab) ShardsOf(ctx context.Context, job int64) ([]shard.Name, error) {
	entries, err := l.shardsWhere(ctx, fmt.Sprintf("q.job_id = %d", job))
	return slices.Collect(maps.Keys(entries)), err
}

// shardsOf are the shards that the entries of jobs belong to, with the entries.
func (l *Lab) shardsOf(ctx context.Context, jobs []int64) (NewEntries, error) {
	return l.shardsWhere(ctx, "q.complete = 0 AND q.job_id IN "+sqldb.List(jobs))
}

func (l *Lab) shardsWhere(ctx context.Context, where string) (NewEntries, error) {
	out := NewEntries{}
	err := l.db.Read(ctx, func(r *sqldb.Reader) {
		var layout shard.Layout
		if l.scope.Shared {
			layout = store.ReadLayout(r, true)
		}
		r.Rows("SELECT q.id, q.host_id, h.shard_id, q.meta_host FROM afe_host_queue_entries q LEFT JOIN afe_hosts h ON h.id = q.host_id WHERE "+where, func(v sqldb.Row) {
			name := l.scope.Shard
			if l.scope.Shared {
				name = layout.Name(layout.OfEntry(v.Int(1).Valid, shard.ID(v.Int(2).N), v.Int(3).N))
			}
			out[name] = append(out[name], v.Int(0).N)
		})
	})
	return out, l.explain(err, "look up the shards of jobs")
}

// Cursor is an id as clients carry it to the next page.
func Cursor(id int64) string { return fmt.Sprintf("b%x", id) }

// ParseCursor reads a cursor; 0 for none.
func ParseCursor(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	var id int64
	if n, err := fmt.Sscanf(text, "b%x", &id); n != 1 || err != nil || Cursor(id) != text || id <= 0 {
		return 0, fmt.Errorf("%w: %q is no value that after can have; take it from the page before", ErrInput, cut(text, 40))
	}
	return id, nil
}

// cut shortens a text to so many characters.
func cut(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}
