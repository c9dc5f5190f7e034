package lab

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// AddHost enters a host.
func (l *Lab) AddHost(ctx context.Context, who access.Caller, in labapi.HostInput) (labapi.Host, string, error) {
	w, err := wishOfInput(in)
	if err != nil {
		return labapi.Host{}, "", err
	}
	err = l.change(ctx, "enter host "+in.Hostname, func(tx *sql.Tx) error {
		if err := l.lockHostNames(ctx, tx); err != nil {
			return err
		}
		r := &txReader{ctx: ctx, tx: tx}
		if there := hostNames.find(r, []string{in.Hostname}); len(there) > 0 {
			return fmt.Errorf("%w: host %s; change it with 'hostsched host label' and its like", ErrExists, in.Hostname)
		}
		if r.err != nil {
			return r.err
		}
		ids, err := l.refsOf(ctx, tx, who, []wish{w}, true)
		if err != nil {
			return err
		}
		return l.insertHosts(ctx, tx, who, []labapi.HostInput{in}, []wish{w}, ids)
	})
	if err != nil {
		return labapi.Host{}, "", err
	}
	return l.Host(ctx, in.Hostname)
}

// lockHostNames makes those who enter hosts wait for each other: no key of afe_hosts keeps a
// hostname from being there twice.
func (l *Lab) lockHostNames(ctx context.Context, tx *sql.Tx) error {
	_, err := l.ensureEveryone(ctx, tx)
	return err
}

func wishOfInput(in labapi.HostInput) (w wish, err error) {
	if err := checkHostname(in.Hostname); err != nil {
		return w, err
	}
	if err := checkText("the reason of the lock", in.LockReason, maxReason); err != nil {
		return w, err
	}
	if in.Locked && in.LockReason == "" {
		return w, fmt.Errorf("%w: host %s is to be locked; lock_reason must say why", ErrInput, in.Hostname)
	}
	w.attributes, w.exactly = in.Attributes, in.Attributes != nil
	if in.Labels != nil {
		w.labels = &in.Labels
	}
	if in.ACLGroups != nil {
		w.groups = &in.ACLGroups
	}
	if in.Protection != "" {
		n, err := parseProtection(in.Protection)
		if err != nil {
			return w, err
		}
		w.protection = &n
	}
	return w, w.check()
}

// insertHosts enters hosts that are not there. The row of one that was removed is used
// again, without what it had, as Autotest's frontend does.
func (l *Lab) insertHosts(ctx context.Context, tx *sql.Tx, who access.Caller, in []labapi.HostInput, wishes []wish, ids *refs) error {
	if len(in) == 0 {
		return nil
	}
	if err := l.forgetRemoved(ctx, tx, in); err != nil {
		return err
	}
	var rows [][]any
	names := namesOf(in)
	old := hostNames
	old.valid = "invalid <> 0"
	r := &txReader{ctx: ctx, tx: tx}
	again := old.find(r, names)
	if r.err != nil {
		return r.err
	}
	var revived []int64
	for _, name := range names {
		if id, ok := again[name]; ok {
			revived = append(revived, id)
			continue
		}
		rows = append(rows, []any{name, scheduler.HostReady})
	}
	if len(revived) > 0 {
		if _, err := tx.ExecContext(ctx, "UPDATE afe_hosts SET invalid = 0, locked = 0, locked_by_id = NULL, lock_time = NULL, lock_reason = '', status = ?, leased = 0, dirty = 0, protection = 0, shard_id = NULL WHERE id IN "+sqldb.List(revived), scheduler.HostReady); err != nil {
			return err
		}
	}
	if err := insert(ctx, tx, "INSERT INTO", "afe_hosts (hostname, status, locked, invalid, protection, dirty, leased)", "(?, ?, 0, 0, 0, 0, 0)", rows); err != nil {
		return err
	}
	return l.furnish(ctx, tx, who, in, wishes, names, ids)
}

