package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// newcomersWithin is how old a snapshot may be whose free hosts newcomers get.
const newcomersWithin = time.Second

// placesTables say which hosts an entry may have. If anybody may have written to one since
// the last snapshot, newcomers wait for the next.
var placesTables = []string{
	"afe_acl_groups", "afe_acl_groups_hosts", "afe_acl_groups_users", "afe_hosts_labels", "afe_labels", "afe_replaced_labels",
	"afe_shards", "afe_shards_labels", "afe_static_hosts_labels", "afe_static_labels", "afe_users", "hostsched_released_labels",
}

// Newcomers reads a snapshot of new entries alone, with the hosts that the last snapshot
// and the plans since then left free. It is a small part of the work of Next: nobody who
// waits can have one of these hosts, or would have got it by the last plan, so the newcomers
// take nothing from anybody. That is only true if all of the last plan was written.
//
// It returns nil if that is not enough to decide: then the next whole snapshot has the
// entries. Entries that start together with others, and those that name a host that is not
// free, are left for that, too. Whoever plans for newcomers tells Given about it.
func (t *Snapshots) Newcomers(ctx context.Context, entries []scheduler.EntryID) (*scheduler.Snapshot, error) {
	lab := t.lab
	if lab == nil || !t.db.Dialect.HasTableTimes || t.era != t.db.Era() || lab.basis.Paused != "" || time.Since(t.readAt) > newcomersWithin {
		return nil, nil
	}
	few := lab.withFreeHosts(t.given)
	if len(few.snapshot.Hosts) == 0 {
		return nil, nil
	}
	known := false
	err := t.db.Read(ctx, func(r *sqldb.Reader) { known = t.readNewcomers(r, few, entries) })
	if err != nil {
		return nil, sqldb.Explain(err, "read new entries", t.db.Target())
	}
	if !known || len(few.snapshot.Entries) == 0 {
		return nil, nil
	}
	return &few.snapshot, nil
}

// Given notes the hosts that a plan gives out: whatever became of it, they are not known to
// be free until the next snapshot.
func (t *Snapshots) Given(plan scheduler.Plan) {
	if t.given == nil {
		t.given = make(map[scheduler.HostID]bool)
	}
	for i := range plan.Assignments {
		t.given[plan.Assignments[i].Host] = true
	}
	for _, l := range plan.Leases {
		t.given[l.Host] = true
	}
	for _, m := range plan.Moves {
		t.given[m.Host] = true
	}
	for _, d := range plan.Drained {
		t.given[d.Host] = true
	}
}

// withFreeHosts is a lab of nothing but the free hosts of this one, and what is to be known
// of them.
func (lab *labRows) withFreeHosts(given map[scheduler.HostID]bool) *labRows {
	s := &lab.snapshot
	few := &labRows{own: lab.own, basis: lab.basis, marks: lab.marks, snapshot: scheduler.Snapshot{
		Rules: s.Rules, Basis: s.Basis, Labels: s.Labels, ReplacedLabels: s.ReplacedLabels, Users: s.Users, Holds: s.Holds, Away: s.Away, Contended: s.Contended,
	}}
	few.hosts.num = make(map[int64]int32)
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if h.Leased || h.Locked || h.ActiveEntry != 0 || h.OpenTask || h.Displaced || given[h.ID] {
			continue
		}
		few.hosts.num[int64(h.ID)] = int32(len(few.snapshot.Hosts))
		few.snapshot.Hosts = append(few.snapshot.Hosts, *h)
	}
	few.jobs.owners = owners{texts: maps.Clone(lab.jobs.owners.texts), users: maps.Clone(lab.jobs.owners.users)}
	few.jobs.bad, few.jobs.several, few.jobs.texts = make(map[scheduler.JobID]bool), make(map[scheduler.JobID]bool), make(sqldb.Interned)
	return few
}

// readNewcomers reads the new entries with their jobs, and tells whether what is known of
// the hosts is still true.
func (t *Snapshots) readNewcomers(r *sqldb.Reader, few *labRows, entries []scheduler.EntryID) (known bool) {
	times, basis := readTableTimes(r, t.scope, t.timesQuery)
	stale := func(tables ...string) bool { return times.changedSince(few.marks, tables...) }
	basis.Shard = few.own.basis.Shard
	if basis != few.own.basis || stale(placesTables...) {
		return false
	}
	s, q := &few.snapshot, &few.queue
	s.Now = times.now
	read := make([]int, 0, len(entries))
	for i, id := range slices.Compact(slices.Sorted(slices.Values(entries))) {
		q.live = append(q.live, liveEntry{entry: scheduler.Entry{ID: id}})
		read = append(read, i)
	}
	readEntryRows(r, q.live, slices.Clone(read))
	q.live = slices.DeleteFunc(q.live, func(e liveEntry) bool {
		_, free := few.hosts.num[int64(e.entry.Host)]
		return !e.pending || e.bad || e.entry.Host != 0 && !free
	})
	few.listPending()
	few.readJobs(r, nil)
	few.findOwners(r, func(...string) bool { return false })
	few.readMinimums(r, stale, true)
	few.readSiblings(r, stale, true)
	few.listEntries()
	s.Malformed = nil // the next whole snapshot says so
	jobs := jobFinder{jobs: s.Jobs}
	s.Entries = slices.DeleteFunc(slices.Clone(s.Entries), func(e scheduler.Entry) bool {
		job := jobs.find(e.Job)
		return job == nil || job.SynchCount > 1
	})
	return true
}
