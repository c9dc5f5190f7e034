package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Claim is what a replica brings to a takeover.
type Claim struct {
	Shard shard.Name
	// Token is the fencing token of the term: the create revision of the
	// leader's key in etcd.
	Token int64
	// Cluster is the etcd cluster's id. Tokens of different clusters do not
	// compare.
	Cluster string
	// ClusterName is the name of the installation within etcd, the setting cluster. A
	// database belongs to one installation.
	ClusterName string
	// Holder names the replica, unique per process.
	Holder string
	// Shared is true where several shards share the database: the shard must be
	// the master or a row of afe_shards.
	Shared bool
	// Former are the last writes of former terms, as far as they are known: the takeover is
	// refused with ErrWentBack if the database lacks them.
	Former []LastWrites
	// Deaths says why holders died, as far as that is known. The history says so of
	// their terms.
	Deaths map[string]Death
	// Journal makes the leader note in the journal what it does.
	Journal bool
}

// Death is why others took a holder for dead.
type Death struct {
	Why string
	// Before bounds the tokens of the terms that ended for it: the holder came back, and won
	// its later terms afterwards. 0 means all terms.
	Before int64
}

// death says why the holder of a term died, empty if it did not as far as is known.
func (c Claim) death(holder string, token int64) string {
	if d := c.Deaths[holder]; d.Before == 0 || token < d.Before {
		return d.Why
	}
	return ""
}

// told says why a former term ended, as its holder told the others, empty if it did not.
func (c Claim) told(holder string, epoch int64) string {
	for _, former := range c.Former {
		if former.Holder == holder && former.Epoch == epoch {
			return former.Cause
		}
	}
	return ""
}

func (c Claim) tried() string {
	return fmt.Sprintf("take over shard %s with token %d", c.Shard, c.Token)
}

// Fence is what hostsched_fence says of a shard.
type Fence struct {
	Shard   shard.Name `json:"shard"`
	Epoch   int64      `json:"epoch"`
	Token   int64      `json:"token"`
	Cluster string     `json:"etcd_cluster"`
	// ClusterName is empty if no leader has said what its cluster is called.
	ClusterName string `json:"cluster"`
	Holder      string `json:"holder"`
	// TakenAt is by the database's clock.
	TakenAt time.Time `json:"taken_at"`
	// Writes counts the fenced transactions of all terms.
	Writes int64 `json:"writes"`
	// Paused says why nothing is scheduled, empty if the shard is not paused.
	Paused   string `json:"paused,omitempty"`
	PausedBy string `json:"paused_by,omitempty"`
	// PausedAt is by the database's clock.
	PausedAt time.Time `json:"paused_at,omitzero"`
	// Contradictions say in what the rows of the fence differ although they must not. They
	// are read only where somebody asks for them.
	Contradictions []string `json:"contradictions,omitempty"`
}

// takeOverRetry is the pause between attempts while a predecessor's transaction
// is being removed.
const takeOverRetry = 20 * time.Millisecond

// ReadFence reads the fence row of a shard without waiting for any lock. ok is
// false if the shard never had a leader.
func (db *DB) ReadFence(ctx context.Context, name shard.Name) (f Fence, ok bool, err error) {
	f, err = db.readFence(ctx, db.Pool, name)
	if errors.Is(err, sql.ErrNoRows) {
		return f, false, nil
	}
	return f, err == nil, sqldb.Explain(err, "read the fence of shard "+name.String(), db.Target())
}

func (db *DB) readFence(ctx context.Context, q sqldb.Querier, name shard.Name) (Fence, error) {
	f := Fence{Shard: name}
	var takenAt, pausedAt int64
	err := q.QueryRowContext(ctx, "SELECT epoch, token, etcd_cluster, cluster_name, holder, "+db.Dialect.Unix("taken_at")+", (SELECT SUM(ticks) FROM hostsched_fence l WHERE l.shard = f.shard), pause_reason, paused_by, paused_at FROM hostsched_fence f WHERE shard = ? AND lane = 0", name.String()).
		Scan(&f.Epoch, &f.Token, &f.Cluster, &f.ClusterName, &f.Holder, &takenAt, &f.Writes, &f.Paused, &f.PausedBy, &pausedAt)
	f.TakenAt, f.PausedAt = time.Unix(takenAt, 0).UTC(), millis(pausedAt)
	return f, err
}

