package store

import (
	"context"
	"fmt"
	"strconv"

	"github.com/hostsched/hostsched/scheduler"
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

// The kinds of events that a leader notes. Those of people are in internal/lab.
const (
	eventAssigned  = "host.assigned"
	eventReleased  = "host.released"
	eventMoved     = "host.moved"
	eventUnlocked  = "host.unlocked"
	eventDrained   = "host.drained"
	eventLocked    = "host.locked"
	eventAborted   = "entry.aborted"
	eventStarted   = "entry.started"
	eventStopped   = "entry.stopped"
	eventTakenOver = "shard.taken_over"
	eventTermEnded = "shard.term_ended"
)

// eventRows is how many events one INSERT has. Each has five parameters at most, and SQLite
// allows 32,766.
const eventRows = 2000

// Note writes events, many per statement, in the transaction that they tell of.
func (db *DB) Note(ctx context.Context, tx sqldb.Querier, events ...Event) error {
	return run(ctx, tx, noteEvents(db.Dialect, events))
}

// noteEvents are the statements that write events.
func noteEvents(d sqldb.Dialect, events []Event) (out []statement) {
	for len(events) > 0 {
		part := events[:min(len(events), eventRows)]
		events = events[len(part):]
		text := []byte("INSERT INTO hostsched_events (at, kind, shard, who, subject, reason, host_id, job_id, entry_id) VALUES ")
		var args []any
		for i, e := range part {
			if i > 0 {
				text = append(text, ", "...)
			}
			text = append(append(text, '('), d.NowMillis...)
			for _, said := range [...]string{e.Kind, e.Shard, e.Who, cut(e.Subject, 255), cut(e.Reason, 500)} {
				text, args = appendSaid(append(text, ", "...), args, said)
			}
			for _, id := range [...]int64{e.Host, e.Job, e.Entry} {
				text = append(append(text, ", "...), idOrNull(id)...)
			}
			text = append(text, ')')
		}
		out = add(out, -1, string(text), args...)
	}
	return out
}

// appendSaid writes a text into a statement: as it is if every server reads it so, as nearly
// all are, else as a parameter, which costs more.
func appendSaid(statement []byte, args []any, said string) ([]byte, []any) {
	for i := range len(said) {
		if c := said[i]; c < ' ' || c > '~' || c == '\'' || c == '\\' || c == '?' {
			return append(statement, '?'), append(args, said)
		}
	}
	return append(append(append(statement, '\''), said...), '\''), args
}

// cut shortens a text to so many characters.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// event is one of this leader's.
func (l *Leader) event(kind string, host scheduler.HostID, job scheduler.JobID, entry scheduler.EntryID, reason string) Event {
	return Event{Kind: kind, Shard: l.fence.Shard.String(), Who: l.fence.Holder, Host: int64(host), Job: int64(job), Entry: int64(entry), Reason: reason}
}

// note writes events if the leader keeps the journal.
func (l *Leader) note(ctx context.Context, tx sqldb.Querier, events ...Event) error {
	if !l.claim.Journal {
		return nil
	}
	return l.db.Note(ctx, tx, events...)
}

// noteHosts notes the same of many hosts.
func (l *Leader) noteHosts(ctx context.Context, tx sqldb.Querier, kind, reason string, hosts []int64) error {
	return l.note(ctx, tx, l.hostEvents(kind, reason, hosts)...)
}

func (l *Leader) hostEvents(kind, reason string, hosts []int64) []Event {
	events := make([]Event, len(hosts))
	for i, id := range hosts {
		events[i] = l.event(kind, scheduler.HostID(id), 0, 0, reason)
	}
	return events
}

// eventsOf are the events of a chunk of assignments, in queue order.
func (l *Leader) eventsOf(us []unit) (events []Event) {
	if !l.claim.Journal {
		return nil
	}
	events = make([]Event, 0, rows(us))
	for _, u := range us {
		for i := range u.assignments {
			as := &u.assignments[i]
			events = append(events, l.event(eventAssigned, as.Host, as.Job, as.Entry, whyAssigned(as)))
			if kind := eventOfStatus(as.Status); kind != "" {
				events = append(events, l.event(kind, as.Host, as.Job, as.Entry, ""))
			}
		}
		for _, c := range u.changes {
			events = append(events, l.event(eventOfStatus(c.Status), c.Host, c.Job, c.Entry, ""))
		}
	}
	return events
}

// eventOfStatus is what an entry's change to a status is called, empty if it only waits.
func eventOfStatus(status scheduler.EntryStatus) string {
	switch status {
	case scheduler.StatusStarting:
		return eventStarted
	case scheduler.StatusStopped:
		return eventStopped
	}
	return ""
}

// whyAssigned says why an entry got its host.
func whyAssigned(as *scheduler.Assignment) string {
	priority := "priority " + strconv.FormatInt(as.Priority, 10)
	if as.Priority == scheduler.NoPriority {
		priority = "no priority"
	}
	switch {
	case as.Round == scheduler.RoundNamed:
		return "it names the host"
	case as.Round == scheduler.RoundMinimum:
		return fmt.Sprintf("minimum of suite %d", as.Suite)
	case as.Suite != 0:
		return fmt.Sprintf("suite %d, %s", as.Suite, priority)
	}
	return priority
}
