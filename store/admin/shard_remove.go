package admin

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// RemoveShard deletes a shard to which nothing belongs any more, in one
// transaction under its fence and the master's. Whoever led it is fenced.
// A pause ends with it: a later shard of that name is another one.
func (lab *Lab) RemoveShard(ctx context.Context, name shard.Name, who, reason string) error {
	if name.IsMaster() {
		return fmt.Errorf("%w: the master shard cannot be removed", ErrInput)
	}
	return lab.change(ctx, "remove shard "+name.String(), []shard.Name{name, shard.Master}, func(tx *sql.Tx) error {
		rows, err := store.ShardRows(ctx, tx, lab.Dialect)
		if err != nil {
			return err
		}
		id, ok := shard.Served(rows, name)
		if !ok {
			return noShard(name)
		}
		if err := requireEmpty(ctx, tx, id, name); err != nil {
			return err
		}
		end := step{name: "fence", text: "UPDATE hostsched_fence SET epoch = epoch + 1, holder = '', cluster_name = '', shard_id = 0, pause_reason = '', paused_by = '', paused_at = 0 WHERE shard = ?", args: []any{name.String()}}
		if err := lab.runAll(ctx, tx, append(deleteShard(id), end)); err != nil {
			return err
		}
		return lab.auditShard(ctx, tx, who, actionRemove, name, reason)
	})
}

func requireEmpty(ctx context.Context, tx *sql.Tx, id shard.ID, name shard.Name) error {
	var labels, hosts, jobs int
	err := tx.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM afe_shards_labels WHERE shard_id = ?), (SELECT COUNT(*) FROM afe_hosts WHERE shard_id = ?), (SELECT COUNT(*) FROM afe_jobs WHERE shard_id = ?)", int64(id), int64(id), int64(id)).Scan(&labels, &hosts, &jobs)
	if err == nil && labels+hosts+jobs > 0 {
		return fmt.Errorf("%w: %d labels, %d hosts and %d jobs still belong to shard %s", ErrInUse, labels, hosts, jobs, name)
	}
	return err
}

// deleteShard deletes the row of a shard with all that refers only to it. The labels
// that it released stay released: hosts in other shards may still have to follow them.
func deleteShard(id shard.ID) []step {
	return []step{
		{name: "database", text: "DELETE FROM hostsched_shard_databases WHERE shard_id = ?", args: []any{int64(id)}},
		{name: "delete", text: "DELETE FROM afe_shards WHERE id = ?", args: []any{int64(id)}},
	}
}

// RemoveUnserved deletes a row of afe_shards that no replica can lead, and gives its
// labels and hosts to the master at once: there is no leader who could hand them over.
// It has no fence, or that of the shard whose name the database takes it for.
func (lab *Lab) RemoveUnserved(ctx context.Context, id shard.ID, who, reason string) error {
	what := fmt.Sprintf("remove row %d of afe_shards", id)
	return lab.change(ctx, what, []shard.Name{shard.Master}, func(tx *sql.Tx) error {
		rows, err := store.ShardRows(ctx, tx, lab.Dialect)
		if err != nil {
			return err
		}
		why, not := shard.Unserved(rows)[id]
		if !not {
			return fmt.Errorf("%w: row %d of afe_shards is gone, or a shard that is served by now; see 'hostsched shard list -o wide'", ErrInput, id)
		}
		steps := append([]step{
			{name: "release", text: lab.Dialect.InsertIgnore + " hostsched_released_labels (label_id, shard_id) SELECT label_id, shard_id FROM afe_shards_labels WHERE shard_id = ?", args: []any{int64(id)}},
			{name: "labels", text: "DELETE FROM afe_shards_labels WHERE shard_id = ?", args: []any{int64(id)}},
			{name: "hosts", text: "UPDATE afe_hosts SET shard_id = NULL WHERE shard_id = ?", args: []any{int64(id)}},
		}, deleteShard(id)...)
		if err := lab.runAll(ctx, tx, steps); err != nil {
			return err
		}
		return lab.audit(ctx, tx, who, actionRemove, fmt.Sprintf("row %d", id), "not served, because "+why+": "+reason)
	})
}

// releasedJobs is how many jobs ReleaseJobs changes at once: it takes no longer
// than other clients can wait.
const releasedJobs = 500

// ReleaseJobs takes afe_jobs.shard_id of a shard away, which only refers to it.
// It returns how many jobs it changed, at most releasedJobs.
func (lab *Lab) ReleaseJobs(ctx context.Context, id shard.ID) (int, error) {
	ids, err := sqldb.SelectIDs(ctx, lab.Pool, "SELECT id FROM afe_jobs WHERE shard_id = ? ORDER BY id LIMIT ?", int64(id), releasedJobs)
	what := fmt.Sprintf("the jobs of row %d of afe_shards", id)
	if err != nil || len(ids) == 0 {
		return 0, sqldb.Explain(err, "look for "+what, lab.Target())
	}
	_, err = lab.Pool.ExecContext(ctx, "UPDATE afe_jobs SET shard_id = NULL WHERE id IN "+sqldb.List(ids))
	return len(ids), sqldb.Explain(err, "release "+what, lab.Target())
}
