package store

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
)

// Scope says for which shard, and under which switches, a snapshot is read.
type Scope struct {
	Shard shard.Name
	// Shared is true where several shards share the database: only what belongs
	// to Shard is read. Otherwise the database is one shard's, as Autotest has
	// it, and Shard is only its name.
	Shared bool
	// Bare is true where our own tables are missing or older: then there is
	// nothing to read about pauses and layouts, and nothing is shared.
	Bare  bool
	Rules scheduler.Rules
	// Details also reads what is needed to explain at length.
	Details bool
}

// Snapshot reads what one tick needs, in one read-only transaction, so that all
// queries see the same state. The recorder is not part of it: the caller sets
// Snapshot.Recorder.
func (db *DB) Snapshot(ctx context.Context, scope Scope) (*scheduler.Snapshot, error) {
	scope.Rules.OnShard = !scope.Shard.IsMaster()
	s := &scheduler.Snapshot{Rules: scope.Rules, Details: scope.Details}
	err := db.read(ctx, func(r *reader) {
		own := r.ownership(scope)
		s.Basis = own.basis
		if own.basis.Paused != "" {
			return
		}
		r.labels(s)
		r.hosts(s, own)
		r.users(s)
		r.entries(s, own)
	})
	if err != nil {
		return nil, explain(err, "read a snapshot", db.target.name)
	}
	return s, nil
}

// Recorder rebuilds the suite recorder from the active, incomplete entries that
// have a host and a suite (Autotest SuiteRecorder at start).
func (db *DB) Recorder(ctx context.Context, scope Scope) (*scheduler.Recorder, error) {
	var rec *scheduler.Recorder
	err := db.read(ctx, func(r *reader) { rec = r.recorder(r.ownership(scope)) })
	if err != nil {
		return nil, explain(err, "rebuild the suite recorder", db.target.name)
	}
	return rec, nil
}

func (r *reader) recorder(own ownership) *scheduler.Recorder {
	var holdings []scheduler.Holding
	r.each("SELECT q.host_id, j.parent_job_id FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id WHERE q.active = 1 AND q.complete = 0 AND q.host_id IS NOT NULL AND j.parent_job_id IS NOT NULL"+own.ofHost("q.host_id")+" ORDER BY q.id",
		func(scan scanner) error {
			var host, suite integer
			err := scan(&host, &suite)
			if suite.valid {
				holdings = append(holdings, scheduler.Holding{Host: scheduler.HostID(host.n), Suite: scheduler.JobID(suite.n)})
			}
			return err
		})
	return scheduler.NewRecorder(holdings)
}

type scanner func(dest ...any) error

// reader runs queries of one transaction until the first error.
type reader struct {
	ctx     context.Context
	tx      *sql.Tx
	dialect dialect
	err     error
}

func (db *DB) read(ctx context.Context, queries func(*reader)) error {
	tx, err := db.sql.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: db.dialect.snapshotIsolation()})
	if err != nil {
		return err
	}
	r := &reader{ctx: ctx, tx: tx, dialect: db.dialect}
	queries(r)
	if err := tx.Rollback(); err != nil && r.err == nil && !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	return r.err
}

func (r *reader) each(query string, row func(scanner) error) {
	if r.err == nil {
		r.err = eachRow(r.ctx, r.tx, query, nil, row)
	}
}

