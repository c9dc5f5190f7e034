package lab

import (
	"context"
	"database/sql"
	"slices"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Event is something that happened, to be noted in the journal. Ids are 0 where the
// event is not about such a thing.
type Event = store.Event

// note writes events, many per statement, in the transaction that they tell of.
func (l *Lab) note(ctx context.Context, tx sqldb.Querier, events ...Event) error {
	return l.db.Note(ctx, tx, events...)
}

// noteHostsChanged notes in the history of hosts what the change of something else did to
// them.
func (l *Lab) noteHostsChanged(ctx context.Context, tx *sql.Tx, who access.Caller, hosts []int64, reason string) error {
	if len(hosts) == 0 {
		return nil
	}
	shards, err := l.shardNames(ctx, tx)
	if err != nil {
		return err
	}
	var events []Event
	r := &txReader{ctx: ctx, tx: tx}
	for part := range slices.Chunk(hosts, chunkRows) {
		r.RowsOf("SELECT h.id, h.hostname, h.shard_id FROM afe_hosts h WHERE h.invalid = 0 AND h.id IN "+sqldb.List(part)+" ORDER BY h.id", nil, func(v sqldb.Row) {
			events = append(events, Event{Kind: "host.changed", Shard: shards(v.Int(2).N), Host: v.Int(0).N, Who: who.Login, Subject: v.Text(1), Reason: reason})
		})
	}
	if r.err != nil {
		return r.err
	}
	return l.note(ctx, tx, events...)
}
