package lab

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/traceid"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Submission is who submits, and under which rules.
type Submission struct {
	Who access.Caller
	// Key, if it is set, makes a repeated request the same as the first.
	Key *Key
	// MaxPriority is the highest priority that users may give.
	MaxPriority int
	// CloneOf is the job that is submitted once more, 0 if it is another one.
	CloneOf int64
	// Trace is the trace that the jobs belong to, as package traceid writes it; empty if none.
	Trace string
}

// NewEntries are new entries by the shard that has to know of them.
type NewEntries map[shard.Name][]int64

// SubmitJob enters a job.
func (l *Lab) SubmitJob(ctx context.Context, s Submission, spec labapi.JobSpec) (out labapi.Submitted, entries NewEntries, err error) {
	if err := jobspec.CheckJob(&spec); err != nil {
		return out, nil, err
	}
	if done, err := l.answered(ctx, s, &out); done || err != nil {
		return out, nil, err
	}
	b, err := l.admit(ctx, s, &spec.Owner, spec.Priority, []labapi.JobSpec{spec})
	if err != nil {
		return out, nil, err
	}
	b.cloneOf = s.CloneOf
	err = l.changeOnce(ctx, "submit job "+spec.Name, s, &out, func(tx *sql.Tx) error {
		if err := l.requireSuite(ctx, tx, spec.Suite); err != nil {
			return err
		}
		ids, err := l.insertJobs(ctx, tx, b, spec.Suite)
		if err != nil {
			return err
		}
		entries = ids.entries
		out = labapi.Submitted{ID: ids.jobs[0], Entries: ids.all}
		return nil
	})
	return out, entries, err
}

// SubmitSuite enters a suite with its jobs.
func (l *Lab) SubmitSuite(ctx context.Context, s Submission, in labapi.SuiteInput) (out labapi.Suite, entries NewEntries, err error) {
	if err := jobspec.CheckSuite(&in); err != nil {
		return out, nil, err
	}
	if done, err := l.answered(ctx, s, &out); done || err != nil {
		return out, nil, err
	}
	b, err := l.admitSuite(ctx, s, &in)
	if err != nil {
		return out, nil, err
	}
	err = l.changeOnce(ctx, "submit suite "+in.Name, s, &out, func(tx *sql.Tx) error {
		id, err := l.insertSuite(ctx, tx, b, in)
		if err != nil {
			return err
		}
		ids, err := l.insertJobs(ctx, tx, b, id)
		if err != nil {
			return err
		}
		entries = ids.entries
		out = labapi.Suite{ID: id, Name: in.Name, Owner: b.owner.login, Priority: in.Priority, Created: time.Now().UTC().Truncate(time.Second), Minimum: in.Minimum, Waiting: len(ids.all), Jobs: ids.jobs}
		return nil
	})
	return out, entries, err
}

// admitSuite is admit for a suite, whose priority is that of the jobs that have none.
func (l *Lab) admitSuite(ctx context.Context, s Submission, in *labapi.SuiteInput) (*batch, error) {
	highest := in.Priority
	for i := range in.Jobs {
		if in.Jobs[i].Priority == 0 {
			in.Jobs[i].Priority = in.Priority
		}
		highest = max(highest, in.Jobs[i].Priority)
	}
	return l.admit(ctx, s, &in.Owner, highest, in.Jobs)
}

// admit checks that the caller may submit, and that the jobs can run some day.
func (l *Lab) admit(ctx context.Context, s Submission, owner *string, highest int, specs []labapi.JobSpec) (b *batch, err error) {
	if *owner == "" {
		if *owner, err = l.ownerFor(ctx, s.Who); err != nil {
			return nil, err
		}
	}
	b, err = l.prepare(ctx, s.Who, *owner, specs)
	if err != nil {
		return nil, err
	}
	b.trace = s.Trace
	if !b.own {
		if err := access.Operating.Check(s.Who, false); err != nil {
			return nil, fmt.Errorf("submit for %s: %w", *owner, err)
		}
	}
	if highest > s.MaxPriority {
		if err := access.Operating.Check(s.Who, false); err != nil {
			return nil, fmt.Errorf("a priority of %d, which is above %d: %w", highest, s.MaxPriority, err)
		}
	}
	return b, l.refuseUnplaceable(ctx, b)
}

