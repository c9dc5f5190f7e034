package simlab

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// History records, inside the database, every time an entry takes a host or
// gives it back, and every lease and release. It is written by triggers: every
// commit of every process is in it, whoever made it.
type History struct {
	// Requeues means that entries may be queued again, as by agents whose pre-job task
	// failed: such an entry takes a host again after it gave one back.
	Requeues bool

	db *sql.DB
}

// Events of the history.
const (
	eventTake    = "take"    // an entry became active with a host
	eventGive    = "give"    // an active entry ended
	eventMove    = "move"    // an active entry changed its host
	eventLease   = "lease"   // a host became leased
	eventRelease = "release" // a host became unleased
)

// trigger is a condition on an update of a table and the event it records.
type trigger struct{ table, event, when, host, entry string }

var triggers = []trigger{
	{"afe_host_queue_entries", eventTake, "NEW.active = 1 AND OLD.active = 0 AND NEW.host_id IS NOT NULL", "NEW.host_id", "NEW.id"},
	{"afe_host_queue_entries", eventGive, "NEW.active = 0 AND OLD.active = 1 AND OLD.host_id IS NOT NULL", "OLD.host_id", "NEW.id"},
	{"afe_host_queue_entries", eventMove, "NEW.active = 1 AND OLD.active = 1 AND COALESCE(NEW.host_id, 0) <> COALESCE(OLD.host_id, 0)", "COALESCE(NEW.host_id, 0)", "NEW.id"},
	{"afe_hosts", eventLease, "NEW.leased = 1 AND OLD.leased = 0", "NEW.id", "0"},
	{"afe_hosts", eventRelease, "NEW.leased = 0 AND OLD.leased = 1", "NEW.id", "0"},
}

// InstallHistory creates the history table and its triggers.
func InstallHistory(ctx context.Context, db *sql.DB, sqlite bool) (*History, error) {
	key := "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY"
	if sqlite {
		key = "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"
	}
	texts := []string{
		"CREATE TABLE lab_history (id " + key + ", event VARCHAR(8) NOT NULL, host_id INTEGER NOT NULL, entry_id INTEGER NOT NULL)",
		"CREATE INDEX lab_history_host ON lab_history (host_id, id)",
		"CREATE INDEX lab_history_event ON lab_history (event)",
		"CREATE INDEX lab_history_entry ON lab_history (entry_id, id)",
	}
	for _, t := range triggers {
		texts = append(texts, t.create(sqlite))
	}
	for _, text := range texts {
		if _, err := db.ExecContext(ctx, text); err != nil {
			return nil, fmt.Errorf("install the history: %w", err)
		}
	}
	return &History{db: db}, nil
}

func (t trigger) create(sqlite bool) string {
	name := "lab_history_" + t.event
	insert := fmt.Sprintf("INSERT INTO lab_history (event, host_id, entry_id) VALUES ('%s', %s, %s)", t.event, t.host, t.entry)
	if sqlite {
		return fmt.Sprintf("CREATE TRIGGER %s AFTER UPDATE ON %s WHEN %s BEGIN %s; END", name, t.table, t.when, insert)
	}
	return fmt.Sprintf("CREATE TRIGGER %s AFTER UPDATE ON %s FOR EACH ROW IF %s THEN %s; END IF", name, t.table, t.when, insert)
}

// Counts are totals over the whole history.
type Counts struct {
	Assignments, Releases int64
	// Last is the id of the latest event counted.
	Last int64
}

// Count adds the events after from.Last to from.
func (h *History) Count(ctx context.Context, from Counts) (Counts, error) {
	var takes, releases, last sql.NullInt64
	err := h.db.QueryRowContext(ctx, "SELECT SUM(CASE WHEN event = 'take' THEN 1 ELSE 0 END), SUM(CASE WHEN event = 'release' THEN 1 ELSE 0 END), MAX(id) FROM lab_history WHERE id > ?", from.Last).
		Scan(&takes, &releases, &last)
	from.Assignments += takes.Int64
	from.Releases += releases.Int64
	from.Last = max(from.Last, last.Int64)
	return from, err
}

// check is a statement that counts violations. Those with a parameter look only at events
// after it.
type check struct {
	since bool
	query string
}

