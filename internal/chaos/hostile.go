package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// hostile is a client of the database that changes under the scheduler's hands what
// any client can change. What would keep entries from running for good, it undoes
// when it is asked to.
type hostile struct {
	c   *chaos
	rng *rand.Rand

	mu sync.Mutex // while it acts, and while it is quiet
	// strayed are the hosts that it gave to other shards, labels those that it took
	// from hosts: host and label. returned are those that were given back last.
	strayed  []int64
	returned []int64
	labels   [][2]int64
	actions  int
	quiet    bool
}

// hostilePause is the time between two actions, on average.
const hostilePause = time.Second

func newHostile(c *chaos) *hostile {
	return &hostile{c: c, rng: rand.New(rand.NewPCG(c.o.seed, 3))}
}

func (h *hostile) run(ctx context.Context) error {
	deeds := []func(context.Context) error{
		h.abort, h.clearLease, h.lockHost, h.unlockHost, h.deleteJob, h.breakHost, h.changePriority, h.takeLabel, h.giveLabels, h.moveHost, h.moveLabel, h.lockRow,
	}
	for ctx.Err() == nil {
		sleep(ctx, time.Duration(h.rng.Int64N(int64(2*hostilePause))))
		h.act(ctx, deeds[h.rng.IntN(len(deeds))])
	}
	return nil
}

// act does one deed. It may fail, as the database is disturbed, too.
func (h *hostile) act(ctx context.Context, deed func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.quiet {
		return
	}
	bound, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if deed(bound) == nil {
		h.actions++
	}
}

// host draws a host.
func (h *hostile) host() int { return 1 + h.rng.IntN(labSpec.Hosts) }

func (h *hostile) exec(ctx context.Context, text string, args ...any) error {
	_, err := h.c.db.SQL().ExecContext(ctx, text, args...)
	return err
}

// entry draws an entry that has not ended.
func (h *hostile) entry(ctx context.Context, more string) (id, job int64, err error) {
	err = h.c.db.SQL().QueryRowContext(ctx, "SELECT id, job_id FROM afe_host_queue_entries WHERE complete = 0"+more+" ORDER BY id LIMIT 1 OFFSET ?", h.rng.IntN(100)).Scan(&id, &job)
	return id, job, err
}

func (h *hostile) abort(ctx context.Context) error {
	id, _, err := h.entry(ctx, "")
	if err != nil {
		return err
	}
	return h.exec(ctx, "UPDATE afe_host_queue_entries SET aborted = 1 WHERE id = ?", id)
}

func (h *hostile) clearLease(ctx context.Context) error {
	return h.exec(ctx, "UPDATE afe_hosts SET leased = 0 WHERE id = ?", h.host())
}

func (h *hostile) lockHost(ctx context.Context) error {
	return h.exec(ctx, "UPDATE afe_hosts SET locked = 1 WHERE id = ?", h.host())
}

func (h *hostile) unlockHost(ctx context.Context) error {
	return h.exec(ctx, "UPDATE afe_hosts SET locked = 0 WHERE locked = 1 LIMIT 3")
}

// breakHost gives a host a status in which it is not released.
func (h *hostile) breakHost(ctx context.Context) error {
	return h.exec(ctx, "UPDATE afe_hosts SET status = 'Repair Failed' WHERE id = ?", h.host())
}

func (h *hostile) changePriority(ctx context.Context) error {
	_, job, err := h.entry(ctx, "")
	if err != nil {
		return err
	}
	return h.exec(ctx, "UPDATE afe_jobs SET priority = ? WHERE id = ?", h.rng.IntN(100), job)
}

// deleteJob deletes a job that waits, with everything that refers to it.
func (h *hostile) deleteJob(ctx context.Context) error {
	_, job, err := h.entry(ctx, " AND active = 0")
	if err != nil {
		return err
	}
	return h.inTx(ctx, func(tx *sql.Tx) error {
		var others int
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE job_id = ? AND (active = 1 OR complete = 1) FOR UPDATE", job).Scan(&others); err != nil || others > 0 {
			return errors.Join(err, errNotNow)
		}
		for _, table := range []string{"afe_host_queue_entries", "afe_jobs_dependency_labels", "afe_ineligible_host_queues", "afe_job_keyvals"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE job_id = ?", job); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM afe_jobs WHERE id = ?", job)
		return err
	})
}

