package store

import (
	"context"
	"slices"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
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
	s, _, err := db.Snapshots(scope).Next(ctx)
	return s, err
}

// Snapshots reads one snapshot of a shard after the other. It remembers what it
// read and asks the database only for what may have changed, so that the cost
// of a snapshot follows the changes and not the size of the lab:
//
//   - a table that nobody has written to since it was read is not read again
//     (see tables.go);
//   - which entries are queued, active or aborted is read from indexes, which
//     is exact, and the rows of those only that appear or change their standing;
//   - what hardly ever changes in place (a job's row and labels, the job and
//     label of an entry) is read again in turns, refreshRate rows a second.
//
// So the database may be ahead of a snapshot, by the turns at most, in what is
// changed in place on a job that is queued already: its priority, owner, labels.
// All else is as the database has it at this moment. A Snapshots is used by one
// goroutine.
type Snapshots struct {
	db    *DB
	scope Scope
	// refreshRows is how many entries and jobs are read again in a snapshot, given
	// how long ago the last one was.
	refreshRows func(time.Duration) int
	timesQuery  func(join string) string
	lastAt      time.Time
	// keptJobs is how many jobs may be remembered that no pending entry has,
	// beyond as many as there are pending entries.
	keptJobs int

	last    *scheduler.Snapshot // nil before the first, and after an error
	tables  tableTimes
	own     Ownership
	hosts   hostRows
	queue   queueRows
	jobs    jobRows
	changed bool
}

const (
	// refreshRate costs a few milliseconds of every hundred, and has seen a queue of
	// 50,000 entries after five seconds.
	refreshRate = 10_000 // rows a second
	// mostRefreshed bounds what one snapshot reads of them.
	mostRefreshed = 2000
)

// refreshRows is how many rows have their turn after so much time.
func refreshRows(since time.Duration) int {
	return int(min(mostRefreshed, 1+min(since, time.Second)*refreshRate/time.Second))
}

// defaultKeptJobs is nothing to a computer; forgetting has its price, too.
const defaultKeptJobs = 1000

// Snapshots begins to read snapshots. The first one reads everything.
func (db *DB) Snapshots(scope Scope) *Snapshots {
	scope.Rules.OnShard = !scope.Shard.IsMaster()
	scope.Shared = scope.Shared && !scope.Bare
	return &Snapshots{db: db, scope: scope, refreshRows: refreshRows, timesQuery: timesQuery(db.Dialect), keptJobs: defaultKeptJobs}
}

// Next returns the next snapshot, and whether it differs from the last one. The
// snapshot is valid until the next call; plans made from it stay valid.
func (t *Snapshots) Next(ctx context.Context) (s *scheduler.Snapshot, changed bool, err error) {
	err = t.db.Read(ctx, func(r *sqldb.Reader) { s = t.next(r) })
	if err != nil {
		t.last = nil // half-read: begin anew
		return nil, false, sqldb.Explain(err, "read a snapshot", t.db.Target())
	}
	return s, t.changed, nil
}

func (t *Snapshots) next(r *sqldb.Reader) *scheduler.Snapshot {
	t.begin(r)
	s := t.last
	s.Basis = t.own.basis
	if s.Basis.Paused != "" {
		return &scheduler.Snapshot{Rules: s.Rules, Basis: s.Basis}
	}
	t.readLabels(r)
	t.readHosts(r)
	t.readUsers(r)
	t.readQueue(r)
	t.noteUses()
	t.readJobs(r)
	s.Malformed = slices.Concat(t.hosts.malformed, t.queue.malformed)
	t.tables.done()
	return s
}

// begin finds out what may have changed.
func (t *Snapshots) begin(r *sqldb.Reader) {
	t.changed = false
	if t.last == nil {
		t.last = &scheduler.Snapshot{Rules: t.scope.Rules, Details: t.scope.Details}
		t.tables, t.hosts, t.queue, t.jobs = tableTimes{}, hostRows{}, queueRows{}, jobRows{}
		t.own = Ownership{}
		t.changed = true
	}
	basis := t.tables.look(r, t.scope, t.timesQuery)
	t.last.Now = t.tables.now
	before := t.own
	t.own = readOwnership(r, t.scope, basis, &t.tables, before)
	if t.own.basis != before.basis {
		t.changed = true
	}
}

// renew replaces what was read before, and notes whether it is something else.
func renew[T any](t *Snapshots, have *[]T, read []T, equal func(a, b T) bool) {
	if !slices.EqualFunc(*have, read, equal) {
		*have, t.changed = read, true
	}
}

func same[T comparable](a, b T) bool { return a == b }

