package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/shard"
)

// micros is the present moment by the database's clock, in microseconds, and
// statementMicros the beginning of the statement.
const (
	micros          = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"
	statementMicros = "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"
)

// historyTexts record
//
//   - every fenced write with its epoch;
//   - every assignment with the epoch that the fence had when the connection
//     updated it, which begins each transaction of a leader, and with the epoch that
//     the fence has at the moment of the assignment;
//   - every end of an assignment, and every change of the host of an active entry;
//   - every entry that was inserted or deleted.
//
// began and at are the beginning of the statement and the moment at which the row
// was changed, under its lock. Events are ordered by that moment: all servers of a
// cluster have the same clock, but each numbers the events in a way of its own.
var historyTexts = []string{
	"CREATE TABLE chaos_fence (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, shard VARCHAR(190) NOT NULL, lane INTEGER NOT NULL, epoch BIGINT NOT NULL, at BIGINT NOT NULL, KEY chaos_fence_shard (shard, epoch, at))",
	"CREATE TABLE chaos_events (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, event VARCHAR(8) NOT NULL, host_id BIGINT NOT NULL, entry_id BIGINT NOT NULL, shard VARCHAR(190), epoch BIGINT, current_epoch BIGINT, began BIGINT NOT NULL, at BIGINT NOT NULL, KEY chaos_events_entry (entry_id, event), KEY chaos_events_at (at))",
	"CREATE TRIGGER chaos_fence_write AFTER UPDATE ON hostsched_fence FOR EACH ROW IF NEW.ticks <> OLD.ticks THEN SET @chaos_shard = NEW.shard, @chaos_lane = NEW.lane, @chaos_epoch = NEW.epoch; " +
		"INSERT INTO chaos_fence (shard, lane, epoch, at) VALUES (NEW.shard, NEW.lane, NEW.epoch, " + micros + "); END IF",
	"CREATE TRIGGER chaos_take AFTER UPDATE ON afe_host_queue_entries FOR EACH ROW IF NEW.active = 1 AND OLD.active = 0 AND NEW.host_id IS NOT NULL THEN " +
		"INSERT INTO chaos_events (event, host_id, entry_id, shard, epoch, current_epoch, began, at) VALUES ('take', NEW.host_id, NEW.id, @chaos_shard, @chaos_epoch, " +
		"(SELECT epoch FROM hostsched_fence f WHERE f.shard = @chaos_shard AND f.lane = @chaos_lane), " + statementMicros + ", " + micros + "); END IF",
	"CREATE TRIGGER chaos_give AFTER UPDATE ON afe_host_queue_entries FOR EACH ROW IF NEW.active = 0 AND OLD.active = 1 AND OLD.host_id IS NOT NULL THEN " +
		"INSERT INTO chaos_events (event, host_id, entry_id, began, at) VALUES ('give', OLD.host_id, NEW.id, " + statementMicros + ", " + micros + "); END IF",
	"CREATE TRIGGER chaos_move AFTER UPDATE ON afe_host_queue_entries FOR EACH ROW IF NEW.active = 1 AND OLD.active = 1 AND COALESCE(NEW.host_id, 0) <> COALESCE(OLD.host_id, 0) THEN " +
		"INSERT INTO chaos_events (event, host_id, entry_id, began, at) VALUES ('move', COALESCE(NEW.host_id, 0), NEW.id, " + statementMicros + ", " + micros + "); END IF",
	"CREATE TRIGGER chaos_insert AFTER INSERT ON afe_host_queue_entries FOR EACH ROW INSERT INTO chaos_events (event, host_id, entry_id, began, at) VALUES ('insert', 0, NEW.id, 0, 0)",
	"CREATE TRIGGER chaos_delete AFTER DELETE ON afe_host_queue_entries FOR EACH ROW INSERT INTO chaos_events (event, host_id, entry_id, began, at) VALUES ('delete', 0, OLD.id, 0, 0)",
}

