package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Change runs one administrative transaction: it locks the fences of the shards
// concerned, in name order, so that two changes cannot block each other, and
// raises their layout, so that no plan made before is applied. A process that
// dies at any point leaves nothing behind; one that is paused is disconnected by
// the server after about one TTL. reached is told of each step, for tests that
// interrupt the change there.
func (db *DB) Change(ctx context.Context, what string, fences []shard.Name, reached func(step string) error, work func(*sql.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, db.Config.TakeOverTimeout)
	defer cancel()
	for {
		err := db.changeOnce(ctx, fences, reached, work)
		if !sqldb.IsLockTimeout(err) || ctx.Err() != nil {
			return sqldb.Explain(err, what, db.Target())
		}
	}
}

func (db *DB) changeOnce(ctx context.Context, fences []shard.Name, reached func(string) error, work func(*sql.Tx) error) (err error) {
	// A writer's connection has the settings that a change needs, too.
	w := newLeader(db, Claim{}).main()
	conn, err := w.connection(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.disconnect()) }()
	fences = slices.Compact(slices.Sorted(slices.Values(fences)))
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = sqldb.RollbackUnless(tx, err) }()
	for _, name := range fences {
		if err := db.ensureFence(ctx, tx, name); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE hostsched_fence SET layout = layout + 1 WHERE shard = ?", name.String()); err != nil {
			return err
		}
		if err := reached("fence " + name.String()); err != nil {
			return err
		}
	}
	if err := work(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return sqldb.Committed(err) // its answer may have been lost
	}
	return reached("commit")
}
