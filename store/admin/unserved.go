package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Unserved is a row of afe_shards that no replica can lead, and why.
type Unserved struct {
	ID     shard.ID   `json:"id"`
	Name   shard.Name `json:"shard"`
	Reason string     `json:"reason"`
}

// Waiting is what belongs to an unserved row, and therefore waits.
type Waiting struct {
	Unserved
	Hosts   int `json:"hosts"`
	Entries int `json:"entries"`
}

// String says in a line what waits and why.
func (w Waiting) String() string {
	return fmt.Sprintf("row %d of afe_shards (%s) is not served: %s; %d hosts and %d waiting entries belong to it", w.ID, w.Name, w.Reason, w.Hosts, w.Entries)
}

// Waiting counts what belongs to rows of afe_shards that no replica can lead. It is
// in no shard's plan, so it is the master's business to say so.
func (lab *Lab) Waiting(ctx context.Context, scope store.Scope) (out []Waiting, err error) {
	err = lab.Read(ctx, func(r *sqldb.Reader) { out = readWaiting(r, scope) })
	return out, sqldb.Explain(err, "look for shards that are not served", lab.Target())
}

func readWaiting(r *sqldb.Reader, scope store.Scope) (out []Waiting) {
	if !scope.Shared || scope.Bare || !scope.Shard.IsMaster() {
		return nil
	}
	layout := store.ReadLayout(r, true)
	ids := slices.Sorted(maps.Keys(layout.Unserved))
	if len(ids) == 0 {
		return nil
	}
	list := sqldb.List(sqldb.IDsOf(ids, func(id shard.ID) int64 { return int64(id) }))
	hosts, entries := map[shard.ID]int{}, map[shard.ID]int{}
	r.Pairs("SELECT shard_id, COUNT(*) FROM afe_hosts WHERE shard_id IN "+list+" GROUP BY shard_id", func(id, n int64) { hosts[shard.ID(id)] = int(n) })
	// An entry that names a host belongs where the host does, and any other where
	// its label does; see shard.Layout.
	const pending = " q.status = 'Queued' AND q.active = 0 AND q.complete = 0 AND q.aborted = 0"
	r.Pairs("SELECT h.shard_id, COUNT(*) FROM afe_host_queue_entries q JOIN afe_hosts h ON h.id = q.host_id WHERE"+pending+" AND h.shard_id IN "+list+" GROUP BY h.shard_id"+
		" UNION ALL SELECT l.shard_id, COUNT(*) FROM afe_host_queue_entries q JOIN afe_shards_labels l ON l.label_id = q.meta_host WHERE"+pending+" AND q.host_id IS NULL AND l.shard_id IN "+list+" GROUP BY l.shard_id",
		func(id, n int64) { entries[shard.ID(id)] += int(n) })
	for _, id := range ids {
		out = append(out, Waiting{Unserved{id, layout.Names[id], layout.Unserved[id]}, hosts[id], entries[id]})
	}
	return out
}