func (t *Snapshots) readLabels(r *sqldb.Reader) {
	s := t.last
	if t.tables.stale(r, "afe_labels") {
		renew(t, &s.Labels, labelRows(r, "SELECT id, name FROM afe_labels"), same)
	}
	if !s.Rules.RespectStaticLabels || !t.tables.stale(r, "afe_static_labels", "afe_replaced_labels") {
		return
	}
	renew(t, &s.StaticLabels, labelRows(r, "SELECT id, name FROM afe_static_labels"), same)
	var replaced []scheduler.LabelID
	r.Ids("SELECT label_id FROM afe_replaced_labels WHERE label_id IS NOT NULL", func(id int64) {
		replaced = append(replaced, scheduler.LabelID(id))
	})
	renew(t, &s.ReplacedLabels, replaced, same)
}

func labelRows(r *sqldb.Reader, query string) []scheduler.Label {
	var out []scheduler.Label
	r.Rows(query, func(v sqldb.Row) {
		out = append(out, scheduler.Label{ID: scheduler.LabelID(v.Int(0).N), Name: v.Text(1)})
	})
	return out
}

func (t *Snapshots) readUsers(r *sqldb.Reader) {
	s := t.last
	if !t.tables.stale(r, "afe_users", "afe_acl_groups_users", "afe_acl_groups") {
		return
	}
	var users []scheduler.User
	r.Rows("SELECT u.id, u.login, m.aclgroup_id FROM afe_users u LEFT JOIN afe_acl_groups_users m ON m.user_id = u.id WHERE u.login IS NOT NULL ORDER BY u.id", func(v sqldb.Row) {
		id := scheduler.UserID(v.Int(0).N)
		if n := len(users); n == 0 || users[n-1].ID != id {
			users = append(users, scheduler.User{ID: id, Login: v.Text(1)})
		}
		if group := v.Int(2); group.Valid {
			u := &users[len(users)-1]
			u.ACLs = append(u.ACLs, scheduler.ACLID(group.N))
		}
	})
	renew(t, &s.Users, users, func(a, b scheduler.User) bool {
		return a.ID == b.ID && a.Login == b.Login && slices.Equal(a.ACLs, b.ACLs)
	})
	if !s.Details {
		return
	}
	var groups []scheduler.ACLGroup
	r.Rows("SELECT id, name FROM afe_acl_groups", func(v sqldb.Row) {
		groups = append(groups, scheduler.ACLGroup{ID: scheduler.ACLID(v.Int(0).N), Name: v.Text(1)})
	})
	renew(t, &s.ACLGroups, groups, same)
}

// HostsOf returns the hosts of those of the given entries that have become
// active since they were pending.
func (db *DB) HostsOf(ctx context.Context, entries []scheduler.EntryID) (map[scheduler.EntryID]scheduler.HostID, error) {
	given := make(map[scheduler.EntryID]scheduler.HostID)
	err := db.Read(ctx, func(r *sqldb.Reader) {
		for chunk := range slices.Chunk(entries, sqldb.MaxListed) {
			ids := sqldb.IdsOf(chunk, func(id scheduler.EntryID) int64 { return int64(id) })
			r.Pairs("SELECT id, host_id FROM afe_host_queue_entries WHERE host_id IS NOT NULL AND (active = 1 OR complete = 1) AND id IN "+sqldb.List(ids), func(id, host int64) {
				given[scheduler.EntryID(id)] = scheduler.HostID(host)
			})
		}
	})
	return given, sqldb.Explain(err, "read which entries got a host", db.Target())
}

// Recorder rebuilds the suite recorder from the active, incomplete entries that
// have a host and a suite (Autotest SuiteRecorder at start).
func (db *DB) Recorder(ctx context.Context, scope Scope) (*scheduler.Recorder, error) {
	var rec *scheduler.Recorder
	err := db.Read(ctx, func(r *sqldb.Reader) { rec = ReadRecorder(r, ReadOwnership(r, scope)) })
	if err != nil {
		return nil, sqldb.Explain(err, "rebuild the suite recorder", db.Target())
	}
	return rec, nil
}

func ReadRecorder(r *sqldb.Reader, own Ownership) *scheduler.Recorder {
	var holdings []scheduler.Holding
	r.Pairs("SELECT q.host_id, j.parent_job_id FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id WHERE q.active = 1 AND q.complete = 0 AND q.host_id IS NOT NULL AND j.parent_job_id IS NOT NULL"+own.ofHost("q.host_id")+" ORDER BY q.id",
		func(host, suite int64) {
			holdings = append(holdings, scheduler.Holding{Host: scheduler.HostID(host), Suite: scheduler.JobID(suite)})
		})
	return scheduler.NewRecorder(holdings)
}
