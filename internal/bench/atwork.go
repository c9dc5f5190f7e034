package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/testserver"
)

// A lab has worked when each host was given out so often, or when so many hosts were given out
// in all, but at least once. Then the tables that a tick adds rows to are so large that the
// server extends their files by a megabyte at a time.
const (
	workedRounds = 20
	workedHosts  = 20_000
)

// withAtWork measures in a lab at work. In a new lab the tables of special tasks and of hosts
// that a job cannot get again are empty: the server extends their files page by page and syncs
// each time, in the middle of the tick, which a lab that has run for a while does not pay for.
// That has larger indexes instead, and hosts with a past. Large labs are left out: a round of
// one takes half a minute.
func (b *bench) withAtWork(ctx context.Context, hosts, entries int, measure func(*testLab) error) error {
	if hosts >= largeLab {
		return nil
	}
	return b.with(ctx, hosts, entries, func(l *testLab) error {
		if err := l.work(ctx); err != nil {
			return fmt.Errorf("let the lab work: %w", err)
		}
		return measure(l)
	})
}

// work makes a new lab one at work. Its hosts are free and its queue is as full as before.
func (l *testLab) work(ctx context.Context) error {
	if err := l.rounds(ctx); err != nil {
		return err
	}
	if err := l.filled(ctx); err != nil {
		return err
	}
	return l.purged(ctx)
}

// rounds works through one queue after the other.
func (l *testLab) rounds(ctx context.Context) (err error) {
	t, err := l.ticker(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.leader.Close()) }()
	for range max(1, min(workedRounds, workedHosts/l.spec.Hosts)) {
		if err := t.round(ctx); err != nil {
			return err
		}
	}
	return nil
}

// round gives hosts to the queue, lets all of it end, releases the hosts, and queues as much
// again.
func (t *ticker) round(ctx context.Context) error {
	full, err := t.tick(ctx)
	if err != nil {
		return err
	}
	if err := t.l.endAll(ctx); err != nil {
		return err
	}
	release, err := t.tick(ctx)
	if err != nil {
		return err
	}
	if given, released := len(full.result.Applied.Assignments), len(release.result.Applied.Releases); given == 0 || given != released {
		return fmt.Errorf("%d hosts were given out and %d released", given, released)
	}
	return t.l.refill(ctx)
}

// endAll ends the whole queue. What still waits is aborted: the lab has too few hosts for it,
// and with it the next queue would be of another kind than the one before.
func (l *testLab) endAll(ctx context.Context) error {
	if err := l.end(ctx, l.spec.Hosts); err != nil {
		return err
	}
	return l.exec(ctx, "UPDATE afe_host_queue_entries SET aborted = 1, complete = 1, status = 'Aborted' WHERE complete = 0")
}

// refill queues as much as a new lab has.
func (l *testLab) refill(ctx context.Context) error {
	return simlab.InTx(ctx, l.db.SQL(), func(tx *sql.Tx) error { return l.lab.AddSuites(ctx, tx) })
}

// purged waits until the server has removed the old versions of rows, which it does in the
// background and which would take its time from what is measured next.
func (l *testLab) purged(ctx context.Context) (err error) {
	admin := l.b.server.Admin()
	if l.b.server.Kind == testserver.MySQL {
		// MySQL notes only now and then, when idle after up to a minute, that it has done so.
		const often = "SET GLOBAL innodb_purge_rseg_truncate_frequency = "
		if _, err := admin.ExecContext(ctx, often+"1"); err != nil {
			return err
		}
		defer func() {
			_, e := admin.ExecContext(ctx, often+"DEFAULT")
			err = errors.Join(err, e)
		}()
	}
	const few = 10 // transactions: the server's own work leaves some
	var left int64
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(look) {
		err := admin.QueryRowContext(ctx, "SELECT count FROM information_schema.INNODB_METRICS WHERE name = 'trx_rseg_history_len'").Scan(&left)
		if err != nil || left <= few {
			return err
		}
	}
	return fmt.Errorf("the server has not removed the old versions of rows within %v: those of %d transactions are left", patience, left)
}
