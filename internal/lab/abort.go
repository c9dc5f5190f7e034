package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// autotestSystem is the user in whose name Autotest does what nobody asked for.
const autotestSystem = "autotest_system"

// AbortJob asks for the end of a job: of all its entries that are not complete, and of those of
// its children. It tells whose shards that concerns.
func (l *Lab) AbortJob(ctx context.Context, who access.Caller, id int64, reason string) (NewEntries, error) {
	job, err := l.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	return l.abort(ctx, who, id, "job.aborted", job.Name, reason)
}

// AbortSuite asks for the end of all jobs of a suite.
func (l *Lab) AbortSuite(ctx context.Context, who access.Caller, id int64, reason string) (NewEntries, error) {
	suite, err := l.Suite(ctx, id)
	if err != nil {
		return nil, err
	}
	return l.abort(ctx, who, id, "suite.aborted", suite.Name, reason)
}

func (l *Lab) abort(ctx context.Context, who access.Caller, id int64, kind, name, reason string) (NewEntries, error) {
	jobs, err := l.jobsOf(ctx, id)
	if err != nil {
		return nil, err
	}
	jobs = append([]int64{id}, jobs...)
	// A lab of Autotest has monitor_db, which ends aborted entries that wait. Otherwise
	// nobody would: no host was given, so nothing is to be undone.
	state, err := schema.ReadStatus(ctx, l.db.DB)
	if err != nil {
		return nil, l.explain(err, "look whose lab this is")
	}
	shards, err := l.shardsOf(ctx, jobs)
	if err != nil {
		return nil, err
	}
	return shards, l.change(ctx, fmt.Sprintf("abort job %d", id), func(tx *sql.Tx) error {
		entries, err := l.openEntries(ctx, tx, jobs)
		if err != nil || len(entries) == 0 {
			return err
		}
		if err := l.mayAbort(ctx, tx, who, entries); err != nil {
			return err
		}
		if err := l.MarkAborted(ctx, tx, who.Login, entries, state.Lab == schema.LabOurs); err != nil {
			return err
		}
		return l.note(ctx, tx, Event{Kind: kind, Job: id, Who: who.Login, Subject: name, Reason: reason})
	})
}

// openEntries locks the entries that can be aborted, and returns their ids.
func (l *Lab) openEntries(ctx context.Context, tx *sql.Tx, jobs []int64) (ids []int64, err error) {
	query := "SELECT id FROM afe_host_queue_entries WHERE complete = 0 AND aborted = 0 AND job_id IN " + sqldb.List(jobs) + " ORDER BY id" + l.db.Dialect.ForUpdate
	err = sqldb.EachID(ctx, tx, query, func(id int64) { ids = append(ids, id) })
	return ids, err
}

// mayAbort checks that the caller may abort all these entries: their owner may, and whoever
// shares an ACL group with the hosts that they have, Everyone apart.
func (l *Lab) mayAbort(ctx context.Context, tx *sql.Tx, who access.Caller, entries []int64) error {
	var foreign int
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id WHERE q.id IN "+sqldb.List(entries)+
		" AND COALESCE(j.owner, '') <> ? AND NOT EXISTS (SELECT 1 FROM afe_acl_groups_hosts g JOIN afe_acl_groups_users m ON m.aclgroup_id = g.aclgroup_id JOIN afe_users u ON u.id = m.user_id"+
		" JOIN afe_acl_groups a ON a.id = g.aclgroup_id WHERE g.host_id = q.host_id AND u.login = ? AND a.name <> ?)", who.Login, who.Login, Everyone).Scan(&foreign)
	if err != nil {
		return err
	}
	if err := access.ChangingJobs.Check(who, foreign == 0); err != nil {
		return fmt.Errorf("abort %d queue entries of other people: %w", foreign, err)
	}
	return nil
}

// MarkAborted asks for the end of entries in a name that may be nobody's. In a lab of its own
// (ours) those end at once that wait, and the runs of the others are asked to stop.
func (l *Lab) MarkAborted(ctx context.Context, tx *sql.Tx, login string, entries []int64, ours bool) error {
	list := sqldb.List(entries)
	if _, err := tx.ExecContext(ctx, "UPDATE afe_host_queue_entries SET aborted = 1 WHERE id IN "+list); err != nil {
		return err
	}
	if ours {
		if _, err := tx.ExecContext(ctx, "UPDATE afe_host_queue_entries SET status = 'Aborted', complete = 1 WHERE status = 'Queued' AND active = 0 AND complete = 0 AND id IN "+list); err != nil {
			return err
		}
		if err := l.StopRuns(ctx, tx, "aborted", "kind <> 'Repair' AND (id IN (SELECT x.run_id FROM hostsched_run_hosts x WHERE x.entry_id IN "+list+
			") OR task_id IN (SELECT t.id FROM afe_special_tasks t WHERE t.queue_entry_id IN "+list+"))"); err != nil {
			return err
		}
	}
	by, err := l.aborter(ctx, tx, login)
	if err != nil || by == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("%s afe_aborted_host_queue_entries (queue_entry_id, aborted_by_id, aborted_on) SELECT id, %d, %s FROM afe_host_queue_entries WHERE id IN %s",
		l.db.Dialect.InsertIgnore, by, l.db.Dialect.Now, list))
	return err
}

// StopRuns asks runs to stop for which a condition holds and whose processes have not ended,
// and notes it.
func (l *Lab) StopRuns(ctx context.Context, tx *sql.Tx, reason, condition string) error {
	var ids []int64
	var events []Event
	query := "SELECT id, COALESCE(job_id, 0), kind FROM hostsched_runs WHERE stop_since IS NULL AND state IN ('claimed', 'running') AND " + condition + " ORDER BY id"
	err := sqldb.EachRow(ctx, tx, query, nil, func(scan sqldb.Scanner) error {
		var id, job int64
		var kind string
		err := scan(&id, &job, &kind)
		ids = append(ids, id)
		events = append(events, Event{Kind: "run.stopping", Job: job, Who: "hostsched", Subject: fmt.Sprint("run ", id, " ", kind), Reason: reason})
		return err
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE hostsched_runs SET stop_reason = ?, stop_since = "+l.db.Dialect.NowMillis+" WHERE stop_since IS NULL AND state IN ('claimed', 'running') AND id IN "+sqldb.List(ids), reason); err != nil {
		return err
	}
	return l.note(ctx, tx, events...)
}

// aborter is the user that Autotest's table names: the caller, or Autotest's own user if the
// caller is none. It is 0 if there is neither; the journal says who it was in any case.
func (l *Lab) aborter(ctx context.Context, tx *sql.Tx, login string) (id int64, err error) {
	for _, name := range []string{login, autotestSystem} {
		err = tx.QueryRowContext(ctx, "SELECT id FROM afe_users WHERE login = ?", name).Scan(&id)
		if !errors.Is(err, sql.ErrNoRows) {
			return id, err
		}
	}
	return 0, nil
}
