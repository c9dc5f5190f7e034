package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// bench is what all measurements share.
type bench struct {
	server *testserver.Server
	// measuredOn is the server's name and version, as hostsched sees them.
	measuredOn string

	program   string
	dir       string
	databases int
}

// testLab is a generated lab in a database of its own.
type testLab struct {
	b    *bench
	db   *store.DB
	lab  *simlab.Lab
	spec simlab.Spec
	name string
	dsn  string
	// entered is when the last of its rows was entered.
	entered time.Time
	// terms is how many leaders the lab has had.
	terms int64
}

// The labs that speed is measured on.
const (
	seed         = 1
	boards       = 50
	suites       = 100
	minimumShare = 0.1
)

// scope is the whole lab, under the policy of a lab of its own.
var scope = store.Scope{Shard: shard.Master, Rules: scheduler.Rules{Policy: scheduler.PolicyOptimal}}

// newLab makes a lab. Without hosts it is empty.
func (b *bench) newLab(ctx context.Context, hosts, entries int) (*testLab, error) {
	b.databases++
	l := &testLab{b: b, name: fmt.Sprintf("bench%d", b.databases)}
	var err error
	if l.dsn, err = b.server.Create(l.name); err != nil {
		return nil, err
	}
	if l.db, err = store.Open(ctx, sqldb.Config{DSN: l.dsn, TxTimeout: time.Minute}); err != nil {
		return nil, err
	}
	b.measuredOn = l.db.Server()
	if _, err := schema.Up(ctx, l.db.DB, schema.Options{}); err != nil {
		return nil, err
	}
	if hosts == 0 {
		return l, nil
	}
	l.spec = simlab.Spec{Seed: seed, Hosts: hosts, Boards: boards, Suites: suites, Entries: entries, MinimumShare: minimumShare}
	if l.lab, err = simlab.Create(ctx, l.db.SQL(), l.spec); err != nil {
		return nil, err
	}
	return l, l.filled(ctx)
}

// filled notes that the last row was entered, and gives the lab what one that has run for a
// while has: fresh statistics.
func (l *testLab) filled(ctx context.Context) error {
	l.entered = time.Now()
	return l.exec(ctx, "ANALYZE TABLE afe_hosts, afe_host_queue_entries, afe_jobs, afe_jobs_dependency_labels, afe_hosts_labels, afe_acl_groups_hosts, afe_special_tasks")
}

// drop ends a lab.
func (l *testLab) drop(ctx context.Context) error {
	return errors.Join(l.exec(ctx, "DROP DATABASE "+l.name), l.db.Close())
}

func (l *testLab) exec(ctx context.Context, texts ...string) error {
	for _, text := range texts {
		if _, err := l.db.SQL().ExecContext(ctx, text); err != nil {
			return fmt.Errorf("%.100s: %w", text, err)
		}
	}
	return nil
}

// with makes a lab, works on it and drops it.
func (b *bench) with(ctx context.Context, hosts, entries int, work func(*testLab) error) error {
	l, err := b.newLab(ctx, hosts, entries)
	if err != nil {
		return err
	}
	return errors.Join(work(l), l.drop(ctx))
}

// churn is the share of running jobs that end, and of entries that are added,
// before a steady tick.
const churn = 0.05

// stir ends a share of the running jobs, whose hosts are released by the next
// tick and assigned by the one after, and queues as large a share of new
// entries.
func (l *testLab) stir(ctx context.Context) error {
	if err := l.end(ctx, int(churn*float64(l.spec.Hosts))); err != nil {
		return err
	}
	const arriving = 5
	for range arriving {
		if err := l.lab.AddSuite(ctx, l.db.SQL(), int(churn*float64(l.spec.Entries))/arriving); err != nil {
			return err
		}
	}
	return nil
}

// end ends the first n running jobs.
func (l *testLab) end(ctx context.Context, n int) error {
	ended := fmt.Sprintf("(SELECT id, host_id FROM afe_host_queue_entries WHERE active = 1 AND host_id IS NOT NULL ORDER BY id LIMIT %d) e", n)
	return l.exec(ctx,
		"UPDATE afe_special_tasks t JOIN "+ended+" ON e.id = t.queue_entry_id SET t.is_complete = 1",
		"UPDATE afe_hosts h JOIN "+ended+" ON e.host_id = h.id SET h.status = 'Ready'",
		"UPDATE afe_host_queue_entries q JOIN "+ended+" ON e.id = q.id SET q.active = 0, q.complete = 1, q.status = 'Completed'",
	)
}
