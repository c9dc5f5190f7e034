package lab

import (
	"context"
	"strings"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// band is a range of numbers with a name.
type band struct {
	below int64 // what is not in a band before, and below this; the last band has no end
	name  string
}

// The bands by which entries that wait are counted.
var (
	priorityBands = []band{{20, "under 20"}, {40, "20-39"}, {60, "40-59"}, {80, "60-79"}, {0, "80 and above"}}
	ageBands      = []band{{60, "under 1m"}, {600, "1m-10m"}, {3600, "10m-1h"}, {86400, "1h-1d"}, {0, "1d and above"}}
)

// nameOf is an expression for the name of the band in which another one is.
func nameOf(bands []band, expression string) (text string, args []any) {
	last := len(bands) - 1
	var b strings.Builder
	b.WriteString("CASE")
	for _, next := range bands[:last] {
		b.WriteString(" WHEN " + expression + " < ? THEN ?")
		args = append(args, next.below, next.name)
	}
	return b.String() + " ELSE ? END", append(args, bands[last].name)
}

// Waiting is a group of queue entries.
type Waiting struct{ Priority, Age string }

// WaitingEntries counts the queue entries that wait for a host, by bands of the priority and
// the age of their jobs. Each band is there, also if nothing is in it.
func (l *Lab) WaitingEntries(ctx context.Context) (map[Waiting]int, error) {
	counts := map[Waiting]int{}
	for _, p := range priorityBands {
		for _, a := range ageBands {
			counts[Waiting{p.name, a.name}] = 0
		}
	}
	priority, args := nameOf(priorityBands, "j.priority")
	age, ages := nameOf(ageBands, l.db.Dialect.Age("j.created_on"))
	err := l.read(ctx, "count the entries that wait", func(r *sqldb.Reader) {
		r.RowsOf("SELECT w.priority, w.age, COUNT(*) FROM (SELECT "+priority+" AS priority, "+age+" AS age FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id WHERE "+queued+") w GROUP BY w.priority, w.age",
			append(args, ages...), func(v sqldb.Row) { counts[Waiting{v.Text(0), v.Text(1)}] = int(v.Int(2).N) })
	})
	return counts, err
}

// Holding is a kind of hold.
type Holding struct {
	Kind    string
	Overdue bool
}

// Holds counts the holds of hosts. A host may have several.
func (l *Lab) Holds(ctx context.Context) (map[Holding]int, error) {
	counts := map[Holding]int{{"lock", false}: 0, {"lock", true}: 0, {"drain", false}: 0, {"drain", true}: 0, {"bad", false}: 0}
	now := l.db.Dialect.NowMillis
	overdue := func(condition string) string { return "CASE WHEN " + condition + " <= " + now + " THEN 1 ELSE 0 END" }
	const hosts = " FROM afe_hosts h LEFT JOIN hostsched_hosts d ON d.host_id = h.id WHERE h.invalid = 0 AND "
	err := l.read(ctx, "count the holds of hosts", func(r *sqldb.Reader) {
		count := func(kind, query string) {
			r.RowsOf(query, nil, func(v sqldb.Row) { counts[Holding{kind, v.Int(0).N != 0}] += int(v.Int(1).N) })
		}
		count("lock", "SELECT "+overdue(store.SameLock+" AND d.lock_until")+" AS overdue, COUNT(*)"+hosts+"h.locked <> 0 GROUP BY overdue")
		count("drain", "SELECT "+overdue("d.drain_deadline")+" AS overdue, COUNT(*)"+hosts+"d.drain_since IS NOT NULL GROUP BY overdue")
		count("bad", "SELECT 0, COUNT(*) FROM afe_hosts h JOIN hostsched_host_epochs b ON b.host_id = h.id WHERE h.invalid = 0 AND b.bad_since IS NOT NULL")
	})
	return counts, err
}

// Failovers counts the terms of each shard that were lost and not handed over.
func (l *Lab) Failovers(ctx context.Context) (map[shard.Name]int, error) {
	histories, err := l.db.Histories(ctx)
	counts := map[shard.Name]int{}
	for name, h := range histories {
		counts[name] = h.Failovers
	}
	return counts, err
}

// Guarded tells whether the database refuses a second active entry for a host.
func (l *Lab) Guarded(ctx context.Context) (bool, error) { return schema.HasGuard(ctx, l.db.DB) }