// Fences reads the fences of all shards, in one query and without waiting for any
// lock. It leaves out what only one shard is asked for: Writes.
func (db *DB) Fences(ctx context.Context) (map[shard.Name]Fence, error) {
	out := map[shard.Name]Fence{}
	err := sqldb.EachRow(ctx, db.Pool, "SELECT shard, epoch, token, etcd_cluster, cluster_name, holder, "+db.Dialect.Unix("taken_at")+", pause_reason, paused_by, paused_at FROM hostsched_fence WHERE lane = 0", nil, func(scan sqldb.Scanner) error {
		var f Fence
		var takenAt, pausedAt int64
		err := scan(&f.Shard, &f.Epoch, &f.Token, &f.Cluster, &f.ClusterName, &f.Holder, &takenAt, &f.Paused, &f.PausedBy, &pausedAt)
		f.TakenAt, f.PausedAt = time.Unix(takenAt, 0).UTC(), millis(pausedAt)
		out[f.Shard] = f
		return err
	})
	return out, sqldb.Explain(err, "read the fences", db.Target())
}

// millis is a time of the database, which writes none as 0.
func millis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// firstWrite is what the rows of a fence have as their last write when they were taken
// over with a token.
func firstWrite(token int64) string { return fmt.Sprintf("takeover.%d", token) }

