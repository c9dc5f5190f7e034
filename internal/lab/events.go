package lab

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// ErrExpired is a cursor into the journal whose events were deleted, or never were.
var ErrExpired = errors.New("these events are not in the journal any more")

// EventFilter says which events are read; what is empty restricts nothing.
type EventFilter struct {
	// Kind is one, or with a dot at its end all that begin with it.
	Host, Kind, Who string
	Job, After      int64
	Limit           int
	// Newest turns the order round: the page has what was before After.
	Newest bool
}

// fits tells whether an event is one that the filter lets through. Hosts are compared by the
// name that the database has.
func (f EventFilter) fits(e *labapi.Event) bool {
	return (f.Host == "" || e.Host == f.Host) && (f.Kind == "" || e.Kind == f.Kind || f.allOfNoun() && strings.HasPrefix(e.Kind, f.Kind)) &&
		(f.Job == 0 || e.Job == f.Job) && (f.Who == "" || e.Who == f.Who)
}

// allOfNoun tells whether the filter names the beginning of kinds.
func (f EventFilter) allOfNoun() bool { return strings.HasSuffix(f.Kind, ".") }

// all tells whether the filter lets everything through.
func (f EventFilter) all() bool { return f.Host == "" && f.Kind == "" && f.Job == 0 && f.Who == "" }

// Of returns the frames of those events of a batch that the filter lets through and that come
// after one.
func (f EventFilter) Of(b *Batch, after int64) []byte {
	if f.all() && b.Events[0].ID > after {
		return b.All
	}
	var out []byte
	for i := range b.Events {
		if e := &b.Events[i]; e.ID > after && f.fits(e) {
			out = append(out, b.Frames[i]...)
		}
	}
	return out
}

// ResolveHost gives a filter the name of its host as the database has it.
func (l *Lab) ResolveHost(ctx context.Context, f *EventFilter) error {
	if f.Host == "" {
		return nil
	}
	err := l.db.Pool.QueryRowContext(ctx, "SELECT hostname FROM afe_hosts WHERE hostname = ? ORDER BY invalid, id LIMIT 1", f.Host).Scan(&f.Host)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: there is no host %q", ErrNotFound, f.Host)
	}
	return l.explain(err, "look a host up")
}

// Events reads the journal, the oldest event first unless the newest are asked for, as far as
// nothing can come in between any more.
func (l *Lab) Events(ctx context.Context, f EventFilter) (page labapi.Page[labapi.Event], err error) {
	if err := l.RequireCursor(ctx, f.After); err != nil {
		return page, err
	}
	horizon, err := l.horizon(ctx)
	if err != nil {
		return page, err
	}
	order, where, args := "ASC", "e.id > ? AND e.id <= ?", []any{f.After, horizon}
	if f.Newest {
		order, where, args = "DESC", "e.id < ? AND e.id <= ?", []any{cmp.Or(f.After, math.MaxInt64), horizon}
	}
	if f.Host != "" {
		where, args = where+" AND e.host_id IN (SELECT id FROM afe_hosts WHERE hostname = ?)", append(args, f.Host)
	}
	if f.Job != 0 {
		where, args = where+" AND e.job_id = ?", append(args, f.Job)
	}
	switch {
	case f.allOfNoun():
		where, args = where+" AND e.kind LIKE ? ESCAPE '!'", append(args, likeText.Replace(f.Kind)+"%")
	case f.Kind != "":
		where, args = where+" AND e.kind = ?", append(args, f.Kind)
	}
	if f.Who != "" {
		where, args = where+" AND e.who = ?", append(args, f.Who)
	}
	page.Items, err = l.readEvents(ctx, where, order, append(args, f.Limit+1))
	if len(page.Items) > f.Limit {
		page.Items = page.Items[:f.Limit]
		page.After = fmt.Sprint(page.Items[f.Limit-1].ID)
	}
	return page, err
}

func (l *Lab) readEvents(ctx context.Context, where, order string, args []any) ([]labapi.Event, error) {
	events := []labapi.Event{}
	query := "SELECT e.id, e.at, e.kind, e.shard, COALESCE(h.hostname, ''), COALESCE(e.job_id, 0), COALESCE(e.entry_id, 0), e.who, e.subject, e.reason FROM hostsched_events e LEFT JOIN afe_hosts h ON h.id = e.host_id WHERE " + where + " ORDER BY e.id " + order + " LIMIT ?"
	err := l.each(ctx, "read the journal", query, args, func(scan sqldb.Scanner) error {
		var e labapi.Event
		var at int64
		err := scan(&e.ID, &at, &e.Kind, &e.Shard, &e.Host, &e.Job, &e.Entry, &e.Who, &e.Subject, &e.Reason)
		e.At = time.UnixMilli(at).UTC()
		events = append(events, e)
		return err
	})
	return events, err
}

// RequireCursor refuses to go on after an event if the next ones may have been deleted, or if
// this database never had it.
func (l *Lab) RequireCursor(ctx context.Context, after int64) error {
	if after == 0 {
		return nil
	}
	var first, last int64
	if err := l.db.Pool.QueryRowContext(ctx, "SELECT COALESCE(MIN(id), 0), COALESCE(MAX(id), 0) FROM hostsched_events").Scan(&first, &last); err != nil {
		return l.explain(err, "read the journal")
	}
	if after < first-1 || after > last {
		return fmt.Errorf("%w: events after %d were asked for, and it has %d to %d; read what there is now, and go on from there", ErrExpired, after, first, last)
	}
	return nil
}

// horizon is the highest id below which no event can appear any more. Ids begin with 1, so
// that nothing is passed over in a journal that is so new that no event in it is old enough.
func (l *Lab) horizon(ctx context.Context) (int64, error) {
	old, err := l.oldEvent(ctx)
	if err != nil {
		return 0, err
	}
	return l.withoutGap(ctx, l.known.settled(time.Now(), old, false))
}

// horizonAfter is horizon for who watches and has everything up to a position.
func (l *Lab) horizonAfter(ctx context.Context, position int64) (int64, error) {
	old, err := l.oldEvent(ctx)
	if err != nil {
		return 0, err
	}
	return l.withoutGap(ctx, max(position, l.known.settled(time.Now(), old, true)))
}

// oldEvent is the last event that is old by the clock of the database, 0 if there is none.
func (l *Lab) oldEvent(ctx context.Context) (id int64, err error) {
	err = l.db.Pool.QueryRowContext(ctx, "SELECT id FROM hostsched_events WHERE at < "+l.db.Dialect.NowMillis+" - ? ORDER BY id DESC LIMIT 1", gapLasts.Milliseconds()).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return id, l.explain(err, "read the journal")
}

// withoutGap is the last id after one before which none is missing that may come.
func (l *Lab) withoutGap(ctx context.Context, horizon int64) (int64, error) {
	by, err := l.steps(ctx)
	if err != nil {
		return 0, err
	}
	gap, last := false, horizon
	err = l.each(ctx, "read the journal", "SELECT id FROM hostsched_events WHERE id > ? ORDER BY id", []any{horizon}, func(scan sqldb.Scanner) error {
		err := scan(&last)
		if gap = gap || !follows(horizon, last, by); !gap {
			horizon = last
		}
		return err
	})
	if gap {
		l.known.note(last, time.Now())
	}
	return horizon, err
}