// ownerFor is whose jobs those are that name no owner: the caller's. Whoever is known by the
// machine alone is no user of the lab; his are the first administrator's, if there is one.
func (l *Lab) ownerFor(ctx context.Context, who access.Caller) (owner string, err error) {
	if !who.Local() {
		return who.Login, nil
	}
	err = l.read(ctx, "look up the first administrator", func(r *sqldb.Reader) {
		if len(store.RowsNamed(r, "afe_users", "login", "", []string{FirstAdmin})) > 0 {
			owner = FirstAdmin
		}
	})
	if err == nil && owner == "" {
		err = fmt.Errorf("%w: %s is no user of this lab; name the owner of the job", ErrInput, who.Login)
	}
	return owner, err
}

// refuseUnplaceable refuses jobs that no host can ever run, in the planner's words where it
// has any.
func (l *Lab) refuseUnplaceable(ctx context.Context, b *batch) error {
	began := time.Now()
	scarce := &batch{who: b.who, owner: b.owner}
	for i := range b.jobs {
		j := &b.jobs[i]
		lacksRows := len(j.entries) < jobspec.Entries(j.spec)
		switch {
		case j.never != "" && (lacksRows || !j.spec.AllowUnplaceable):
			return unplaceable(j, j.never)
		case j.never == "" && j.scarce && !j.spec.AllowUnplaceable:
			scarce.jobs = append(scarce.jobs, *j)
		}
	}
	if len(scarce.jobs) == 0 {
		return nil
	}
	plans, err := l.planNew(ctx, began, scarce)
	if err != nil {
		return err
	}
	for i := range plans {
		if why := plans[i].never(); why != "" {
			return unplaceable(&scarce.jobs[i], why)
		}
	}
	return nil
}

func unplaceable(j *newJob, why string) error {
	if j.spec.Own != "" {
		// Its command line has no way to queue it all the same.
		return fmt.Errorf("%w: %s; ask for other hosts", ErrUnplaceable, why)
	}
	return fmt.Errorf("%w: job %q: %s; change the job, or queue it all the same with allow_unplaceable", ErrUnplaceable, j.spec.Name, why)
}

// requireSuite fails unless there is such a suite, or none is meant.
func (l *Lab) requireSuite(ctx context.Context, q sqldb.Querier, id int64) error {
	if id == 0 {
		return nil
	}
	var n int
	if err := q.QueryRowContext(ctx, "SELECT COUNT(*) FROM afe_jobs WHERE id = ?", id).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%w: there is no suite %d", ErrNotFound, id)
	}
	return nil
}

// jobColumns are the columns of afe_jobs that have no default or that Autotest's frontend
// sets.
const jobColumns = "afe_jobs (owner, name, priority, control_file, control_type, created_on, synch_count, timeout, timeout_mins, max_runtime_hrs, max_runtime_mins, run_verify, run_reset, email_list, reboot_before, reboot_after, parse_failed_repair, test_retry, parent_job_id)"

// jobTuple is a row of these columns; the control type is that of a script for the server.
func (l *Lab) jobTuple() string {
	return "(?, ?, ?, ?, 1, " + l.db.Dialect.Now + ", ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?)"
}

// defaultMinutes is how long jobs may wait and run unless they say otherwise, as in Autotest.
const defaultMinutes = 24 * 60

// rebootAlways is afe_jobs.reboot_after of jobs after which hosts are cleaned.
const rebootAlways = 2

func hours(minutes int) int { return (minutes + 59) / 60 }

func jobRow(owner string, spec *labapi.JobSpec, suite int64) ([]any, error) {
	unsaid := defaultMinutes
	if spec.Own != "" {
		unsaid = int(jobspec.Longest.Minutes()) // whoever runs it says when it is over
	}
	cleaned := jobspec.Cleaned(*spec)
	spec = &cleaned
	timeout, terr := jobspec.Minutes(spec.Timeout, unsaid)
	runtime, rerr := jobspec.Minutes(spec.MaxRuntime, unsaid)
	before, berr := jobspec.RebootBefore(spec.Reboot)
	after, aerr := jobspec.RebootAfter(spec.Reboot)
	if spec.Own == labapi.OwnReserve {
		after = rebootAlways // nobody knows what a person did to a host
	}
	verify := spec.Verify != nil && *spec.Verify
	reset := spec.Reset == nil || *spec.Reset
	return []any{
		owner, spec.Name, spec.Priority, spec.Script, jobspec.Synch(spec), hours(timeout), timeout, hours(runtime), runtime,
		sqldb.Flag(verify), sqldb.Flag(reset), spec.Notify, before, after, sqldb.IDOrNull(suite),
	}, errors.Join(terr, rerr, berr, aerr)
}

