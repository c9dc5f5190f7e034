package store

import (
	"context"

	"github.com/hostsched/hostsched/store/sqldb"
)

// DB is an open database with the tables of a lab.
type DB struct {
	*sqldb.DB
	fail failpoints
}

// Open opens the database of a lab. It does not look at the schema.
func Open(ctx context.Context, cfg sqldb.Config) (*DB, error) {
	db, err := sqldb.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &DB{DB: db}, nil
}

// failpoints let tests of this package stop a transaction at a chosen place.
type failpoints struct {
	// inTx runs inside every writing transaction, after the fence.
	inTx func(context.Context) error
	// afterCommit runs after a successful COMMIT; its error replaces the answer.
	afterCommit func() error
	// chunk runs after the last statement of a chunk of assignments.
	chunk func() error
}
