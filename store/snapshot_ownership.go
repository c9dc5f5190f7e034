package store

import (
	"fmt"
	"maps"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Ownership is a scope as currently stored: which rows are the shard's.
type Ownership struct {
	basis  scheduler.Basis
	layout shard.Layout
	// Hosts is a condition on afe_hosts h, which says in SQL what shard.Layout
	// says of one row. It begins with AND, or is empty.
	Hosts string
}

// equal tells whether the same rows are the shard's.
func (o Ownership) equal(other Ownership) bool {
	return o.basis == other.basis && o.Hosts == other.Hosts && maps.Equal(o.layout.Names, other.layout.Names) && maps.Equal(o.layout.Unserved, other.layout.Unserved) &&
		maps.Equal(o.layout.Labels, other.layout.Labels) && maps.Equal(o.layout.Released, other.layout.Released)
}

// ofHost restricts a column that refers to a host.
func (o Ownership) ofHost(column string) string {
	if o.Hosts == "" {
		return ""
	}
	return " AND " + column + " IN (SELECT h.id FROM afe_hosts h WHERE 1=1" + o.Hosts + ")"
}

// ReadOwnership finds out what belongs to a shard.
func ReadOwnership(r *sqldb.Reader, scope Scope) Ownership {
	scope.Shared = scope.Shared && !scope.Bare
	_, basis := readTableTimes(r, scope, timesQuery(r.Dialect))
	return readOwnership(r, scope, basis, Ownership{}, func(...string) bool { return true })
}

// readOwnership finds out what belongs to a shard, given what did before and which
// tables may have changed since.
func readOwnership(r *sqldb.Reader, scope Scope, basis scheduler.Basis, before Ownership, stale func(tables ...string) bool) Ownership {
	own := Ownership{basis: basis, layout: before.layout}
	// A shard's own database is its own as a whole, and says nothing of shards.
	if scope.Shared || scope.Shard.IsMaster() {
		if stale("afe_shards", "afe_shards_labels", "hostsched_released_labels") || basis.Layout != before.basis.Layout {
			own.layout = ReadLayout(r, scope.Shared)
		}
	}
	if scope.Shared {
		readOwner(r, scope.Shard, &own)
	}
	return own
}

// readOwner fills in who owns the rows of a shared database.
func readOwner(r *sqldb.Reader, name shard.Name, own *Ownership) {
	if name.IsMaster() {
		if len(own.layout.Names) > 0 {
			own.Hosts = ownerCondition("h.", own.basis)
		}
		return
	}
	for id, n := range own.layout.Names {
		if _, unserved := own.layout.Unserved[id]; n == name && !unserved {
			own.basis.Shard = scheduler.ShardID(id)
			own.Hosts = ownerCondition("h.", own.basis)
			return
		}
	}
	if r.Err == nil {
		r.Err = fmt.Errorf("%w: no row of afe_shards is served as %s (any more)", ErrNoShard, name)
	}
}

// ReadLayout reads which shards there are and what is theirs.
func ReadLayout(r *sqldb.Reader, shared bool) shard.Layout {
	l := shard.Layout{Names: map[shard.ID]shard.Name{}, Labels: map[int64]shard.ID{}, Released: map[int64]bool{}}
	r.Pairs("SELECT label_id, shard_id FROM afe_shards_labels", func(label, id int64) { l.Labels[label] = shard.ID(id) })
	if !shared {
		return l
	}
	rows := readShardRows(r)
	l.Unserved = shard.Unserved(rows)
	for _, row := range rows {
		l.Names[row.ID] = row.Name
	}
	r.IDs("SELECT label_id FROM hostsched_released_labels", func(label int64) { l.Released[label] = true })
	return l
}

// ownerCondition restricts afe_hosts to those of the shard a plan was made for. A
// row that refers to a shard that does not exist is the master's.
func ownerCondition(prefix string, b scheduler.Basis) string {
	switch {
	case !b.Shared:
		return ""
	case b.Shard == 0:
		return " AND (" + prefix + "shard_id IS NULL OR " + prefix + "shard_id NOT IN (SELECT id FROM afe_shards))"
	}
	return fmt.Sprintf(" AND %sshard_id = %d", prefix, b.Shard)
}

// place derives where each host of a shared database belongs, and tells whether
// that is different from before.
func (o Ownership) place(hosts []scheduler.Host) (changed bool) {
	if !o.basis.Shared {
		return false
	}
	var labels []int64
	for i := range hosts {
		h := &hosts[i]
		before := [...]scheduler.ShardID{h.Shard, h.Home}
		h.Shard = o.basis.Shard
		labels = labels[:0]
		for _, l := range h.Labels {
			labels = append(labels, int64(l))
		}
		h.Home = scheduler.ShardID(o.layout.Home(shard.ID(h.Shard), labels))
		h.Displaced = h.Home != h.Shard
		changed = changed || before != [...]scheduler.ShardID{h.Shard, h.Home}
	}
	return changed
}

// ours tells whether a pending entry is the shard's.
func (o Ownership) ours(e *scheduler.Entry, hosts *hostRows) bool {
	if !o.basis.Shared {
		// Autotest's master leaves entries whose meta_host label belongs to a
		// shard to that shard, which has them in a database of its own. A shard's
		// own layout is never read, so it has no such labels.
		if len(o.layout.Labels) == 0 {
			return true
		}
		_, ofShard := o.layout.Labels[int64(e.MetaHost)]
		return !ofShard
	}
	if len(o.layout.Names) == 0 {
		return true
	}
	if e.Host == 0 {
		return o.layout.OfEntry(false, 0, int64(e.MetaHost)) == shard.ID(o.basis.Shard)
	}
	if _, known := hosts.num[int64(e.Host)]; known {
		return true
	}
	return o.basis.Shard == 0 && !hosts.others[int64(e.Host)]
}