// insertSuite enters the parent of a suite's jobs. It has no entry, because nothing runs for
// it. The keyval is there also for a minimum of 0: it tells a suite from other jobs.
func (l *Lab) insertSuite(ctx context.Context, tx *sql.Tx, b *batch, in labapi.SuiteInput) (int64, error) {
	row, err := jobRow(b.owner.login, &labapi.JobSpec{Name: in.Name, Priority: in.Priority}, 0)
	if err != nil {
		return 0, err
	}
	res, err := tx.ExecContext(ctx, "INSERT INTO "+jobColumns+" VALUES "+l.jobTuple(), row...)
	if err != nil {
		return 0, err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return 0, err
	}
	if err := insert(ctx, tx, "INSERT INTO", keyvalColumns, "(?, ?, ?)", [][]any{{id, jobspec.MinimumKey, fmt.Sprint(in.Minimum)}}); err != nil {
		return 0, err
	}
	return id, l.note(ctx, tx, Event{Kind: "suite.submitted", Job: id, Who: b.who.Login, Subject: in.Name})
}

const (
	keyvalColumns = "afe_job_keyvals (job_id, `key`, value)"
	entryColumns  = "afe_host_queue_entries (job_id, host_id, meta_host, status, active, complete, deleted, execution_subdir, aborted)"
)

// newIDs are the ids of what was submitted.
type newIDs struct {
	jobs, all []int64
	entries   NewEntries
}

// insertJobs enters the jobs of a batch with all that belongs to them, many rows per
// statement.
func (l *Lab) insertJobs(ctx context.Context, tx *sql.Tx, b *batch, suite int64) (ids newIDs, err error) {
	ids.jobs = []int64{}
	if len(b.jobs) == 0 {
		return ids, nil
	}
	if err := l.addMissing(ctx, tx, b); err != nil {
		return ids, err
	}
	if ids.jobs, err = l.insertJobRows(ctx, tx, b, suite); err != nil {
		return ids, err
	}
	var labels, keyvals, entries, blocks, specs, own [][]any
	var events []Event
	for i := range b.jobs {
		j, id := &b.jobs[i], ids.jobs[i]
		for _, label := range j.labels {
			labels = append(labels, []any{id, label})
		}
		if _, own := j.spec.Keyvals[traceid.Keyval]; b.trace != "" && !own {
			keyvals = append(keyvals, []any{id, traceid.Keyval, b.trace})
		}
		for _, key := range slices.Sorted(maps.Keys(j.spec.Keyvals)) {
			keyvals = append(keyvals, []any{id, key, j.spec.Keyvals[key]})
		}
		for _, e := range j.entries {
			entries = append(entries, []any{id, sqldb.IDOrNull(e.host), sqldb.IDOrNull(e.meta)})
			if e.host != 0 {
				blocks = append(blocks, []any{id, e.host})
			}
		}
		text, err := json.Marshal(j.spec)
		if err != nil {
			return ids, err
		}
		specs = append(specs, []any{id, sqldb.IDOrNull(b.cloneOf), string(text)})
		if j.spec.Own != "" {
			own = append(own, []any{id, j.spec.Own})
		}
		kind, reason := "job.submitted", ""
		if b.cloneOf != 0 {
			kind, reason = "job.requeued", fmt.Sprintf("again after job %d", b.cloneOf)
		}
		events = append(events, Event{Kind: kind, Shard: j.entries[0].shard.String(), Job: id, Who: b.who.Login, Subject: j.spec.Name, Reason: reason})
	}
	for _, part := range []struct {
		into, tuple string
		rows        [][]any
	}{
		{"afe_jobs_dependency_labels (job_id, label_id)", "(?, ?)", labels},
		{keyvalColumns, "(?, ?, ?)", keyvals},
		{entryColumns, "(?, ?, ?, 'Queued', 0, 0, 0, '', 0)", entries},
		// As Autotest's frontend does for hosts that are named.
		{"afe_ineligible_host_queues (job_id, host_id)", "(?, ?)", blocks},
		{"hostsched_job_specs (job_id, clone_of, spec)", "(?, ?, ?)", specs},
		{"hostsched_own_jobs (job_id, kind, seen)", "(?, ?, " + l.db.Dialect.NowMillis + ")", own},
	} {
		if err := insert(ctx, tx, "INSERT INTO", part.into, part.tuple, part.rows); err != nil {
			return ids, err
		}
	}
	if err := l.note(ctx, tx, events...); err != nil {
		return ids, err
	}
	return ids, l.readEntryIDs(ctx, tx, b, &ids)
}

