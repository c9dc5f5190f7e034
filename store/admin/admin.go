package admin

import (
	"context"
	"database/sql"
	"errors"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// Errors that callers tell apart.
var (
	// ErrInput is a request that makes no sense for what is in the database.
	ErrInput = errors.New("cannot be done")
	// ErrInUse means that something still belongs to what should be removed.
	ErrInUse = errors.New("still in use")
)

// Lab is a lab as its administrators see it.
type Lab struct {
	*store.DB
	// failAtStep runs after each step of a change; tests interrupt changes there.
	failAtStep func(name string) error
}

// New returns the lab in a database.
func New(db *store.DB) *Lab { return &Lab{DB: db} }

// change runs one administrative transaction under the fences of the shards
// concerned.
func (lab *Lab) change(ctx context.Context, what string, fences []shard.Name, work func(*sql.Tx) error) error {
	return lab.Change(ctx, what, fences, lab.reached, work)
}

func (lab *Lab) reached(name string) error {
	if lab.failAtStep == nil {
		return nil
	}
	return lab.failAtStep(name)
}

// step is one statement of a change, named for failpoints.
type step struct {
	name, text string
	args       []any
	skip       bool
}

func (lab *Lab) run(ctx context.Context, tx *sql.Tx, s step) error {
	if s.skip {
		return nil
	}
	if _, err := tx.ExecContext(ctx, s.text, s.args...); err != nil {
		return err
	}
	return lab.reached(s.name)
}

func (lab *Lab) runAll(ctx context.Context, tx *sql.Tx, steps []step) error {
	for _, s := range steps {
		if err := lab.run(ctx, tx, s); err != nil {
			return err
		}
	}
	return nil
}
