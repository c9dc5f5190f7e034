package store

import "context"

// Failpoints set by tests.

// FailInTx runs f inside every writing transaction, after the fence.
func (db *DB) FailInTx(f func(context.Context) error) { db.fail.inTx = f }

// FailAfterCommit replaces the answer to every successful COMMIT.
func (db *DB) FailAfterCommit(f func() error) { db.fail.afterCommit = f }

// FailInChunk runs f before the last statement of a chunk of assignments.
func (db *DB) FailInChunk(f func() error) { db.fail.chunk = f }

// RemoveGuard drops the guard index.
func (db *DB) RemoveGuard(ctx context.Context) error { return db.removeGuard(ctx) }

// HasGuard tells whether the guard index is there.
var HasGuard = (*DB).hasGuard
