package lab

import (
	"context"
	"fmt"
	"slices"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// carried are the hosts with the names of the labels that they carry, as rows host_id, name.
func (l *Lab) carried(condition string) string {
	text := "SELECT x.host_id, l.name FROM afe_hosts_labels x JOIN afe_labels l ON l.id = x.label_id WHERE l.invalid = 0" + condition
	if !l.static() {
		return text
	}
	return text + notReplaced + " UNION ALL SELECT x.host_id, l.name FROM afe_static_hosts_labels x JOIN afe_static_labels l ON l.id = x.staticlabel_id WHERE l.invalid = 0" + condition
}

// carriedArgs are the arguments of carried for those of its condition, which it may have twice.
func (l *Lab) carriedArgs(args []any) []any {
	if l.static() {
		return slices.Concat(args, args)
	}
	return slices.Clip(args)
}

// stateOfHost counts a host once: held before broken before running before idle.
const stateOfHost = "CASE WHEN h.locked <> 0 OR d.drain_since IS NOT NULL OR EXISTS (SELECT 1 FROM hostsched_host_epochs b WHERE b.host_id = h.id AND b.bad_since IS NOT NULL) THEN 'held' WHEN h.status IN ('Repair Failed', 'Repairing') THEN 'broken' WHEN h.leased <> 0 THEN 'running' ELSE 'idle' END"

// queued are the queue entries that wait for a host, and waits those that wait for any host.
const (
	queued = "q.status = 'Queued' AND q.active = 0 AND q.complete = 0 AND q.aborted = 0"
	waits  = queued + " AND q.host_id IS NULL"
)

// Pools says of every label, or of one, how many hosts carry it and what they do, and what
// waits for them.
func (l *Lab) Pools(ctx context.Context, label string) ([]labapi.Pool, error) {
	byName := map[string]*labapi.Pool{}
	var order []string
	condition, args := "", []any(nil)
	if label != "" {
		condition, args = " AND l.name = ?", []any{label}
	}
	add := func(name string) *labapi.Pool {
		if p := byName[name]; p != nil {
			return p
		}
		order = append(order, name)
		byName[name] = &labapi.Pool{Label: name}
		return byName[name]
	}
	err := l.read(ctx, "count the hosts of labels", func(r *sqldb.Reader) {
		r.RowsOf("SELECT l.name FROM afe_labels l WHERE l.invalid = 0"+condition+" ORDER BY l.name", args, func(v sqldb.Row) { add(v.Text(0)) })
		r.RowsOf("SELECT c.name, s.state, COUNT(*) FROM ("+l.carried(condition)+") c JOIN (SELECT h.id, "+stateOfHost+" AS state FROM afe_hosts h LEFT JOIN hostsched_hosts d ON d.host_id = h.id WHERE h.invalid = 0) s ON s.id = c.host_id GROUP BY c.name, s.state ORDER BY c.name", l.carriedArgs(args), func(v sqldb.Row) {
			p, n := add(v.Text(0)), int(v.Int(2).N)
			p.Have += n
			switch v.Text(1) {
			case "held":
				p.Held = n
			case "broken":
				p.Broken = n
			case "running":
				p.Running = n
			default:
				p.Idle = n
			}
		})
		// An entry that asks for a label twice, by its job and as meta_host, counts once.
		asked := "SELECT q.id AS entry, q.job_id, d.label_id FROM afe_host_queue_entries q JOIN afe_jobs_dependency_labels d ON d.job_id = q.job_id WHERE " + waits +
			" UNION SELECT q.id, q.job_id, q.meta_host FROM afe_host_queue_entries q WHERE " + waits + " AND q.meta_host IS NOT NULL"
		r.RowsOf("SELECT l.name, COUNT(*), MAX("+l.db.Dialect.Age("j.created_on")+") FROM ("+asked+") a JOIN afe_labels l ON l.id = a.label_id JOIN afe_jobs j ON j.id = a.job_id WHERE l.invalid = 0"+condition+" GROUP BY l.name ORDER BY l.name", args, func(v sqldb.Row) {
			p := add(v.Text(0))
			p.Waiting, p.OldestWait = int(v.Int(1).N), float64(max(v.Int(2).N, 0))
		})
	})
	if err == nil && label != "" && len(order) == 0 {
		err = fmt.Errorf("%w: there is no label %q", ErrNotFound, shortened(label))
	}
	out := make([]labapi.Pool, len(order))
	for i, name := range order {
		out[i] = *byName[name]
	}
	return out, err
}

// HostStates are the numbers of hosts by state, as pools tell them apart, and how many the
// lab holds as bad by itself.
func (l *Lab) HostStates(ctx context.Context) (states map[string]int, bad int, err error) {
	states = map[string]int{"idle": 0, "running": 0, "held": 0, "broken": 0}
	err = l.read(ctx, "count the hosts of the lab", func(r *sqldb.Reader) {
		r.RowsOf("SELECT "+stateOfHost+" AS state, COUNT(*) FROM afe_hosts h LEFT JOIN hostsched_hosts d ON d.host_id = h.id WHERE h.invalid = 0 GROUP BY state", nil, func(v sqldb.Row) {
			states[v.Text(0)] = int(v.Int(1).N)
		})
		r.RowsOf("SELECT COUNT(*) FROM hostsched_host_epochs WHERE bad_since IS NOT NULL", nil, func(v sqldb.Row) { bad = int(v.Int(0).N) })
	})
	return states, bad, err
}
