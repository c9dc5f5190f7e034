package lab

import (
	"context"
	"strings"

	"github.com/hostsched/hostsched/store/sqldb"
)

// Event is something that happened, to be noted in the journal. Ids are 0 where the
// event is not about such a thing.
type Event struct {
	Kind, Shard      string
	Host, Job, Entry int64
	Who              string
	Subject, Reason  string
}

// eventRows is how many events one INSERT has. Each has nine parameters, and SQLite
// allows 32,766.
const eventRows = 1000

// note writes events, many per statement, in the transaction that they tell of.
func (l *Lab) note(ctx context.Context, tx sqldb.Querier, events ...Event) error {
	for len(events) > 0 {
		part := events[:min(len(events), eventRows)]
		events = events[len(part):]
		row := "(" + l.db.Dialect.NowMillis + ", ?, ?, ?, ?, ?, ?, ?, ?)"
		text := "INSERT INTO hostsched_events (at, kind, shard, host_id, job_id, entry_id, who, subject, reason) VALUES " +
			strings.TrimSuffix(strings.Repeat(row+", ", len(part)), ", ")
		var args []any
		for _, e := range part {
			args = append(args, e.Kind, e.Shard, orNull(e.Host), orNull(e.Job), orNull(e.Entry), e.Who, cut(e.Subject, 255), cut(e.Reason, 500))
		}
		if _, err := tx.ExecContext(ctx, text, args...); err != nil {
			return err
		}
	}
	return nil
}

func orNull(id int64) any {
	if id == 0 {
		return nil
	}
	return id
}

// cut shortens a text to so many characters.
func cut(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}
