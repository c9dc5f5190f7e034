package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Given is an assignment that a leader committed.
type Given struct {
	Entry scheduler.EntryID `json:"entry"`
	Job   scheduler.JobID   `json:"job"`
	Host  scheduler.HostID  `json:"host"`
}

// rememberGiven bounds how many of the latest assignments a leader remembers. A
// replica server lags by seconds, in which the largest lab gives out a few thousand
// hosts.
const rememberGiven = 10_000

// remember keeps the latest assignments, so that it can be told which of them a
// database has lost.
func (l *Leader) remember(applied scheduler.Plan) {
	for i := range applied.Assignments {
		a := &applied.Assignments[i]
		l.given = append(l.given, Given{Entry: a.Entry, Job: a.Job, Host: a.Host})
	}
	if n := len(l.given); n > 2*rememberGiven {
		l.given = append([]Given(nil), l.given[n-rememberGiven:]...)
	}
}

// Given returns the latest assignments of this term.
func (l *Leader) Given() []Given { return slices.Clone(l.given) }

// Lost returns those of some assignments that the database does not have any more. An
// entry that was queued again since cannot be told from them, so it is among them.
func (db *DB) Lost(ctx context.Context, given []Given) ([]Given, error) {
	latest := map[scheduler.EntryID]Given{}
	for _, g := range given {
		latest[g.Entry] = g
	}
	var lost []Given
	// So many ids fit into a statement of any server.
	const perQuery = 1000
	for ids := range slices.Chunk(given, perQuery) {
		query := "SELECT id, COALESCE(host_id, 0) FROM afe_host_queue_entries WHERE complete = 0 AND id IN " + sqldb.List(sqldb.IDsOf(ids, func(g Given) int64 { return int64(g.Entry) }))
		err := sqldb.EachRow(ctx, db.Pool, query, nil, func(scan sqldb.Scanner) error {
			var entry scheduler.EntryID
			var host scheduler.HostID
			err := scan(&entry, &host)
			if g, known := latest[entry]; known && g.Host != host {
				lost = append(lost, g)
				delete(latest, entry)
			}
			return err
		})
		if err != nil {
			return nil, sqldb.Explain(err, "look for lost assignments", db.Target())
		}
	}
	return lost, nil
}

// row is what a writer's row of the fence says.
type row struct {
	epoch     int64
	holder    string
	lastWrite string
}

// rowColumns are those of a row, as (*row).fields takes them.
const rowColumns = "epoch, holder, last_write"

func (r *row) fields() []any { return []any{&r.epoch, &r.holder, &r.lastWrite} }

// readRow reads a writer's row.
func (w *writer) readRow(ctx context.Context, q sqldb.Querier, suffix string) (r row, err error) {
	err = q.QueryRowContext(ctx, "SELECT "+rowColumns+" FROM hostsched_fence WHERE shard = ? AND lane = ?"+suffix, w.l.fence.Shard.String(), w.num).Scan(r.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		err = w.l.elsewhere()
	}
	return r, err
}

// judge says what a writer's row means for this term: it is as the writer left it
// (nil), a successor has taken over, or the database has lost what was committed.
func (w *writer) judge(r row) error {
	f := w.l.fence
	switch {
	case r.epoch == 0:
		return w.l.elsewhere()
	case r.epoch < f.Epoch:
		return fmt.Errorf("%w: shard %s was taken over with epoch %d, and now its epoch is %d", ErrWentBack, f.Shard, f.Epoch, r.epoch)
	case r.epoch != f.Epoch || r.holder != f.Holder:
		return w.l.over()
	case !w.mine(r.lastWrite):
		return fmt.Errorf("%w: the last write of shard %s was %q, and now it is %q", ErrWentBack, f.Shard, w.last, r.lastWrite)
	}
	return nil
}

// elsewhere is the error of a term whose database was never led: the address leads to
// another database now, which has not lost anything, because it never had it.
func (l *Leader) elsewhere() error {
	return fmt.Errorf("%w: shard %s was never led in the database to which the address leads now", ErrFenced, l.fence.Shard)
}

// mine tells whether a write is the last one of this writer: the last that was
// committed, or a later one of which nobody knows whether it was.
func (w *writer) mine(id string) bool { return id == w.last || w.doubtful != "" && id == w.doubtful }

// checkWrites makes sure, before a plan is applied, that no writer's commits were
// lost. A writer alone cannot tell: its own row may be older than what was lost.
func (l *Leader) checkWrites(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.db.Config.TxTimeout)
	defer cancel()
	seen := 0
	err := sqldb.EachRow(ctx, l.db.Pool, "SELECT lane, "+rowColumns+" FROM hostsched_fence WHERE shard = ? AND lane BETWEEN 0 AND ?", []any{l.fence.Shard.String(), len(l.writers) - 1}, func(scan sqldb.Scanner) error {
		var num int
		var r row
		if err := scan(append([]any{&num}, r.fields()...)...); err != nil {
			return err
		}
		seen++
		return l.writers[num].judge(r)
	})
	switch {
	case err != nil:
	case seen == 0:
		err = l.elsewhere()
	case seen < len(l.writers):
		err = fmt.Errorf("%w: shard %s has %d fence rows, and had %d", ErrWentBack, l.fence.Shard, seen, len(l.writers))
	}
	return l.main().explain(err, "check the last writes")
}

// LastWrites are what a term that has ended left in the rows of the fence. Whoever takes
// over next compares, because the database may have lost some of it.
type LastWrites struct {
	Epoch  int64
	Holder string
	// Writes are, for each writer, the last write that was committed, and perhaps a later
	// one of which nobody knows whether it was.
	Writes [][]string
	// Given are the latest assignments of the term.
	Given []Given
	// Cause is why the term ended, empty if its holder has not said. The history has it even
	// if its holder could not write it there.
	Cause string
}

// LastWrites returns what this term has left. It writes nothing any more.
func (l *Leader) LastWrites() LastWrites {
	out := LastWrites{Epoch: l.fence.Epoch, Holder: l.fence.Holder, Given: l.Given()}
	for _, w := range l.writers {
		writes := []string{w.last}
		if w.doubtful != "" {
			writes = append(writes, w.doubtful)
		}
		out.Writes = append(out.Writes, writes)
	}
	return out
}

// lost says whether the rows of a fence, by writer, lack what a term left there. The rows of
// a later term have been compared before, and an epoch that is lower tells by itself.
func (k LastWrites) lost(name string, rows []row) error {
	for num, r := range rows {
		if r.epoch == k.Epoch && r.holder == k.Holder && num < len(k.Writes) && !slices.Contains(k.Writes[num], r.lastWrite) {
			return fmt.Errorf("%w: the last write of %s to shard %s was %q, and now it is %q", ErrWentBack, k.Holder, name, k.Writes[num][0], r.lastWrite)
		}
	}
	return nil
}

// checkFormer refuses a takeover if the database has lost what a former term committed.
// Former terms that are known have ended, so nobody writes the rows meanwhile but another
// claimant, who compares, too.
func (l *Leader) checkFormer(ctx context.Context, q sqldb.Querier) error {
	if len(l.claim.Former) == 0 {
		return nil
	}
	name := l.claim.Shard.String()
	var rows []row
	err := sqldb.EachRow(ctx, q, "SELECT "+rowColumns+" FROM hostsched_fence WHERE shard = ? ORDER BY lane", []any{name}, func(scan sqldb.Scanner) error {
		var r row
		err := scan(r.fields()...)
		rows = append(rows, r)
		return err
	})
	for _, former := range l.claim.Former {
		if err == nil {
			err = former.lost(name, rows)
		}
	}
	return err
}
