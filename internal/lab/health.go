package lab

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

const (
	// healthDays is how far back the health of a host is told.
	healthDays = 30
	// healthEntries bounds what is compared of other hosts to the latest queue entries of the
	// lab: those of thirty days may be millions.
	healthEntries = int64(200_000)
	// healthRows bounds what is read of one host.
	healthRows = int64(20_000)
)

// span is a time in which something was the matter with a host.
type span struct {
	state    string
	from, to int64 // seconds since 1970
}

// HostHealth says what became of the work of a host in the last days, hour by hour, and how
// that compares with other hosts that carry its labels.
func (l *Lab) HostHealth(ctx context.Context, hostname string) (labapi.HostHealth, error) {
	host, _, err := l.Host(ctx, hostname)
	if err != nil {
		return labapi.HostHealth{}, err
	}
	now, err := l.now(ctx)
	if err != nil {
		return labapi.HostHealth{}, err
	}
	out := labapi.HostHealth{Hostname: host.Hostname, From: now.Add(-healthDays * 24 * time.Hour).Truncate(time.Hour), To: now, Peers: []labapi.HealthPeers{}}
	var spans []span
	err = l.read(ctx, "read the health of host "+host.Hostname, func(r *sqldb.Reader) {
		spans = slices.Concat(l.jobSpans(r, &host, &out), l.taskSpans(r, &host, &out), l.holdSpans(r, &host, &out))
		r.RowsOf("SELECT COUNT(*) FROM hostsched_run_hosts x JOIN hostsched_runs r ON r.id = x.run_id WHERE x.host_id = ? AND r.state = 'lost' AND r.claimed >= ?", []any{host.ID, out.From.UnixMilli()}, func(v sqldb.Row) { out.Lost = int(v.Int(0).N) })
		l.addPeers(r, &host, &out)
	})
	out.Hours = hoursOf(spans, out.From, out.To)
	return out, err
}

// spanOf reads a span from a row that begins with when it began and when it ended, which it has
// not if that is NULL. What ended before the days that are told of is not told.
func spanOf(v sqldb.Row, state string, out *labapi.HostHealth) (s span, told bool) {
	s = span{state, v.Int(0).N, out.To.Unix()}
	if ended := v.Int(1); ended.Valid {
		s.to = ended.N
	}
	return s, s.to >= out.From.Unix()
}

// jobSpans are the queue entries that ran on a host.
func (l *Lab) jobSpans(r reader, host *labapi.Host, out *labapi.HostHealth) (spans []span) {
	unix := l.db.Dialect.Unix
	query := "SELECT " + unix("q.started_on") + ", " + unix("q.finished_on") + ", q.status, q.aborted, q.complete FROM afe_host_queue_entries q WHERE q.host_id = ? AND q.started_on IS NOT NULL ORDER BY q.id DESC LIMIT ?"
	r.RowsOf(query, []any{host.ID, healthRows}, func(v sqldb.Row) {
		status, aborted, complete := v.Text(2), v.Int(3), v.Int(4)
		s, told := spanOf(v, labapi.HourPassed, out)
		if !told {
			return
		}
		failed := status == "Failed" || status == "Stopped"
		if failed {
			s.state = labapi.HourFailed
		}
		if complete.N != 0 && aborted.N == 0 {
			out.Finished++
			if failed {
				out.Failed++
			}
		}
		spans = append(spans, s)
	})
	return spans
}

// taskSpans are the special tasks of a host. After a repair that failed it is broken until the
// next task begins, but that is told by its status and by the tasks themselves.
func (l *Lab) taskSpans(r reader, host *labapi.Host, out *labapi.HostHealth) (spans []span) {
	unix := l.db.Dialect.Unix
	query := "SELECT " + unix("t.time_started") + ", " + unix("t.time_finished") + ", t.task, t.success, t.is_complete FROM afe_special_tasks t WHERE t.host_id = ? AND t.time_started IS NOT NULL ORDER BY t.id DESC LIMIT ?"
	r.RowsOf(query, []any{host.ID, healthRows}, func(v sqldb.Row) {
		task, success, complete := v.Text(2), v.Int(3), v.Int(4)
		s, told := spanOf(v, labapi.HourTask, out)
		if !told {
			return
		}
		if task == "Repair" {
			out.Repairs++
			if complete.N != 0 && success.N == 0 {
				s.state = labapi.HourBroken
			}
		}
		spans = append(spans, s)
	})
	return spans
}

