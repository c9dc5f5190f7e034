package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// causeExpired is the cause of a term whose holder said nothing any more, and of
// which nobody knows why.
const causeExpired = "lease expired"

// Term is one row of a shard's history.
type Term struct {
	Shard shard.Name `json:"shard"`
	Epoch int64      `json:"epoch"`
	Token int64      `json:"token"`
	// Holder is who led: server, process id and a random part.
	Holder string    `json:"holder"`
	Began  time.Time `json:"began"`
	// Ended is zero while the term lasts. Of a lost term it is when the next
	// began.
	Ended time.Time `json:"ended,omitzero"`
	// Planned is true if the shard was handed over, false if it was lost.
	Planned bool   `json:"planned"`
	Cause   string `json:"cause,omitempty"`
	// Ticks and Assignments are -1 if they are not known: of a term that lasts, and of
	// one that was lost.
	Ticks       int64 `json:"ticks"`
	Assignments int64 `json:"assignments"`
	// Next is the holder of the next term, whoever it was meant for.
	Next string `json:"next,omitempty"`
}

// TermEnd is how a term ended.
type TermEnd struct {
	Cause              string
	Planned            bool
	Ticks, Assignments int64
}

// beginTerm notes the term in the history, in a fenced transaction, and makes
// sure that a shard that was renamed has no leader under its former name.
func (l *Leader) beginTerm(ctx context.Context) error {
	return l.main().write(ctx, "record the term", func(ctx context.Context, tx sqldb.Querier) error {
		name, now := l.fence.Shard.String(), l.db.Dialect.NowMillis
		if l.shardID != 0 {
			if _, err := tx.ExecContext(ctx, "UPDATE hostsched_fence SET epoch = epoch + 1, holder = '', shard_id = 0 WHERE shard_id = ? AND shard <> ?", l.shardID, name); err != nil {
				return err
			}
		}
		if err := l.endLostTerm(ctx, tx); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, "INSERT INTO hostsched_terms (shard, epoch, token, holder, began, ended, planned, cause, ticks, assignments) VALUES (?, ?, ?, ?, "+now+", 0, 0, '', 0, 0)",
			name, l.fence.Epoch, l.fence.Token, l.fence.Holder)
		if err != nil {
			return err
		}
		if l.termID, err = res.LastInsertId(); err != nil {
			return err
		}
		return l.note(ctx, tx, Event{Kind: eventTakenOver, Shard: name, Who: l.fence.Holder, Subject: name, Reason: fmt.Sprintf("epoch %d, token %d", l.fence.Epoch, l.fence.Token)})
	})
}

// endLostTerm notes the end of a predecessor's term, unless the predecessor did. If it
// did, but others took it for dead, the history says both.
func (l *Leader) endLostTerm(ctx context.Context, tx sqldb.Querier) error {
	var id, ended, token, epoch int64
	var planned bool
	var holder, cause string
	err := tx.QueryRowContext(ctx, "SELECT id, holder, token, epoch, ended, planned, cause FROM hostsched_terms WHERE shard = ? ORDER BY id DESC LIMIT 1", l.fence.Shard.String()).
		Scan(&id, &holder, &token, &epoch, &ended, &planned, &cause)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	death := l.claim.death(holder, token)
	switch {
	case ended == 0:
		why := cmp.Or(death, l.claim.told(holder, epoch), causeExpired)
		if _, err := tx.ExecContext(ctx, "UPDATE hostsched_terms SET ended = "+l.db.Dialect.NowMillis+", cause = ? WHERE shard = ? AND ended = 0", why, l.fence.Shard.String()); err != nil {
			return err
		}
		return l.note(ctx, tx, l.termEnded(holder, why))
	case !planned && death != "":
		_, err = tx.ExecContext(ctx, "UPDATE hostsched_terms SET cause = ? WHERE id = ?", butItLived(death, cause), id)
	}
	return err
}

func (l *Leader) termEnded(holder, cause string) Event {
	name := l.fence.Shard.String()
	return Event{Kind: eventTermEnded, Shard: name, Who: holder, Subject: name, Reason: cause}
}

// butItLived is the cause of a term whose holder others took for dead, and which the
// holder saw end.
func butItLived(death, cause string) string { return death + ", but it lived: " + cause }

// EndTerm notes how the term ended. It is no fenced write: it only concerns the
// row of this term, and comes when the next may have begun. Then a successor has
// noted why it took the shard over, and that stays, because the holder lived.
func (l *Leader) EndTerm(ctx context.Context, end TermEnd) error {
	planned := 0
	if end.Planned {
		planned = 1
	}
	tx, err := l.db.Pool.BeginTx(ctx, nil)
	if err == nil {
		if err = sqldb.RollbackUnless(tx, l.endTerm(ctx, tx, planned, end)); err == nil {
			err = tx.Commit()
		}
	}
	return sqldb.Explain(err, "record the end of the term", l.db.Target())
}