// forgetRemoved deletes what hosts had that were removed earlier.
func (l *Lab) forgetRemoved(ctx context.Context, tx *sql.Tx, in []labapi.HostInput) error {
	for part := range slices.Chunk(in, chunkRows) {
		names := texts(namesOf(part))
		ids, err := sqldb.SelectIDs(ctx, tx, "SELECT id FROM afe_hosts WHERE invalid <> 0 AND hostname IN ("+marks(len(names))+")"+l.db.Dialect.ForUpdate, names...)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			continue
		}
		for _, table := range []string{"afe_hosts_labels", "afe_static_hosts_labels", "afe_acl_groups_hosts", "afe_host_attributes", "hostsched_hosts"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE host_id IN "+sqldb.List(ids)); err != nil {
				return err
			}
		}
	}
	return nil
}

// furnish gives new hosts what they should have, and a lock to those that begin with one.
func (l *Lab) furnish(ctx context.Context, tx *sql.Tx, who access.Caller, in []labapi.HostInput, wishes []wish, names []string, ids *refs) error {
	r := &txReader{ctx: ctx, tx: tx}
	made := hostNames.find(r, names)
	if r.err != nil {
		return r.err
	}
	shards, err := l.shardNames(ctx, tx)
	if err != nil {
		return err
	}
	hosts, edits := make([]hostState, len(in)), make([]edit, len(in))
	var locked []lockOf
	seen := map[int64]string{}
	for i, h := range in {
		id := made[h.Hostname]
		if other, there := seen[id]; there {
			return twice(h.Hostname, other)
		}
		seen[id] = h.Hostname
		hosts[i].ID, hosts[i].Hostname, hosts[i].Protection, hosts[i].Shard = id, h.Hostname, protections[0], shards(0)
		w := wishes[i]
		if w.groups == nil {
			w.groups = &[]string{}
		}
		edits[i] = w.compare(&hosts[i], ids)
		if h.Locked {
			locked = append(locked, lockOf{hosts[i], h.LockReason})
		}
	}
	if err := l.write(ctx, tx, who, edits, "host.added"); err != nil {
		return err
	}
	return l.lockNew(ctx, tx, who, locked)
}

// lockOf is a host that begins with a lock.
type lockOf struct {
	host   hostState
	reason string
}

func (l *Lab) lockNew(ctx context.Context, tx *sql.Tx, who access.Caller, locks []lockOf) error {
	byReason := map[string][]hostState{}
	for _, k := range locks {
		byReason[k.reason] = append(byReason[k.reason], k.host)
	}
	for reason, hosts := range byReason {
		if err := l.writeHolds(ctx, tx, who, Hold{Action: labapi.ActionLock, Reason: reason}, hosts); err != nil {
			return err
		}
	}
	return nil
}

// ImportHosts makes the hosts of a lab what is wanted, and says what differs; with dryRun it
// only says it. With prune, hosts that are not wanted are removed, but for those in use.
func (l *Lab) ImportHosts(ctx context.Context, who access.Caller, in []labapi.HostInput, dryRun, prune bool) (labapi.HostsDifference, error) {
	d := labapi.HostsDifference{DryRun: dryRun, Added: []string{}, Changed: []labapi.HostEdit{}, Removed: []string{}, Refused: []labapi.HostRefused{}}
	wishes := make([]wish, len(in))
	seen := map[string]bool{}
	for i, h := range in {
		var err error
		if wishes[i], err = wishOfInput(h); err != nil {
			return d, fmt.Errorf("host %d of the list: %w", i+1, err)
		}
		if seen[h.Hostname] {
			return d, twice(h.Hostname, h.Hostname)
		}
		seen[h.Hostname] = true
	}
	wanted := map[int64]string{}
	for from := 0; from < len(in); from += chunkRows {
		to := min(from+chunkRows, len(in))
		if err := l.importSome(ctx, who, in[from:to], wishes[from:to], wanted, &d); err != nil {
			return d, err
		}
	}
	if !prune {
		return d, nil
	}
	return d, l.prune(ctx, who, wanted, &d)
}

func twice(one, other string) error {
	return fmt.Errorf("%w: the list has host %s twice (%s)", ErrInput, one, other)
}

