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
	// Agents is true where agents run the jobs of the lab: nobody gets a host whose agent
	// takes nothing new.
	Agents bool
	// DespitePause reads a paused shard as if it were not paused, to tell who
	// waits in it. Snapshot.Basis still says that it is.
	DespitePause bool
}

// Snapshot reads what one tick needs, in one read-only transaction, so that all
// queries see the same state. The recorder is not part of it: the caller sets
// Snapshot.Recorder.
func (db *DB) Snapshot(ctx context.Context, scope Scope) (*scheduler.Snapshot, error) {
	s, _, err := db.Snapshots(scope).Next(ctx)
	return s, err
}

// Snapshots reads one snapshot of a shard after the other. It keeps the rows that
// it read and asks the database only for what may have changed, so that the cost
// of a snapshot follows the changes and not the size of the lab:
//
//   - a table to which nobody has committed since it was read is not read again
//     (snapshot_tables.go);
//   - which entries are queued, active or aborted is read from indexes, which
//     is exact, and the rows of only those entries that appear or whose queue
//     state flags change (snapshot_queue.go);
//   - what hardly ever changes in place (a job's row and labels, the job and
//     label of an entry) is refreshed in rotation: all of it every refreshPeriod,
//     but no more than refreshRate rows a second.
//
// Everything else is derived from the rows, again whenever they differ: which
// entries are pending and this shard's, whose jobs are to be read, which hosts are
// in use, where hosts belong. A snapshot is changed if any of it differs.
//
// So the database may be ahead of a snapshot, by one rotation at most, in what is
// changed in place on a job that is queued already: its priority, owner, labels.
// All else is as currently stored. A Snapshots is used by one goroutine.
type Snapshots struct {
	db    *DB
	scope Scope
	// refreshRows is how many entries and jobs are refreshed in a snapshot, given
	// how long ago the last one was, and how many there are.
	refreshRows func(since time.Duration, n int) int
	timesQuery  func(join string) string
	// lab is nil before the first snapshot and after an error.
	lab *labRows
	// readAt is when the last snapshot began to be read, and given are the hosts that plans
	// have given out since.
	readAt time.Time
	given  map[scheduler.HostID]bool
	// era is the one in which lab was read: the times of tables of another server
	// tell nothing.
	era int64
}

// labRows is what a Snapshots has read of a lab.
type labRows struct {
	// snapshot has the rows in the form in which plans want them.
	snapshot scheduler.Snapshot
	basis    scheduler.Basis // of the latest snapshot, which may be of a paused shard
	own      Ownership
	marks    tableMarks
	hosts    hostRows
	queue    queueRows
	jobs     jobRows
	away     agentsAway
	// due is how many holds are over, and how many entries are to be aborted for one.
	due int
}

const (
	// refreshPeriod is soon enough for what hardly ever happens. A small queue could be
	// refreshed sooner, but reading it would cost more than all else of a tick.
	refreshPeriod = 2 * time.Second
	// refreshRate costs a few milliseconds of every hundred, and has refreshed a
	// queue of 50,000 entries after five seconds.
	refreshRate = 10_000 // rows a second
	// mostRefreshed bounds what one snapshot refreshes.
	mostRefreshed = 2000
)

// refreshRows is how many of n rows are refreshed after so much time.
func refreshRows(since time.Duration, n int) int {
	rate := min(refreshRate, time.Duration(n)*time.Second/refreshPeriod)
	return int(min(mostRefreshed, 1+min(since, refreshPeriod)*rate/time.Second))
}

// Snapshots begins to read snapshots. The first one reads everything.
func (db *DB) Snapshots(scope Scope) *Snapshots {
	scope.Rules.OnShard = !scope.Shard.IsMaster()
	scope.Shared = scope.Shared && !scope.Bare
	return &Snapshots{db: db, scope: scope, refreshRows: refreshRows, timesQuery: timesQuery(db.Dialect)}
}

// Next returns the next snapshot, and whether it differs from the last one. The
// snapshot is valid until the next call; plans made from it stay valid.
func (t *Snapshots) Next(ctx context.Context) (s *scheduler.Snapshot, changed bool, err error) {
	era := t.db.Era()
	lab, first := t.lab, t.lab == nil || t.era != era
	if first {
		lab = &labRows{snapshot: scheduler.Snapshot{Rules: t.scope.Rules, Details: t.scope.Details}}
	}
	t.readAt, t.given = time.Now(), nil
	// What is read in part, because of an error or a panic, is not used again.
	t.lab = nil
	err = t.db.Read(ctx, func(r *sqldb.Reader) { s, changed = t.next(r, lab) })
	if err != nil {
		return nil, false, sqldb.Explain(err, "read a snapshot", t.db.Target())
	}
	t.lab, t.era = lab, era
	return s, changed || first, nil
}

