package lab

import (
	"context"

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
