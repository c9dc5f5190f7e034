package admin

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Cluster is who may lead: an etcd cluster by its id, and in it an installation of
// hostsched by the setting cluster.
type Cluster struct {
	Etcd, Name string
}

// String is the cluster in a line for people.
func (c Cluster) String() string {
	return "cluster " + cmp.Or(c.Name, "(unknown)") + " in etcd cluster " + cmp.Or(c.Etcd, "(none)")
}

// RequireCluster makes sure that a database belongs to a cluster, as far as its fences
// say: those of the shards given.
func (lab *Lab) RequireCluster(ctx context.Context, cluster string, shards []shard.Name) error {
	fences, err := lab.Fences(ctx)
	if err != nil {
		return err
	}
	for _, name := range shards {
		if err := fences[name].CheckCluster(cluster, lab.Target()); err != nil {
			return err
		}
	}
	return nil
}

// RunningTerms returns the fences of the shards whose last term has no end in the history: it
// lasts, or its leader was lost. A database without our tables has none.
func (lab *Lab) RunningTerms(ctx context.Context) (map[shard.Name]store.Fence, error) {
	there, err := lab.HasTable(ctx, "hostsched_terms")
	if err != nil || !there {
		return nil, err
	}
	fences, err := lab.Fences(ctx)
	if err != nil {
		return nil, err
	}
	out := map[shard.Name]store.Fence{}
	err = sqldb.EachRow(ctx, lab.Pool, "SELECT shard FROM hostsched_terms WHERE ended = 0", nil, func(scan sqldb.Scanner) error {
		var name shard.Name
		err := scan(&name)
		if f, led := fences[name]; led && f.Holder != "" {
			out[name] = f
		}
		return err
	})
	return out, sqldb.Explain(err, "look for terms that last", lab.Target())
}

// AdoptFence lets the given cluster lead a shard whose fence belongs to another one, or
// whose token is higher than the revisions of its etcd. The epoch continues to rise, so
// whoever led before stays fenced. Rows that contradicted each other agree again, and the
// shard stays paused if any of them said so. It is audited.
func (lab *Lab) AdoptFence(ctx context.Context, name shard.Name, cluster Cluster, who, reason string) (err error) {
	tx, err := lab.Pool.BeginTx(ctx, nil)
	if err != nil {
		return sqldb.Explain(err, "adopt the fence", lab.Target())
	}
	defer func() { err = sqldb.RollbackUnless(tx, err) }()
	f, err := lab.reconciled(ctx, tx, name)
	if err != nil {
		return sqldb.Explain(err, "adopt the fence", lab.Target())
	}
	if f.rows == 0 {
		return fmt.Errorf("adopt the fence: shard %s never had a leader; nothing to adopt", name)
	}
	if _, err := tx.ExecContext(ctx, "UPDATE hostsched_fence SET epoch = ?, token = 0, etcd_cluster = ?, cluster_name = ?, holder = '', layout = ?, shard_id = ?, pause_reason = ?, paused_by = ?, paused_at = ?, taken_at = "+lab.Dialect.Now+" WHERE shard = ?",
		f.epoch+1, cluster.Etcd, cluster.Name, f.layout+1, f.shardID, f.pauseReason, f.pausedBy, f.pausedAt, name.String()); err != nil {
		return sqldb.Explain(err, "adopt the fence", lab.Target())
	}
	if err := lab.auditShard(ctx, tx, who, ActionAdopt, name, cluster.String()+": "+reason); err != nil {
		return err
	}
	return sqldb.Explain(tx.Commit(), "adopt the fence", lab.Target())
}

// fenceRow is what of a fence outlasts its adoption.
type fenceRow struct {
	epoch, layout, shardID, pausedAt int64
	pauseReason, pausedBy            string
	rows                             int
}

// reconciled reads and locks the rows of a fence, and makes one of them that is later than
// each: values are written and not counted up, so that all rows agree afterwards.
func (lab *Lab) reconciled(ctx context.Context, tx *sql.Tx, name shard.Name) (f fenceRow, err error) {
	err = sqldb.EachRow(ctx, tx, "SELECT epoch, layout, shard_id, paused_at, pause_reason, paused_by FROM hostsched_fence WHERE shard = ?"+lab.Dialect.ForUpdate, []any{name.String()}, func(scan sqldb.Scanner) error {
		var r fenceRow
		err := scan(&r.epoch, &r.layout, &r.shardID, &r.pausedAt, &r.pauseReason, &r.pausedBy)
		f.rows++
		f.epoch, f.layout, f.shardID = max(f.epoch, r.epoch), max(f.layout, r.layout), max(f.shardID, r.shardID)
		if r.pauseReason != "" && (f.pauseReason == "" || r.pausedAt > f.pausedAt) {
			f.pauseReason, f.pausedBy, f.pausedAt = r.pauseReason, r.pausedBy, r.pausedAt
		}
		return err
	})
	return f, err
}

// PauseShard stops scheduling in a shard; it keeps its leader. When it returns,
// no plan that was made before can be applied any more. An empty pause resumes.
// The reason is for the audit record. ErrNotPaused says that there was nothing to
// resume.
func (lab *Lab) PauseShard(ctx context.Context, name shard.Name, who, pause, reason string) error {
	if err := cmp.Or(fits("the reason of the pause", pause, shard.MaxPause), FitsAudit(who, name.String(), reason)); err != nil {
		return err
	}
	action := ActionPause
	by, at := who, lab.Dialect.NowMillis
	if pause == "" {
		action, by, at = ActionResume, "", "0"
	}
	return lab.change(ctx, action+" of shard "+name.String(), []shard.Name{name}, func(tx *sql.Tx) error {
		if pause == "" {
			if err := requirePaused(ctx, tx, name); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "UPDATE hostsched_fence SET pause_reason = ?, paused_by = ?, paused_at = "+at+" WHERE shard = ?", pause, by, name.String()); err != nil {
			return err
		}
		return lab.auditShard(ctx, tx, who, action, name, reason)
	})
}

// ErrNotPaused means that a shard that should be resumed is not paused. Nothing was changed.
var ErrNotPaused = errors.New("it is not paused")

// requirePaused looks under the fence, so that nobody pauses or resumes the shard meanwhile.
func requirePaused(ctx context.Context, tx *sql.Tx, name shard.Name) error {
	var paused int
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM hostsched_fence WHERE shard = ? AND pause_reason <> ''", name.String()).Scan(&paused)
	if err == nil && paused == 0 {
		return fmt.Errorf("shard %s: %w", name, ErrNotPaused)
	}
	return err
}