// insertJobRows enters the rows of afe_jobs and returns their ids. Where there are several,
// they have a suite that nobody else sees yet, and get their ids in the order of the rows.
func (l *Lab) insertJobRows(ctx context.Context, tx *sql.Tx, b *batch, suite int64) (ids []int64, err error) {
	rows := make([][]any, len(b.jobs))
	for i := range b.jobs {
		if rows[i], err = jobRow(b.owner.login, b.jobs[i].spec, suite); err != nil {
			return nil, err
		}
	}
	if len(rows) == 1 {
		res, err := tx.ExecContext(ctx, "INSERT INTO "+jobColumns+" VALUES "+l.jobTuple(), rows[0]...)
		if err != nil {
			return nil, err
		}
		id, err := res.LastInsertId()
		return []int64{id}, err
	}
	if err := insert(ctx, tx, "INSERT INTO", jobColumns, l.jobTuple(), rows); err != nil {
		return nil, err
	}
	err = sqldb.EachID(ctx, tx, fmt.Sprintf("SELECT id FROM afe_jobs WHERE parent_job_id = %d ORDER BY id", suite), func(id int64) { ids = append(ids, id) })
	if err == nil && len(ids) != len(rows) {
		err = fmt.Errorf("%w: suite %d has %d jobs, %d were entered", ErrConflict, suite, len(ids), len(rows))
	}
	return ids, err
}

// readEntryIDs reads the ids of the entries of new jobs, and whose they are.
func (l *Lab) readEntryIDs(ctx context.Context, tx *sql.Tx, b *batch, ids *newIDs) error {
	ids.entries = NewEntries{}
	at, n := 0, 0
	query := "SELECT id, job_id FROM afe_host_queue_entries WHERE job_id IN " + sqldb.List(ids.jobs) + " ORDER BY job_id, id"
	return sqldb.EachRow(ctx, tx, query, nil, func(scan sqldb.Scanner) error {
		var id, job int64
		if err := scan(&id, &job); err != nil {
			return err
		}
		for ids.jobs[at] != job {
			at, n = at+1, 0
		}
		name := b.jobs[at].entries[n].shard
		n++
		ids.all = append(ids.all, id)
		ids.entries[name] = append(ids.entries[name], id)
		return nil
	})
}

// addMissing enters the labels that jobs want although no host has them.
func (l *Lab) addMissing(ctx context.Context, tx *sql.Tx, b *batch) error {
	if len(b.missing) == 0 {
		return nil
	}
	var rows [][]any
	var events []Event
	for _, name := range b.missing {
		rows = append(rows, []any{name})
		events = append(events, Event{Kind: "label.added", Who: b.who.Login, Subject: name, Reason: "a job waits for it"})
	}
	// A label that was deleted keeps its name.
	if err := insert(ctx, tx, "INSERT INTO", "afe_labels (name, platform, invalid, only_if_needed)", "(?, 0, 0, 0)", rows); err != nil {
		if sqldb.IsDuplicate(err) {
			return fmt.Errorf("%w: one of the labels %s was deleted or is being entered; enter it with 'hostsched label add', or try again", ErrConflict, strings.Join(b.missing, ", "))
		}
		return err
	}
	ids, err := l.labelIDs(ctx, tx, b.missing)
	if err != nil {
		return err
	}
	for i := range b.jobs {
		j := &b.jobs[i]
		for _, name := range j.spec.Labels {
			if id := ids[name]; id != 0 && !slices.Contains(j.labels, id) {
				j.labels = append(slices.Clip(j.labels), id)
			}
		}
		for n := range j.entries {
			if e := &j.entries[n]; e.host == 0 && e.meta == 0 {
				e.meta = j.labels[0]
			}
		}
	}
	return l.note(ctx, tx, events...)
}

// labelIDs are the ids of labels that were just entered, by their very names.
func (l *Lab) labelIDs(ctx context.Context, tx *sql.Tx, names []string) (map[string]int64, error) {
	ids := map[string]int64{}
	for _, name := range names {
		var id int64
		if err := tx.QueryRowContext(ctx, "SELECT id FROM afe_labels WHERE name = ?", name).Scan(&id); err != nil {
			return nil, err
		}
		ids[name] = id
	}
	return ids, nil
}