func (l *Leader) endTerm(ctx context.Context, tx *sql.Tx, planned int, end TermEnd) error {
	res, err := tx.ExecContext(ctx, "UPDATE hostsched_terms SET ended = "+l.db.Dialect.NowMillis+", planned = ?, cause = ?, ticks = ?, assignments = ? WHERE id = ? AND ended = 0",
		planned, end.Cause, end.Ticks, end.Assignments, l.termID)
	if err != nil {
		return err
	}
	switch n, err := res.RowsAffected(); {
	case err != nil:
		return err
	case n == 0:
		return l.amendTerm(ctx, tx, end)
	}
	return l.note(ctx, tx, l.termEnded(l.fence.Holder, end.Cause))
}

// amendTerm adds to a term that a successor took for lost what its holder knows.
func (l *Leader) amendTerm(ctx context.Context, tx *sql.Tx, end TermEnd) error {
	var cause string
	if err := tx.QueryRowContext(ctx, "SELECT cause FROM hostsched_terms WHERE id = ?", l.termID).Scan(&cause); err != nil {
		return err
	}
	why := end.Cause
	if !strings.HasPrefix(why, cause) { // else it has told its successor, perhaps cut off
		why = butItLived(cause, why)
	}
	_, err := tx.ExecContext(ctx, "UPDATE hostsched_terms SET cause = ?, ticks = ?, assignments = ? WHERE id = ?", why, end.Ticks, end.Assignments, l.termID)
	return err
}

// MaxRows bounds how many rows of a log, like the history, are read at once.
const MaxRows = 1000

// Terms returns the latest terms of a shard, latest first; at most limit.
func (db *DB) Terms(ctx context.Context, name shard.Name, limit int) ([]Term, error) {
	out := []Term{}
	err := sqldb.EachRow(ctx, db.Pool, "SELECT "+termColumns+" FROM hostsched_terms t WHERE shard = ? ORDER BY id DESC LIMIT ?", []any{name.String(), min(limit, MaxRows)}, func(scan sqldb.Scanner) error {
		t, err := scanTerm(scan)
		t.Shard = name
		if len(out) > 0 {
			t.Next = out[len(out)-1].Holder
		}
		out = append(out, t)
		return err
	})
	return out, sqldb.Explain(err, "read the history of shard "+name.String(), db.Target())
}

const termColumns = "t.epoch, t.token, t.holder, t.began, t.ended, t.planned, t.cause, t.ticks, t.assignments"

func scanTerm(scan sqldb.Scanner) (t Term, err error) {
	var began, ended int64
	err = scan(&t.Epoch, &t.Token, &t.Holder, &began, &ended, &t.Planned, &t.Cause, &t.Ticks, &t.Assignments)
	t.Began, t.Ended = millis(began), millis(ended)
	if t.Ended.IsZero() || !t.Planned && t.Ticks == 0 && t.Assignments == 0 {
		t.Ticks, t.Assignments = -1, -1
	}
	return t, err
}

// History is what the terms of a shard amount to.
type History struct {
	// Latest is the latest term.
	Latest Term
	// Failovers counts the terms that were lost and not handed over.
	Failovers int
}

// Histories returns the history of every shard, in one query.
func (db *DB) Histories(ctx context.Context) (map[shard.Name]History, error) {
	out := map[shard.Name]History{}
	const each = "SELECT MAX(id) AS id, SUM(CASE WHEN ended > 0 AND planned = 0 THEN 1 ELSE 0 END) AS failovers FROM hostsched_terms GROUP BY shard"
	err := sqldb.EachRow(ctx, db.Pool, "SELECT t.shard, h.failovers, "+termColumns+" FROM ("+each+") h JOIN hostsched_terms t ON t.id = h.id", nil, func(scan sqldb.Scanner) error {
		var h History
		t, err := scanTerm(func(dest ...any) error { return scan(append([]any{&h.Latest.Shard, &h.Failovers}, dest...)...) })
		t.Shard = h.Latest.Shard
		h.Latest = t
		out[t.Shard] = h
		return err
	})
	return out, sqldb.Explain(err, "read the latest term of each shard", db.Target())
}

// recentTerms is how far back Holders looks.
const recentTerms = 200

// Holders returns the holders of recent terms, the latest first.
func (db *DB) Holders(ctx context.Context) (holders []string, err error) {
	err = sqldb.EachRow(ctx, db.Pool, "SELECT holder FROM hostsched_terms ORDER BY id DESC LIMIT ?", []any{recentTerms}, func(scan sqldb.Scanner) error {
		var holder string
		err := scan(&holder)
		holders = append(holders, holder)
		return err
	})
	return holders, sqldb.Explain(err, "read who led lately", db.Target())
}