// TakeOver makes the claimant the only writer of its shard, before it reads any
// lab state. It fails with ErrOvertaken if a successor was faster, and with
// ErrForeignCluster if the stored token came from another etcd cluster. A
// predecessor that sleeps inside a transaction is disconnected.
//
// The caller closes the returned Leader.
func (db *DB) TakeOver(ctx context.Context, c Claim) (*Leader, error) {
	ctx, cancel := context.WithTimeout(ctx, db.Config.TakeOverTimeout)
	defer cancel()
	l := newLeader(db, c)
	db.evictDead(ctx, c)
	for {
		err := l.takeOverOnce(ctx)
		if err == nil {
			err = l.ready(ctx)
		}
		if err == nil {
			err = l.beginTerm(ctx) // last: what comes before may be repeated
		}
		if err == nil {
			return l, nil
		}
		if !sqldb.IsLockTimeout(err) || ctx.Err() != nil {
			return nil, errors.Join(sqldb.Explain(err, c.tried(), db.Target()), l.Close())
		}
		if l.fence.Epoch == 0 { // else the row is ours, and so is the session in it
			if err := db.evictPredecessor(ctx, c); err != nil {
				return nil, errors.Join(err, l.Close())
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(takeOverRetry):
		}
	}
}

// takeOverOnce changes the rows of all writers in one statement, all or none.
func (l *Leader) takeOverOnce(ctx context.Context) error {
	w := l.main()
	conn, err := w.connection(ctx)
	if err != nil {
		return err
	}
	if l.fence.Epoch != 0 {
		return nil // taken over before, but the term was not recorded
	}
	c := l.claim
	if l.shardID, err = l.db.shardID(ctx, conn, c); err != nil {
		return err
	}
	if err := l.db.ensureFence(ctx, conn, c.Shard); err != nil {
		return err
	}
	before, err := l.db.readFence(ctx, conn, c.Shard)
	if err != nil {
		return err
	}
	// Told before the UPDATE, because that may wait for a row that a paused predecessor
	// holds locked; a token only rises.
	if err := c.refusal(before, l.db.Target()); err != nil {
		return err
	}
	if err := l.checkFormer(ctx, conn); err != nil {
		return err
	}
	name := cmp.Or(c.ClusterName, before.ClusterName)
	res, err := conn.ExecContext(ctx, "UPDATE hostsched_fence SET epoch = epoch + 1, token = ?, holder = ?, last_write = ?, taken_at = "+l.db.Dialect.Now+
		", session_id = CASE lane WHEN 0 THEN ? ELSE 0 END, session_peer = CASE lane WHEN 0 THEN ? ELSE '' END, shard_id = ?, etcd_cluster = ?, cluster_name = ? WHERE shard = ? AND token < ? AND (etcd_cluster = ? OR etcd_cluster = '') AND cluster_name IN ('', ?)",
		c.Token, c.Holder, firstWrite(c.Token), w.sessionID, w.sessionPeer, l.shardID, c.Cluster, name, c.Shard.String(), c.Token, c.Cluster, name)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	f, err := l.db.readFence(ctx, conn, c.Shard)
	switch {
	case err != nil:
		return err
	case n == int64(len(l.writers)):
		l.fence = f
		for _, w := range l.writers {
			w.last = firstWrite(c.Token)
		}
		return nil
	case n > 0:
		return fmt.Errorf("%w: the %d rows of shard %s in hostsched_fence contradict each other; run 'hostsched fence adopt %s'", ErrOvertaken, len(l.writers), c.Shard, c.Shard)
	}
	if err := c.refusal(f, l.db.Target()); err != nil {
		return err // somebody was faster
	}
	return fmt.Errorf("%w: the fence of shard %s changed while it was taken over; trying again", ErrOvertaken, c.Shard)
}

// refusal says why a fence does not let a claimant in, nil if it does.
func (c Claim) refusal(f Fence, database string) error {
	if err := c.foreign(f, database); err != nil {
		return err
	}
	if f.Token >= c.Token {
		return overtaken(f, c)
	}
	return nil
}

// foreign says why a fence is of another cluster than a claimant, whatever its token; nil if
// it is not.
func (c Claim) foreign(f Fence, database string) error {
	if err := f.CheckCluster(c.ClusterName, database); err != nil {
		return err
	}
	if f.Cluster != "" && f.Cluster != c.Cluster {
		return foreignCluster(f, c)
	}
	return nil
}

func overtaken(f Fence, c Claim) error {
	return fmt.Errorf("%w: shard %s is held by %s with token %d, ours is %d; if etcd was restored from a backup, run 'hostsched fence adopt %s'", ErrOvertaken, c.Shard, f.Holder, f.Token, c.Token, c.Shard)
}

func foreignCluster(f Fence, c Claim) error {
	return fmt.Errorf("%w: shard %s was led under etcd cluster %s, this is %s; if that cluster is gone for good, run 'hostsched fence adopt %s'", ErrForeignCluster, c.Shard, f.Cluster, c.Cluster, c.Shard)
}

// CheckCluster refuses a cluster that is not the one to which the shard belongs in a
// database. Either may be unknown, and then belongs to any.
func (f Fence) CheckCluster(cluster, database string) error {
	if cluster == "" || f.ClusterName == "" || f.ClusterName == cluster {
		return nil
	}
	return fmt.Errorf("%w: shard %s in %s belongs to cluster %s, and the setting 'cluster' here is %s; correct it, or if cluster %s is gone for good, run 'hostsched fence adopt %s'", ErrOtherCluster, f.Shard, database, f.ClusterName, cluster, f.ClusterName, f.Shard)
}

// ready prepares all writers: the first plan of a term is often the largest.
func (l *Leader) ready(ctx context.Context) error {
	for _, w := range l.writers[1:] {
		if _, err := w.connection(ctx); err != nil {
			return err
		}
	}
	return l.main().beginByItself(ctx)
}

// fenceColumns are those without default.
const fenceColumns = "shard, epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer"

// ensureFence makes sure that a shard has a fence row for every writer; a shard
// that never was led belongs to no etcd cluster. The row of another writer is a
// copy of the first, taken under its lock: the rows of a shard never differ but
// in what a writer itself writes there.
func (db *DB) ensureFence(ctx context.Context, conn sqldb.Querier, name shard.Name) error {
	var rows int
	if err := conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM hostsched_fence WHERE shard = ?", name.String()).Scan(&rows); err != nil || rows == db.Dialect.Writers {
		return err
	}
	if _, err := conn.ExecContext(ctx, db.Dialect.InsertIgnore+" hostsched_fence ("+fenceColumns+") VALUES (?, 0, 0, '', '', "+db.Dialect.Now+", 0, '', 0, '')", name.String()); err != nil {
		return err
	}
	for num := 1; num < db.Dialect.Writers; num++ {
		const alike = "shard, " + alikeColumns
		_, err := conn.ExecContext(ctx, db.Dialect.InsertIgnore+" hostsched_fence ("+alike+", lane, ticks, last_write, session_id, session_peer) SELECT "+alike+", ?, 0, '', 0, '' FROM hostsched_fence WHERE shard = ? AND lane = 0"+db.Dialect.ForUpdate,
			num, name.String())
		if err != nil {
			return err
		}
	}
	return nil
}

// shardID returns the row of afe_shards that is claimed, 0 for the master and
// for a shard that has the whole database.
func (db *DB) shardID(ctx context.Context, q sqldb.Querier, c Claim) (int64, error) {
	if !c.Shared || c.Shard.IsMaster() {
		return 0, nil
	}
	rows, err := ShardRows(ctx, q, db.Dialect)
	if err != nil {
		return 0, err
	}
	id, ok := shard.Served(rows, c.Shard)
	if !ok {
		return 0, fmt.Errorf("%w: no row of afe_shards is served as %s (any more)", ErrNoShard, c.Shard)
	}
	return int64(id), nil
}