// importSome does so many hosts in one transaction that nobody waits long for them.
func (l *Lab) importSome(ctx context.Context, who access.Caller, in []labapi.HostInput, wishes []wish, wanted map[int64]string, d *labapi.HostsDifference) error {
	var part labapi.HostsDifference
	var ids map[string]int64
	err := l.change(ctx, "import hosts", func(tx *sql.Tx) error {
		part = labapi.HostsDifference{}
		if !d.DryRun {
			if err := l.lockHostNames(ctx, tx); err != nil {
				return err
			}
		}
		refs, err := l.refsOf(ctx, tx, who, wishes, !d.DryRun)
		if err != nil {
			return err
		}
		fresh, freshWishes, edits, err := l.compareAll(ctx, tx, in, wishes, refs, &part)
		if err != nil {
			return err
		}
		if !d.DryRun {
			if err := l.insertHosts(ctx, tx, who, fresh, freshWishes, refs); err != nil {
				return err
			}
			if err := l.write(ctx, tx, who, edits, "host.changed"); err != nil {
				return err
			}
		}
		ids, err = l.wantedOnce(ctx, tx, in, wanted)
		return err
	})
	if err != nil {
		return err
	}
	for name, id := range ids {
		wanted[id] = name
	}
	d.Added, d.Changed = append(d.Added, part.Added...), append(d.Changed, part.Changed...)
	d.Unchanged += part.Unchanged
	return nil
}

// wantedOnce returns the ids of wanted hosts, and refuses a list that has one of them twice:
// the database says which names are the same.
func (l *Lab) wantedOnce(ctx context.Context, tx *sql.Tx, in []labapi.HostInput, before map[int64]string) (map[string]int64, error) {
	r := &txReader{ctx: ctx, tx: tx}
	ids := hostNames.find(r, namesOf(in))
	seen := map[int64]string{}
	for _, h := range in {
		id, there := ids[h.Hostname]
		if !there {
			continue
		}
		for _, other := range []string{before[id], seen[id]} {
			if other != "" {
				return nil, twice(h.Hostname, other)
			}
		}
		seen[id] = h.Hostname
	}
	return ids, r.err
}

func namesOf(in []labapi.HostInput) []string {
	names := make([]string, len(in))
	for i, h := range in {
		names[i] = h.Hostname
	}
	return names
}

// compareAll tells the hosts that are not there from those that differ.
func (l *Lab) compareAll(ctx context.Context, tx *sql.Tx, in []labapi.HostInput, wishes []wish, ids *refs, d *labapi.HostsDifference) (fresh []labapi.HostInput, freshWishes []wish, edits []edit, err error) {
	r := &txReader{ctx: ctx, tx: tx}
	there := hostNames.find(r, namesOf(in))
	if r.err != nil {
		return nil, nil, nil, r.err
	}
	var hosts []int64
	for _, id := range there {
		hosts = append(hosts, id)
	}
	rows, err := l.lockRows(ctx, tx, hosts)
	if err != nil {
		return nil, nil, nil, err
	}
	byID := map[int64]*hostState{}
	for i := range rows {
		byID[rows[i].ID] = &rows[i]
	}
	for i, h := range in {
		row := byID[there[h.Hostname]]
		if row == nil {
			fresh, freshWishes = append(fresh, h), append(freshWishes, wishes[i])
			d.Added = append(d.Added, h.Hostname)
			continue
		}
		e := wishes[i].compare(row, ids)
		if len(e.changes) == 0 {
			d.Unchanged++
			continue
		}
		edits = append(edits, e)
		d.Changed = append(d.Changed, labapi.HostEdit{Hostname: row.Hostname, Changes: e.changes})
	}
	return fresh, freshWishes, edits, nil
}