// rowQueryer is a transaction or a whole database.
type rowQueryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func eachRow(ctx context.Context, q rowQueryer, query string, args []any, row func(scanner) error) (err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (r *reader) labels(s *scheduler.Snapshot) {
	r.each("SELECT id, name FROM afe_labels", scanLabel(&s.Labels))
	if !s.Rules.RespectStaticLabels {
		return
	}
	r.each("SELECT id, name FROM afe_static_labels", scanLabel(&s.StaticLabels))
	r.ids("SELECT label_id FROM afe_replaced_labels WHERE label_id IS NOT NULL", func(id int64) {
		s.ReplacedLabels = append(s.ReplacedLabels, scheduler.LabelID(id))
	})
}

func scanLabel(out *[]scheduler.Label) func(scanner) error {
	return func(scan scanner) error {
		var id integer
		var name sql.NullString
		err := scan(&id, &name)
		*out = append(*out, scheduler.Label{ID: scheduler.LabelID(id.n), Name: name.String})
		return err
	}
}

// ids runs a query for one integer column.
func (r *reader) ids(query string, row func(id int64)) {
	r.each(query, func(scan scanner) error {
		var id integer
		err := scan(&id)
		if id.valid {
			row(id.n)
		}
		return err
	})
}

func (r *reader) hosts(s *scheduler.Snapshot, own ownership) {
	num := make(map[int64]int)
	r.each("SELECT id, hostname, status, locked, invalid, leased, dirty, protection, shard_id, CASE WHEN locked = 1 THEN lock_reason END, CASE WHEN locked = 1 THEN lock_time END FROM afe_hosts h WHERE 1=1"+own.hosts, func(scan scanner) error {
		h, err := r.scanHost(s, scan)
		num[int64(h.ID)] = len(s.Hosts)
		s.Hosts = append(s.Hosts, h)
		return err
	})
	r.pairs("SELECT host_id, label_id FROM afe_hosts_labels WHERE 1=1"+own.ofHost("host_id"), num, func(i int, id int64) {
		s.Hosts[i].Labels = append(s.Hosts[i].Labels, scheduler.LabelID(id))
	})
	own.place(s)
	r.pairs("SELECT host_id, aclgroup_id FROM afe_acl_groups_hosts WHERE 1=1"+own.ofHost("host_id"), num, func(i int, id int64) {
		s.Hosts[i].ACLs = append(s.Hosts[i].ACLs, scheduler.ACLID(id))
	})
	if s.Details {
		r.each("SELECT id, name FROM afe_acl_groups", func(scan scanner) error {
			var id integer
			var name sql.NullString
			err := scan(&id, &name)
			s.ACLGroups = append(s.ACLGroups, scheduler.ACLGroup{ID: scheduler.ACLID(id.n), Name: name.String})
			return err
		})
	}
	if s.Rules.RespectStaticLabels {
		r.pairs("SELECT host_id, staticlabel_id FROM afe_static_hosts_labels", num, func(i int, id int64) {
			s.Hosts[i].StaticLabels = append(s.Hosts[i].StaticLabels, scheduler.LabelID(id))
		})
	}
	r.pairs("SELECT host_id, id FROM afe_host_queue_entries WHERE active = 1", num, func(i int, _ int64) {
		s.Hosts[i].ActiveEntry = true
	})
	r.each("SELECT host_id, queue_entry_id, is_active FROM afe_special_tasks WHERE is_complete = 0", func(scan scanner) error {
		var host, entry, active integer
		err := scan(&host, &entry, &active)
		i, ok := num[host.n]
		if !ok {
			return err
		}
		s.Hosts[i].OpenTask = true
		if !entry.valid && !entry.bad && active.n == 0 {
			s.TaskHosts = append(s.TaskHosts, scheduler.HostID(host.n))
		}
		return err
	})
}

// pairs reads a link table and passes on the rows whose first column is known.
func (r *reader) pairs(query string, num map[int64]int, link func(i int, id int64)) {
	r.each(query, func(scan scanner) error {
		var from, to integer
		err := scan(&from, &to)
		if i, ok := num[from.n]; ok && to.valid {
			link(i, to.n)
		}
		return err
	})
}

func (r *reader) users(s *scheduler.Snapshot) {
	num := make(map[int64]int)
	r.each("SELECT id, login FROM afe_users WHERE login IS NOT NULL", func(scan scanner) error {
		var id integer
		var login string
		err := scan(&id, &login)
		num[id.n] = len(s.Users)
		s.Users = append(s.Users, scheduler.User{ID: scheduler.UserID(id.n), Login: login})
		return err
	})
	r.pairs("SELECT user_id, aclgroup_id FROM afe_acl_groups_users", num, func(i int, id int64) {
		s.Users[i].ACLs = append(s.Users[i].ACLs, scheduler.ACLID(id))
	})
}

func (r *reader) entries(s *scheduler.Snapshot, own ownership) {
	cond := pendingCondition + own.entries
	pending := make(map[scheduler.EntryID]bool)
	jobs := make(map[int64]int)
	r.each("SELECT q.id, q.job_id, q.host_id, q.meta_host, j.id, j.owner, j.priority, j.parent_job_id, j.synch_count, j.run_verify, j.run_reset, j.reboot_before, "+r.dialect.age("j.created_on")+
		" FROM afe_host_queue_entries q LEFT JOIN afe_jobs j ON j.id = q.job_id WHERE "+cond, func(scan scanner) error {
		e, job, ok, err := r.scanEntry(s, scan)
		if !ok {
			return err
		}
		pending[e.ID] = true
		s.Entries = append(s.Entries, e)
		if _, seen := jobs[int64(e.Job)]; job.ID != 0 && !seen {
			jobs[int64(job.ID)] = len(s.Jobs)
			s.Jobs = append(s.Jobs, job)
		}
		return nil
	})
	if len(s.Entries) == 0 {
		return
	}
	r.each("SELECT d.job_id, d.label_id FROM (SELECT DISTINCT q.job_id FROM afe_host_queue_entries q WHERE "+cond+") p JOIN afe_jobs_dependency_labels d ON d.job_id = p.job_id", func(scan scanner) error {
		var job, label integer
		err := scan(&job, &label)
		if i, ok := jobs[job.n]; ok {
			// A label that is no integer stays as one that does not exist: the
			// entry must not run as if it had no such dependency.
			s.Jobs[i].Deps = append(s.Jobs[i].Deps, scheduler.LabelID(label.n))
		}
		return err
	})
	r.minimums(s)
	// Most jobs have one entry: from the pending ones it is a short way to the
	// others of their jobs.
	r.each("SELECT DISTINCT o.id, o.job_id, o.host_id, o.status, o.execution_subdir FROM afe_host_queue_entries q JOIN afe_host_queue_entries o ON o.job_id = q.job_id AND o.id <> q.id WHERE "+cond, func(scan scanner) error {
		var id, job, host integer
		var status, subdir sql.NullString
		err := scan(&id, &job, &host, &status, &subdir)
		i, known := jobs[job.n]
		matters := host.valid || known && s.Jobs[i].SynchCount > 1
		if entry := scheduler.EntryID(id.n); matters && !pending[entry] {
			s.Siblings = append(s.Siblings, scheduler.Sibling{
				ID: entry, Job: scheduler.JobID(job.n), Host: scheduler.HostID(host.n),
				Status: scheduler.EntryStatus(status.String), Subdir: subdir.String,
			})
		}
		return err
	})
}

// minimums reads the suite_min_duts keyvals of the suites that have pending
// jobs. There may be millions of keyvals, with an index by job only.
func (r *reader) minimums(s *scheduler.Snapshot) {
	seen := make(map[int64]bool)
	for i := range s.Jobs {
		if suite := int64(s.Jobs[i].Parent); suite != 0 {
			seen[suite] = true
		}
	}
	suites := slices.Sorted(maps.Keys(seen))
	for chunk := range chunks(suites) {
		r.each("SELECT job_id, value FROM afe_job_keyvals WHERE `key` = 'suite_min_duts' AND job_id IN "+list(chunk)+" ORDER BY id", func(scan scanner) error {
			var suite integer
			var value sql.NullString
			err := scan(&suite, &value)
			s.Minimums = append(s.Minimums, scheduler.Minimum{Suite: scheduler.JobID(suite.n), Value: value.String})
			return err
		})
	}
}

// HostsOf returns the hosts of those of the given entries that have become
// active since they were pending.
func (db *DB) HostsOf(ctx context.Context, entries []scheduler.EntryID) (map[scheduler.EntryID]scheduler.HostID, error) {
	given := make(map[scheduler.EntryID]scheduler.HostID)
	err := db.read(ctx, func(r *reader) {
		for chunk := range chunks(entries) {
			ids := idsOf(chunk, func(id scheduler.EntryID) int64 { return int64(id) })
			r.each("SELECT id, host_id FROM afe_host_queue_entries WHERE host_id IS NOT NULL AND (active = 1 OR complete = 1) AND id IN "+list(ids), func(scan scanner) error {
				var id, host integer
				err := scan(&id, &host)
				given[scheduler.EntryID(id.n)] = scheduler.HostID(host.n)
				return err
			})
		}
	})
	return given, explain(err, "read which entries got a host", db.target.name)
}
