package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// overdueAfter is how long a hold may last beyond its time before somebody should look: the
// leader ends holds with its ticks.
const overdueAfter = time.Minute

// Attention lists what somebody should look after in the database's half of the lab: hosts that
// the lab gave up, holds past their time, agents that nobody hears, jobs that can never run.
func (l *Lab) Attention(ctx context.Context) ([]labapi.Attention, error) {
	out := []labapi.Attention{}
	err := l.read(ctx, "look what needs attention", func(r *sqldb.Reader) { out = l.troubledHosts(r, out) })
	if err != nil {
		return nil, err
	}
	if out, err = l.lostAgents(ctx, out); err != nil {
		return nil, err
	}
	return l.hopelessJobs(ctx, out)
}

// troubledHosts are hosts that are held as bad, could not be repaired, or are held for longer
// than somebody wanted.
func (l *Lab) troubledHosts(r reader, out []labapi.Attention) []labapi.Attention {
	add := func(kind, query string, text func(sqldb.Row) string) {
		r.RowsOf(query+" LIMIT ?", []any{int64(shownAtMost)}, func(v sqldb.Row) {
			out = append(out, labapi.Attention{Kind: kind, Host: v.Text(0), Since: millisOf(v.Int(1)), Text: text(v)})
		})
	}
	add(labapi.AttentionBad, "SELECT h.hostname, b.bad_since, b.bad_reason FROM hostsched_host_epochs b JOIN afe_hosts h ON h.id = b.host_id WHERE h.invalid = 0 AND b.bad_since IS NOT NULL ORDER BY b.bad_since DESC",
		func(v sqldb.Row) string { return "The lab holds host " + v.Text(0) + " as bad: " + v.Text(2) })
	add(labapi.AttentionBroken, "SELECT h.hostname, NULL FROM afe_hosts h WHERE h.invalid = 0 AND h.locked = 0 AND h.status = 'Repair Failed' ORDER BY h.id",
		func(v sqldb.Row) string { return "Host " + v.Text(0) + " could not be repaired" })
	late := l.db.Dialect.NowMillis + fmt.Sprintf(" - %d", overdueAfter.Milliseconds())
	add(labapi.AttentionOverdue, "SELECT h.hostname, d.lock_until, h.lock_reason FROM hostsched_hosts d JOIN afe_hosts h ON h.id = d.host_id WHERE h.invalid = 0 AND h.locked = 1 AND "+store.SameLock+" AND d.lock_until < "+late+" ORDER BY d.lock_until",
		func(v sqldb.Row) string {
			return "Host " + v.Text(0) + " is still locked after the end of its lock: " + v.Text(2)
		})
	add(labapi.AttentionOverdue, "SELECT h.hostname, d.drain_deadline, d.drain_reason FROM hostsched_hosts d JOIN afe_hosts h ON h.id = d.host_id WHERE h.invalid = 0 AND d.drain_since IS NOT NULL AND d.drain_deadline < "+late+" ORDER BY d.drain_deadline",
		func(v sqldb.Row) string {
			return "Host " + v.Text(0) + " is still being drained after its deadline: " + v.Text(2)
		})
	return out
}

// lostAgents are agents that nobody hears although they did not say goodbye.
func (l *Lab) lostAgents(ctx context.Context, out []labapi.Attention) ([]labapi.Attention, error) {
	rows, err := l.agentRows(ctx, l.db.Pool, "a.revoked IS NULL AND a.session <> '' ORDER BY a.id")
	for i := range rows {
		if a := &rows[i]; a.State == labapi.AgentUnreachable && len(out) < 10*shownAtMost {
			out = append(out, labapi.Attention{Kind: labapi.AttentionUnreachable, Agent: a.Name, Since: a.Seen, Text: fmt.Sprintf("Agent %s is not heard; it serves %s and has %d runs", a.Name, hostsText(len(a.Hosts)), len(a.Runs))})
		}
	}
	return out, l.explain(err, "read the agents")
}

// hopelessJobs are jobs of which the planner says that waiting alone does not help.
func (l *Lab) hopelessJobs(ctx context.Context, out []labapi.Attention) ([]labapi.Attention, error) {
	groups, err := l.Queue(ctx)
	if err != nil {
		return nil, err
	}
	for i := range groups {
		g := &groups[i]
		if !g.Never || len(g.Jobs) == 0 {
			continue
		}
		text := fmt.Sprintf("Job %d can never run: %s", g.Jobs[0], g.Reason)
		if g.Entries > 1 {
			text = fmt.Sprintf("%d queue entries, the first of job %d, can never run: %s", g.Entries, g.Jobs[0], g.Reason)
		}
		out = append(out, labapi.Attention{Kind: labapi.AttentionNever, Job: g.Jobs[0], Shard: g.Shard, Text: text})
		if len(out) > 10*shownAtMost {
			break
		}
	}
	return out, nil
}

// Summary counts hosts by state, and queue entries.
func (l *Lab) Summary(ctx context.Context) (s labapi.Summary, err error) {
	if s.Hosts, _, err = l.HostStates(ctx); err != nil {
		return s, err
	}
	err = l.read(ctx, "count the queue", func(r *sqldb.Reader) {
		r.RowsOf("SELECT q.active, COUNT(*), MAX("+l.db.Dialect.Age("j.created_on")+") FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id WHERE q.complete = 0 AND (q.active = 1 OR q.status = 'Queued') GROUP BY q.active", nil, func(v sqldb.Row) {
			active := v.Int(0)
			if active.N != 0 {
				s.Active = int(v.Int(1).N)
				return
			}
			s.Waiting, s.OldestWait = int(v.Int(1).N), float64(max(v.Int(2).N, 0))
		})
	})
	return s, err
}