// holdSpans are the times in which nobody new got a host, by the journal.
func (l *Lab) holdSpans(r reader, host *labapi.Host, out *labapi.HostHealth) (spans []span) {
	begun := map[string]int64{}
	begins := map[string]string{"host.locked": "host.unlocked", "host.drain_begun": "host.drain_ended", "host.bad": "host.unlocked"}
	query := "SELECT e.kind, e.at FROM hostsched_events e WHERE e.host_id = ? AND e.at >= ? AND e.kind IN ('host.locked', 'host.unlocked', 'host.drain_begun', 'host.drain_ended', 'host.drained', 'host.bad') ORDER BY e.id LIMIT ?"
	r.RowsOf(query, []any{host.ID, out.From.UnixMilli(), healthRows}, func(v sqldb.Row) {
		kind, at := v.Text(0), v.Int(1).N/1000
		if kind == "host.drained" {
			kind = "host.drain_ended" // what follows is a lock
			begun["host.unlocked"] = cmp.Or(begun["host.unlocked"], at)
		}
		if end := begins[kind]; end != "" {
			begun[end] = cmp.Or(begun[end], at)
			return
		}
		spans = append(spans, span{labapi.HourHeld, cmp.Or(begun[kind], out.From.Unix()), at})
		delete(begun, kind)
	})
	// What holds it now may be older than the journal.
	for _, since := range heldSince(host) {
		from := out.From.Unix()
		if since != nil {
			from = max(from, since.Unix())
		}
		spans = append(spans, span{labapi.HourHeld, from, out.To.Unix()})
	}
	return spans
}

func heldSince(host *labapi.Host) (out []*time.Time) {
	if host.Lock != nil {
		out = append(out, host.Lock.Since)
	}
	if host.Drain != nil {
		out = append(out, host.Drain.Since)
	}
	if host.Bad != nil {
		out = append(out, host.Bad.Since)
	}
	return out
}

// addPeers counts what ended on the other hosts with each label of a host.
func (l *Lab) addPeers(r reader, host *labapi.Host, out *labapi.HostHealth) {
	if len(host.Labels) == 0 {
		return
	}
	labels := host.Labels[:min(len(host.Labels), shownAtMost)]
	condition, args := " AND l.name IN ("+marks(len(labels))+")", l.carriedArgs(texts(labels))
	query := "SELECT c.name, COUNT(DISTINCT q.host_id), COUNT(*), SUM(CASE WHEN q.status IN ('Failed', 'Stopped') THEN 1 ELSE 0 END) FROM (" + l.carried(condition) + ") c JOIN afe_host_queue_entries q ON q.host_id = c.host_id" +
		" WHERE q.host_id <> ? AND q.complete = 1 AND q.aborted = 0 AND q.started_on IS NOT NULL AND q.id > (SELECT COALESCE(MAX(m.id), 0) FROM afe_host_queue_entries m) - ?" +
		" AND " + l.db.Dialect.Age("q.started_on") + " < ? GROUP BY c.name ORDER BY c.name"
	r.RowsOf(query, append(args, host.ID, healthEntries, int64(healthDays*24*3600)), func(v sqldb.Row) {
		out.Peers = append(out.Peers, labapi.HealthPeers{Label: v.Text(0), Hosts: int(v.Int(1).N), HealthCounts: labapi.HealthCounts{Finished: int(v.Int(2).N), Failed: int(v.Int(3).N)}})
	})
}

// gravest are the states of an hour in the order in which they count.
var gravest = []string{labapi.HourBroken, labapi.HourFailed, labapi.HourHeld, labapi.HourPassed, labapi.HourTask}

// hoursOf tells of each hour what was the gravest that happened in it.
func hoursOf(spans []span, from, to time.Time) []labapi.HealthHour {
	const hour = int64(3600)
	first, last := from.Unix()/hour, to.Unix()/hour
	states := map[int64]int{}
	for _, s := range spans {
		rank := slices.Index(gravest, s.state)
		for h := max(first, s.from/hour); h <= min(last, s.to/hour); h++ {
			if known, ok := states[h]; !ok || rank < known {
				states[h] = rank
			}
		}
	}
	out := []labapi.HealthHour{}
	for h := first; h <= last; h++ {
		if rank, ok := states[h]; ok {
			out = append(out, labapi.HealthHour{At: time.Unix(h*hour, 0).UTC(), State: gravest[rank]})
		}
	}
	return out
}
