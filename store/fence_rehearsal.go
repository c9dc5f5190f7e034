package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/hostsched/hostsched/store/sqldb"
)

// rehearsalTimeout bounds a rehearsal. A live leader holds its fence row for less.
const rehearsalTimeout = 2 * time.Second

// RehearseTakeOver tries on the fence what a takeover does and undoes it. A replica whose
// takeover failed finds out with it when the next one is worth a campaign, without
// any trace in etcd or in the history.
func (db *DB) RehearseTakeOver(ctx context.Context, c Claim) error {
	ctx, cancel := context.WithTimeout(ctx, rehearsalTimeout)
	defer cancel()
	db.evictDead(ctx, c)
	err := db.rehearse(ctx, c)
	return sqldb.Explain(err, c.tried(), db.Target())
}

func (db *DB) rehearse(ctx context.Context, c Claim) (err error) {
	tx, err := db.Pool.BeginTx(ctx, &sql.TxOptions{Isolation: db.rehearsalIsolation()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	if _, err := db.shardID(ctx, tx, c); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE hostsched_fence SET ticks = ticks WHERE shard = ? AND lane = 0", c.Shard.String()); err != nil {
		return err
	}
	f, err := db.readFence(ctx, tx, c.Shard)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil // never led: the takeover makes the row
	case err != nil:
		return err
	}
	return c.foreign(f, db.Target())
}

// rehearsalIsolation is the isolation of writers, because some servers refuse writes at
// that level only.
func (db *DB) rehearsalIsolation() sql.IsolationLevel {
	if db.Dialect.Server == sqldb.ServerSQLite {
		return sql.LevelDefault
	}
	return sql.LevelReadCommitted
}