// twice are the checks of every lab.
var twice = []check{
	// A host was taken while the entry that took it before still had it.
	{true, `SELECT COUNT(*) FROM lab_history e WHERE e.id > ? AND e.event = 'take' AND 'take' = (
	   SELECT p.event FROM lab_history p WHERE p.host_id = e.host_id AND p.id < e.id AND p.event IN ('take', 'give') ORDER BY p.id DESC LIMIT 1)`},
	// An active entry was moved to another host.
	{true, "SELECT COUNT(*) FROM lab_history e WHERE e.id > ? AND e.event = 'move'"},
	// Two active entries have one host at this moment.
	{false, "SELECT COUNT(*) FROM (SELECT host_id FROM afe_host_queue_entries WHERE active = 1 AND complete = 0 AND host_id IS NOT NULL GROUP BY host_id HAVING COUNT(*) > 1) d"},
}

// again are entries that took a host more than once, where none is queued again.
var again = check{true, `SELECT COUNT(*) FROM lab_history e WHERE e.id > ? AND e.event = 'take' AND EXISTS (
	SELECT 1 FROM lab_history p WHERE p.entry_id = e.entry_id AND p.id < e.id AND p.event = 'take')`}

// takesTwo are entries that took a host while they had one.
var takesTwo = check{true, `SELECT COUNT(*) FROM lab_history e WHERE e.id > ? AND e.event = 'take' AND 'take' = (
	SELECT p.event FROM lab_history p WHERE p.entry_id = e.entry_id AND p.id < e.id AND p.event IN ('take', 'give') ORDER BY p.id DESC LIMIT 1)`}

// AssignedTwice counts double assignments after the event since, from what the
// database recorded; 0 looks at everything.
func (h *History) AssignedTwice(ctx context.Context, since int64) (int64, error) {
	var total int64
	checks := append(slices.Clone(twice), again)
	if h.Requeues {
		checks[len(checks)-1] = takesTwo
	}
	for _, check := range checks {
		var args []any
		if check.since {
			args = []any{since}
		}
		var n int64
		if err := h.db.QueryRowContext(ctx, check.query, args...).Scan(&n); err != nil {
			return 0, fmt.Errorf("count double assignments: %w", err)
		}
		total += n
	}
	return total, nil
}

// Suite is one suite's place in the queue.
type Suite struct {
	Job           int64
	Name          string
	Priority      int
	Minimum, Held int
	Waiting       int
}

// BelowMinimum counts suites that hold fewer hosts than they are guaranteed. A
// suite holds a host from the assignment to the release.
func BelowMinimum(suites []Suite) int {
	n := 0
	for _, s := range suites {
		if s.Waiting > 0 && s.Held < s.Minimum {
			n++
		}
	}
	return n
}

// Suites returns the suites with waiting entries, most entries first.
func (h *History) Suites(ctx context.Context) ([]Suite, error) {
	var out []Suite
	err := Each(ctx, h.db, strings.ReplaceAll(`
SELECT w.suite, s.name, s.priority, w.n,
  COALESCE((SELECT MAX(k.value) FROM afe_job_keyvals k WHERE k.job_id = w.suite AND k.@key@ = 'suite_min_duts'), '0'),
  COALESCE(held.n, 0)
FROM (SELECT j.parent_job_id AS suite, COUNT(*) AS n FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id
      WHERE q.status = 'Queued' AND q.active = 0 AND q.complete = 0 AND j.parent_job_id IS NOT NULL GROUP BY j.parent_job_id) w
JOIN afe_jobs s ON s.id = w.suite
LEFT JOIN (SELECT j.parent_job_id AS suite, COUNT(*) AS n
      FROM (SELECT MAX(e.id) AS id FROM lab_history e JOIN afe_hosts h ON h.id = e.host_id WHERE h.leased = 1 AND e.event = 'take' GROUP BY e.host_id) latest
      JOIN lab_history e ON e.id = latest.id
      JOIN afe_host_queue_entries q ON q.id = e.entry_id JOIN afe_jobs j ON j.id = q.job_id GROUP BY j.parent_job_id) held ON held.suite = w.suite
ORDER BY w.n DESC, w.suite`, "@key@", "`key`"), func(rows *sql.Rows) error {
		var s Suite
		err := rows.Scan(&s.Job, &s.Name, &s.Priority, &s.Waiting, &s.Minimum, &s.Held)
		out = append(out, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list suites: %w", err)
	}
	return out, nil
}