var errNotNow = errors.New("not possible at this moment")

func (h *hostile) inTx(ctx context.Context, work func(*sql.Tx) error) error {
	tx, err := h.c.db.SQL().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// takeLabel takes a capability from a host: jobs that ask for it may have to wait.
func (h *hostile) takeLabel(ctx context.Context) error {
	var host, label int64
	err := h.c.db.SQL().QueryRowContext(ctx, "SELECT l.host_id, l.label_id FROM afe_hosts_labels l JOIN afe_labels n ON n.id = l.label_id WHERE l.host_id = ? AND n.name NOT LIKE '%:%' LIMIT 1", h.host()).Scan(&host, &label)
	if err != nil {
		return err
	}
	// Noted first: if the answer is lost, it is given back all the same.
	h.labels = append(h.labels, [2]int64{host, label})
	return h.exec(ctx, "DELETE FROM afe_hosts_labels WHERE host_id = ? AND label_id = ?", host, label)
}

func (h *hostile) giveLabels(ctx context.Context) error {
	for _, l := range h.labels {
		if err := h.exec(ctx, "INSERT IGNORE INTO afe_hosts_labels (host_id, label_id) VALUES (?, ?)", l[0], l[1]); err != nil {
			return err
		}
	}
	h.labels = nil
	return nil
}

// moveHost gives a host to any shard, whatever its labels say.
func (h *hostile) moveHost(ctx context.Context) error {
	host := h.host()
	h.strayed = append(h.strayed, int64(host))
	return h.exec(ctx, "UPDATE afe_hosts SET shard_id = (SELECT id FROM afe_shards WHERE hostname = ?) WHERE id = ?", fmt.Sprintf("shard-%d", h.rng.IntN(otherShards+1)), host)
}

// moveLabel gives a board from one shard to another without hostsched's commands,
// so that nobody tells the leaders.
func (h *hostile) moveLabel(ctx context.Context) error {
	return h.exec(ctx, "UPDATE afe_shards_labels SET shard_id = (SELECT id FROM afe_shards WHERE hostname = ?) WHERE label_id = (SELECT id FROM afe_labels WHERE name = ?)",
		fmt.Sprintf("shard-%d", 1+h.rng.IntN(otherShards)), board(h.rng.IntN(labSpec.Boards)))
}

// lockRow keeps a host or an entry locked for a moment.
func (h *hostile) lockRow(ctx context.Context) error {
	return h.inTx(ctx, func(tx *sql.Tx) error {
		table, id := "afe_hosts", int64(h.host())
		if h.rng.IntN(2) == 0 {
			var err error
			table = "afe_host_queue_entries"
			if id, _, err = h.entry(ctx, ""); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "SELECT id FROM "+table+" WHERE id = ? FOR UPDATE", id); err != nil {
			return err
		}
		sleep(ctx, time.Duration(h.rng.Int64N(int64(1500*time.Millisecond))))
		return nil
	})
}

// calm undoes what keeps entries from running, and keeps the client quiet until
// the returned function is called.
func (h *hostile) calm(ctx context.Context) (wake func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quiet = true
	wake = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.quiet = false
	}
	if err := h.giveLabels(ctx); err != nil {
		return wake, err
	}
	for _, host := range h.strayed {
		err := h.exec(ctx, `UPDATE afe_hosts SET shard_id = (SELECT MAX(s.shard_id) FROM afe_hosts_labels l JOIN afe_shards_labels s ON s.label_id = l.label_id WHERE l.host_id = ?) WHERE id = ?`, host, host)
		if err != nil {
			return wake, fmt.Errorf("give host %d back to its shard: %w", host, err)
		}
	}
	h.returned, h.strayed = h.strayed, nil
	return wake, errors.Join(h.exec(ctx, "UPDATE afe_hosts SET locked = 0 WHERE locked = 1"), h.exec(ctx, "UPDATE afe_hosts SET status = 'Ready' WHERE status = 'Repair Failed'"))
}
