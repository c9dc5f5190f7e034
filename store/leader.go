package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hostsched/hostsched/scheduler"
)

// Leader is the right to write to one shard, won by TakeOver. It writes over
// the connections of its writers. A Leader is used by one goroutine.
type Leader struct {
	db      *DB
	claim   Claim
	fence   Fence
	writers []*writer

	// shardID is the row of afe_shards, 0 for the master.
	shardID int64
	// termID is the row of hostsched_terms.
	termID     int64
	chunkSizer chunkSizer
	// contended is set while other clients keep rows locked that plans want; contention
	// has the rows.
	contended  atomic.Bool
	contention contention
	// given are the latest assignments of this term.
	given []Given
	// basis is what the plan being applied stands on; nil outside of Apply.
	basis *scheduler.Basis
}

func newLeader(db *DB, c Claim) *Leader {
	l := &Leader{db: db, claim: c}
	for num := range db.Dialect.Writers {
		l.writers = append(l.writers, &writer{l: l, num: num})
	}
	return l
}

// Fence returns the fence row as it was taken over.
func (l *Leader) Fence() Fence { return l.fence }

// Close gives the connections up. The fence stays as it is: the next term takes
// it over.
func (l *Leader) Close() error {
	var err error
	for _, w := range l.writers {
		err = errors.Join(err, w.disconnect())
	}
	return err
}

// main is the writer that does what is not shared.
func (l *Leader) main() *writer { return l.writers[0] }

// Verify asks the database whether this term is still the latest, on a fresh
// connection if the old one was lost, and whether it has what was committed. ErrFenced and
// ErrWentBack say that it is not so.
func (l *Leader) Verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.db.Config.TxTimeout)
	defer cancel()
	w := l.main()
	if _, err := w.connection(ctx); err != nil {
		return w.explain(err, "verify the fence")
	}
	if err := w.register(ctx); err != nil {
		return w.explain(err, "verify the fence")
	}
	return l.checkWrites(ctx)
}

// oneFence checks that a statement found the row of a writer as this term left it.
func (l *Leader) oneFence(res sql.Result) error {
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n != 1 {
		return l.over()
	}
	return nil
}

// over is the error of a term whose shard another replica has taken over.
func (l *Leader) over() error {
	return fmt.Errorf("%w: shard %s, epoch %d of %s is over: another replica has taken over", ErrFenced, l.fence.Shard, l.fence.Epoch, l.fence.Holder)
}