// prune removes the hosts that are not wanted.
func (l *Lab) prune(ctx context.Context, who access.Caller, wanted map[int64]string, d *labapi.HostsDifference) error {
	var others []string
	err := l.each(ctx, "list the hosts", "SELECT id, hostname FROM afe_hosts WHERE invalid = 0 ORDER BY id", nil, func(scan sqldb.Scanner) error {
		var id int64
		var name sql.NullString
		err := scan(&id, &name)
		if wanted[id] == "" {
			others = append(others, name.String)
		}
		return err
	})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(others, chunkRows) {
		if err := l.pruneSome(ctx, who, part, d); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) pruneSome(ctx context.Context, who access.Caller, names []string, d *labapi.HostsDifference) error {
	var removed []string
	var refused []labapi.HostRefused
	err := l.change(ctx, "remove hosts", func(tx *sql.Tx) error {
		removed, refused = nil, nil
		r := &txReader{ctx: ctx, tx: tx}
		var ids []int64
		for _, id := range hostNames.find(r, names) {
			ids = append(ids, id)
		}
		if r.err != nil {
			return r.err
		}
		rows, err := l.lockRows(ctx, tx, ids)
		if err != nil {
			return err
		}
		uses, err := l.usesOf(ctx, tx, rows)
		if err != nil {
			return err
		}
		var free []hostState
		for _, h := range rows {
			if why := uses[h.ID]; why != "" {
				refused = append(refused, labapi.HostRefused{Hostname: h.Hostname, Detail: why})
				continue
			}
			free, removed = append(free, h), append(removed, h.Hostname)
		}
		if d.DryRun {
			return nil
		}
		return l.removeRows(ctx, tx, who, free)
	})
	d.Removed, d.Refused = append(d.Removed, removed...), append(d.Refused, refused...)
	return err
}

// RemoveHost takes a host out of the lab. Its row stays, as invalid, for what refers to it.
func (l *Lab) RemoveHost(ctx context.Context, who access.Caller, hostname, version string) error {
	return l.change(ctx, "remove host "+hostname, func(tx *sql.Tx) error {
		h, err := l.lockHost(ctx, tx, hostname, version)
		if err != nil {
			return err
		}
		if err := l.mayChange(ctx, tx, who, h.ID); err != nil {
			return err
		}
		uses, err := l.usesOf(ctx, tx, []hostState{h})
		if err != nil {
			return err
		}
		if why := uses[h.ID]; why != "" {
			return fmt.Errorf("%w: host %s cannot be removed: %s; drain it first, or abort what uses it", ErrConflict, h.Hostname, why)
		}
		return l.removeRows(ctx, tx, who, []hostState{h})
	})
}

// usesOf says of the hosts that cannot be removed now what uses them.
func (l *Lab) usesOf(ctx context.Context, tx *sql.Tx, rows []hostState) (map[int64]string, error) {
	uses := map[int64]string{}
	if len(rows) == 0 {
		return uses, nil
	}
	in := sqldb.List(sqldb.IDsOf(rows, func(h hostState) int64 { return h.ID }))
	r := &txReader{ctx: ctx, tx: tx}
	r.RowsOf("SELECT host_id, COUNT(*) FROM afe_special_tasks WHERE "+store.OpenTask+" AND host_id IN "+in+" GROUP BY host_id", nil, func(v sqldb.Row) {
		uses[v.Int(0).N] = fmt.Sprintf("%d special tasks of it are not complete", v.Int(1).N)
	})
	r.RowsOf("SELECT host_id, MIN(id), COUNT(*) FROM afe_host_queue_entries WHERE complete = 0 AND host_id IN "+in+" GROUP BY host_id", nil, func(v sqldb.Row) {
		uses[v.Int(0).N] = fmt.Sprintf("%d queue entries have or name it, the first is %d", v.Int(2).N, v.Int(1).N)
	})
	for _, h := range rows {
		if h.Leased && uses[h.ID] == "" {
			uses[h.ID] = "it is leased"
		}
	}
	return uses, r.err
}

func (l *Lab) removeRows(ctx context.Context, tx *sql.Tx, who access.Caller, rows []hostState) error {
	if len(rows) == 0 {
		return nil
	}
	in := sqldb.List(sqldb.IDsOf(rows, func(h hostState) int64 { return h.ID }))
	if _, err := tx.ExecContext(ctx, "UPDATE afe_hosts"+l.db.Dialect.ByKey+" SET invalid = 1 WHERE id IN "+in); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM hostsched_hosts WHERE host_id IN "+in); err != nil {
		return err
	}
	events := make([]Event, len(rows))
	for i, h := range rows {
		events[i] = Event{Kind: "host.removed", Shard: h.Shard, Host: h.ID, Who: who.Login, Subject: h.Hostname}
	}
	return l.note(ctx, tx, events...)
}
