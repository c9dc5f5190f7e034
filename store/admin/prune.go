package admin

import (
	"context"
	"errors"

	"github.com/hostsched/hostsched/store/sqldb"
)

// Bounds of a pruning: what is left is deleted the next time.
const (
	pruneChunk  = 1000
	pruneChunks = 20
	// A full lab notes some ten thousand events an hour.
	journalChunks = 200
)

// Prune deletes terms that ended more than so many days ago, by the database's clock,
// audit records as old, and events of the journal that are older than journalDays; 0 days
// keep everything. Every shard keeps its latest term, and the records of lost commits
// stay. It deletes a bounded number of rows, in small transactions of their own.
func (lab *Lab) Prune(ctx context.Context, days, journalDays int) (terms, records, events int, err error) {
	if days > 0 {
		terms, records, err = lab.pruneHistory(ctx, days)
	}
	if journalDays > 0 {
		var jerr error
		events, jerr = lab.pruneJournal(ctx, journalDays)
		err = errors.Join(err, jerr)
	}
	return terms, records, events, sqldb.Explain(err, "delete old history", lab.Target())
}

func (lab *Lab) pruneHistory(ctx context.Context, days int) (terms, records int, err error) {
	old := []any{days * 24 * 60 * 60}
	terms, err = lab.prune(ctx, "hostsched_terms", "ended > 0 AND ended < "+lab.Dialect.NowMillis+" - ? * 1000 AND id NOT IN (SELECT MAX(id) FROM hostsched_terms GROUP BY shard)", old)
	records, rerr := lab.prune(ctx, "hostsched_audit", lab.Dialect.Unix("at")+" < "+lab.Dialect.NowMillis+" / 1000 - ? AND action <> '"+lostAction+"'", old)
	return terms, records, errors.Join(err, rerr)
}

// pruneJournal deletes events that are older than so many days. Their ids rise with time,
// so that only the first are looked at: there may be millions, and no index has the times.
func (lab *Lab) pruneJournal(ctx context.Context, days int) (n int, err error) {
	return lab.pruneChunks(ctx, journalChunks, "hostsched_events",
		"SELECT id FROM (SELECT id, at FROM hostsched_events ORDER BY id LIMIT ?) first WHERE at < "+lab.Dialect.NowMillis+" - ? * 86400000 ORDER BY id", pruneChunk, days)
}

// prune deletes the rows of a table that a condition finds, the oldest first.
func (lab *Lab) prune(ctx context.Context, table, where string, args []any) (n int, err error) {
	return lab.pruneChunks(ctx, pruneChunks, table, "SELECT id FROM "+table+" WHERE "+where+" ORDER BY id LIMIT ?", append(args[:len(args):len(args)], pruneChunk)...)
}

// pruneChunks deletes the rows of a table that a query finds, and again what it finds then, at
// most so many times.
func (lab *Lab) pruneChunks(ctx context.Context, most int, table, query string, args ...any) (n int, err error) {
	for range most {
		ids, err := sqldb.SelectIDs(ctx, lab.Pool, query, args...)
		if err != nil || len(ids) == 0 {
			return n, err
		}
		if _, err := lab.Pool.ExecContext(ctx, "DELETE FROM "+table+" WHERE id IN "+sqldb.List(ids)); err != nil {
			return n, err
		}
		n += len(ids)
	}
	return n, nil
}