func (t *Snapshots) next(r *sqldb.Reader, lab *labRows) (s *scheduler.Snapshot, changed bool) {
	times, basis := readTableTimes(r, t.scope, t.timesQuery)
	stale := func(tables ...string) bool { return times.changedSince(lab.marks, tables...) }
	own := readOwnership(r, t.scope, basis, lab.own, stale)
	changed = own.basis != lab.basis
	lab.basis = own.basis
	if own.basis.Paused != "" && !t.scope.DespitePause {
		return &scheduler.Snapshot{Rules: t.scope.Rules, Basis: own.basis}, changed
	}
	s = &lab.snapshot
	s.Now, s.Basis = times.now, own.basis
	moved := !own.equal(lab.own)
	lab.own = own
	labels := readLabels(r, s, stale)
	hosts := lab.readHosts(r, stale, moved)
	users := readUsers(r, s, stale)
	entries, tasks, read := lab.readQueue(r, stale, t.refreshRows)
	holds := !t.scope.Bare && lab.readHolds(r, stale, moved)
	away := !t.scope.Bare && t.scope.Agents && lab.readAway(r, stale)
	pending := (moved || hosts || entries) && lab.listPending()
	uses := lab.deriveUses(hosts, entries, tasks)
	jobs := (pending || len(read) > 0) && lab.readJobs(r, read)
	owners := lab.findOwners(r, stale)
	minimums := lab.readMinimums(r, stale, jobs)
	siblings := lab.readSiblings(r, stale, pending || jobs)
	listed := lab.listEntries()
	lab.marks = times.markRead(lab.marks)
	return s, changed || moved || labels || hosts || holds || away || users || uses || pending || jobs || owners || minimums || siblings || listed
}

// renew replaces rows that were read before, and tells whether they are different.
func renew[T any](have *[]T, read []T, equal func(a, b T) bool) (changed bool) {
	if slices.EqualFunc(*have, read, equal) {
		return false
	}
	*have = read
	return true
}

func same[T comparable](a, b T) bool { return a == b }

func readLabels(r *sqldb.Reader, s *scheduler.Snapshot, stale func(tables ...string) bool) (changed bool) {
	if stale("afe_labels") {
		var labels []scheduler.Label
		r.Rows("SELECT id, name FROM afe_labels", func(v sqldb.Row) {
			labels = append(labels, scheduler.Label{ID: scheduler.LabelID(v.Int(0).N), Name: v.Text(1)})
		})
		changed = renew(&s.Labels, labels, same)
	}
	if s.Rules.RespectStaticLabels && stale("afe_labels", "afe_static_labels", "afe_replaced_labels") {
		changed = renew(&s.ReplacedLabels, readReplacedLabels(r), same) || changed
	}
	return changed
}

// readReplacedLabels reads which labels count as static ones, and as which.
func readReplacedLabels(r *sqldb.Reader) []scheduler.ReplacedLabel {
	var replaced []scheduler.ReplacedLabel
	var names []string
	r.Rows("SELECT l.id, l.name FROM afe_replaced_labels r JOIN afe_labels l ON l.id = r.label_id", func(v sqldb.Row) {
		replaced, names = append(replaced, scheduler.ReplacedLabel{ID: scheduler.LabelID(v.Int(0).N)}), append(names, v.Text(1))
	})
	rows := RowsNamed(r, "afe_static_labels", "name", "", names)
	for i, name := range names {
		replaced[i].Static = scheduler.LabelID(rows[name])
	}
	return replaced
}

func readUsers(r *sqldb.Reader, s *scheduler.Snapshot, stale func(tables ...string) bool) (changed bool) {
	if !stale("afe_users", "afe_acl_groups_users", "afe_acl_groups") {
		return false
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
	changed = renew(&s.Users, users, func(a, b scheduler.User) bool {
		return a.ID == b.ID && a.Login == b.Login && slices.Equal(a.ACLs, b.ACLs)
	})
	if !s.Details {
		return changed
	}
	var groups []scheduler.ACLGroup
	r.Rows("SELECT id, name FROM afe_acl_groups", func(v sqldb.Row) {
		groups = append(groups, scheduler.ACLGroup{ID: scheduler.ACLID(v.Int(0).N), Name: v.Text(1)})
	})
	return renew(&s.ACLGroups, groups, same) || changed
}

// HostsOf returns the hosts of those of the given entries that have become
// active since they were pending.
func (db *DB) HostsOf(ctx context.Context, entries []scheduler.EntryID) (map[scheduler.EntryID]scheduler.HostID, error) {
	given := make(map[scheduler.EntryID]scheduler.HostID)
	err := db.Read(ctx, func(r *sqldb.Reader) {
		for chunk := range slices.Chunk(entries, sqldb.MaxListed) {
			ids := sqldb.Int64s(chunk)
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

// ReadRecorder is Recorder for a reader that has other questions, too.
func ReadRecorder(r *sqldb.Reader, own Ownership) *scheduler.Recorder {
	var holdings []scheduler.Holding
	r.Pairs("SELECT q.host_id, j.parent_job_id FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id WHERE q.active = 1 AND q.complete = 0 AND q.host_id IS NOT NULL AND j.parent_job_id IS NOT NULL"+own.ofHost("q.host_id")+" ORDER BY q.id",
		func(host, suite int64) {
			holdings = append(holdings, scheduler.Holding{Host: scheduler.HostID(host), Suite: scheduler.JobID(suite)})
		})
	return scheduler.NewRecorder(holdings)
}