// twiceQueries count double assignments after a moment.
var twiceQueries = []string{
	// A host was taken while the entry that took it before still had it.
	`SELECT COUNT(*) FROM (SELECT event, LAG(event) OVER (PARTITION BY host_id ORDER BY at, id) AS former
	   FROM chaos_events WHERE event IN ('take', 'give') AND at > ?) w WHERE event = 'take' AND former = 'take'`,
	// An active entry was moved to another host.
	"SELECT COUNT(*) FROM chaos_events WHERE event = 'move' AND at > ?",
	// Two active entries have one host at this moment.
	`SELECT COUNT(*) FROM (SELECT host_id FROM afe_host_queue_entries WHERE active = 1 AND complete = 0 AND host_id IS NOT NULL AND ? >= 0
	   GROUP BY host_id HAVING COUNT(*) > 1) w`,
}

// onceQuery counts entries that took a host more than once. Only where runs are lost and tasks
// fail do entries wait again.
const onceQuery = "SELECT COUNT(*) FROM (SELECT entry_id FROM chaos_events WHERE event = 'take' AND at > ? GROUP BY entry_id HAVING COUNT(*) > 1) w"

func (c *chaos) assignedTwice(ctx context.Context, since int64) (total int64, err error) {
	queries := twiceQueries
	if !c.o.runs {
		queries = append(slices.Clone(queries), onceQuery)
	}
	for _, query := range queries {
		n, err := c.number(ctx, query, since)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (c *chaos) installHistory(ctx context.Context) error { return c.exec(ctx, historyTexts...) }

const (
	// An assignment was written without the fence, or under an epoch that was over.
	formerQuery = "SELECT COUNT(*) FROM chaos_events WHERE event = 'take' AND (epoch IS NULL OR current_epoch IS NULL OR epoch <> current_epoch)"
	// An entry is gone that nobody deleted, or its assignment is gone and it never
	// ended.
	lostQuery = `SELECT (SELECT COUNT(*) FROM chaos_events i WHERE i.event = 'insert'
	   AND NOT EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.id = i.entry_id)
	   AND NOT EXISTS (SELECT 1 FROM chaos_events d WHERE d.event = 'delete' AND d.entry_id = i.entry_id))
	 + (SELECT COUNT(*) FROM chaos_events t JOIN afe_host_queue_entries q ON q.id = t.entry_id WHERE t.event = 'take' AND q.active = 0 AND q.complete = 0)`
	// The first fenced write of a later epoch than a leader's that was killed.
	successorQuery = "SELECT MIN(at) FROM chaos_fence WHERE shard = ? AND epoch > ? AND at > ?"
)

// interleaved counts fenced writes that came after one of a later epoch of the same shard.
// Servers take hours for a running maximum over the history of a long run.
func (c *chaos) interleaved(ctx context.Context) (n int64, err error) {
	best := map[string]int64{}
	err = simlab.Each(ctx, c.db.SQL(), "SELECT shard, epoch FROM chaos_fence ORDER BY at, id", func(rows *sql.Rows) error {
		var name string
		var epoch int64
		err := rows.Scan(&name, &epoch)
		if epoch < best[name] {
			n++
		}
		best[name] = max(best[name], epoch)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read the writes of leaders: %w", err)
	}
	return n, nil
}

// judgeTimeout bounds the queries over a whole history.
const judgeTimeout = 2 * time.Minute

// recorded is one event of the history, as the second method needs it.
type recorded struct {
	take        bool
	host, entry int64
	shard       shard.Name
	epoch       int64
	began, at   int64
}

func (c *chaos) recorded(ctx context.Context) (out []recorded, err error) {
	err = simlab.Each(ctx, c.db.SQL(), "SELECT event, host_id, entry_id, shard, epoch, began, at FROM chaos_events WHERE event IN ('take', 'give') ORDER BY at, id", func(rows *sql.Rows) error {
		var event string
		var name sql.NullString
		var epoch sql.NullInt64
		var e recorded
		err := rows.Scan(&event, &e.host, &e.entry, &name, &epoch, &e.began, &e.at)
		e.take, e.shard, e.epoch = event == "take", shard.Name(name.String), epoch.Int64
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	return out, nil
}
