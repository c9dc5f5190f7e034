package store

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
)

// pendingCondition selects pending entries q (Autotest
// JobQueryManager.get_pending_queue_entries).
const pendingCondition = "q.status = 'Queued' AND q.active = 0 AND q.complete = 0 AND q.aborted = 0 AND (q.host_id IS NOT NULL OR q.meta_host IS NOT NULL)"

// notOfShards leaves entries whose meta_host label belongs to a shard to that
// shard, which has them in a database of its own (Autotest's master).
const notOfShards = " AND NOT EXISTS (SELECT 1 FROM afe_shards_labels s WHERE s.label_id = q.meta_host)"

// ownership is a scope as the database has it at the moment: which rows are the
// shard's. The conditions begin with AND, or are empty; they say in SQL what
// shard.Layout says of one row.
type ownership struct {
	basis  scheduler.Basis
	layout shard.Layout
	// hosts is a condition on afe_hosts h, entries on afe_host_queue_entries q.
	hosts, entries string
}

// ofHost restricts a column that refers to a host.
func (o ownership) ofHost(column string) string {
	if o.hosts == "" {
		return ""
	}
	return " AND " + column + " IN (SELECT h.id FROM afe_hosts h WHERE 1=1" + o.hosts + ")"
}

// ownership finds out what belongs to a shard.
func (r *reader) ownership(scope Scope) ownership {
	scope.Shared = scope.Shared && !scope.Bare
	own := ownership{basis: scheduler.Basis{Shared: scope.Shared}}
	if !scope.Bare {
		r.fenceState(scope, &own.basis)
	}
	if !scope.Shared {
		if scope.Shard.IsMaster() {
			own.entries = notOfShards
		}
		return own
	}
	own.layout = r.layout()
	if scope.Shard.IsMaster() {
		if len(own.layout.Names) > 0 {
			own.ofMaster()
		}
		return own
	}
	for id, name := range own.layout.Names {
		if name == scope.Shard {
			own.ofShard(id)
			return own
		}
	}
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s is not in afe_shards (any more)", ErrNoShard, scope.Shard)
	}
	return own
}

// fenceState reads what the fence row says about scheduling; a shard that never
// was led has none.
func (r *reader) fenceState(scope Scope, basis *scheduler.Basis) {
	if r.err != nil {
		return
	}
	err := r.tx.QueryRowContext(r.ctx, "SELECT layout, pause_reason FROM hostsched_fence WHERE shard = ?", scope.Shard.String()).Scan(&basis.Layout, &basis.Paused)
	if !errors.Is(err, sql.ErrNoRows) {
		r.err = err
	}
}

// layout reads which shards there are and what is theirs.
func (r *reader) layout() shard.Layout {
	l := shard.Layout{Names: map[shard.ID]shard.Name{}, Labels: map[int64]shard.ID{}, Released: map[int64]shard.ID{}}
	r.each("SELECT id, hostname FROM afe_shards", func(scan scanner) error {
		var id integer
		var name sql.NullString
		err := scan(&id, &name)
		l.Names[shard.ID(id.n)] = shard.Name(name.String)
		return err
	})
	for query, into := range map[string]map[int64]shard.ID{
		"SELECT label_id, shard_id FROM afe_shards_labels":         l.Labels,
		"SELECT label_id, shard_id FROM hostsched_released_labels": l.Released,
	} {
		r.each(query, func(scan scanner) error {
			var label, id integer
			err := scan(&label, &id)
			into[label.n] = shard.ID(id.n)
			return err
		})
	}
	return l
}

// A row that refers to a shard that does not exist is the master's.
const (
	hostOfSomeShard  = "SELECT 1 FROM afe_hosts h JOIN afe_shards n ON n.id = h.shard_id WHERE h.id = q.host_id"
	labelOfSomeShard = "SELECT 1 FROM afe_shards_labels s JOIN afe_shards n ON n.id = s.shard_id WHERE s.label_id = q.meta_host"
)

func (o *ownership) ofMaster() {
	o.hosts = ownerCondition("h.", o.basis)
	o.entries = " AND NOT EXISTS (" + hostOfSomeShard + ") AND (q.host_id IS NOT NULL OR NOT EXISTS (" + labelOfSomeShard + "))"
}

func (o *ownership) ofShard(id shard.ID) {
	o.basis.Shard = scheduler.ShardID(id)
	o.hosts = ownerCondition("h.", o.basis)
	own := fmt.Sprintf("shard_id = %d", id)
	o.entries = " AND (EXISTS (SELECT 1 FROM afe_hosts h WHERE h.id = q.host_id AND h." + own + ")" +
		" OR (q.host_id IS NULL AND EXISTS (SELECT 1 FROM afe_shards_labels s WHERE s.label_id = q.meta_host AND s." + own + ")))"
}

// ownerCondition restricts afe_hosts to those of the shard a plan was made for.
func ownerCondition(prefix string, b scheduler.Basis) string {
	switch {
	case !b.Shared:
		return ""
	case b.Shard == 0:
		return " AND (" + prefix + "shard_id IS NULL OR " + prefix + "shard_id NOT IN (SELECT id FROM afe_shards))"
	}
	return fmt.Sprintf(" AND %sshard_id = %d", prefix, b.Shard)
}

// place notes where each host of a shared database belongs.
func (o *ownership) place(s *scheduler.Snapshot) {
	if !o.basis.Shared {
		return
	}
	var labels []int64
	for i := range s.Hosts {
		h := &s.Hosts[i]
		h.Shard = o.basis.Shard
		labels = labels[:0]
		for _, l := range h.Labels {
			labels = append(labels, int64(l))
		}
		h.Home = scheduler.ShardID(o.layout.Home(shard.ID(h.Shard), labels))
		h.Displaced = h.Home != h.Shard
	}
}
