package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
)

// Latency is the time from the commit of a new job to the commit that gives it a
// host, in milliseconds, in a lab where as many entries wait as Queued says.
type Latency struct {
	Hosts   int     `json:"hosts"`
	Queued  int     `json:"queued"`
	PerSec  float64 `json:"jobs_per_second"`
	Seconds float64 `json:"seconds"`
	Jobs    int     `json:"jobs"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	Ticks   int64   `json:"ticks"`
}

// The lab of the service's measurements: all but spareHosts are busy from the
// beginning, and queuedEntries wait for them. The new jobs are for the others.
const (
	serviceHosts  = 10_000
	spareHosts    = 1_000
	queuedEntries = 50_000
	spareLabel    = "board:spare"
	jobPause      = 20 * time.Millisecond // 50 jobs a second
	// spareJob is how long a new job runs; otherEnds is how many of the other
	// jobs end in every step.
	spareJob  = 3 * time.Second
	otherEnds = 2
	step      = 100 * time.Millisecond
)

// service measures the latency of jobs that are entered by SQL, and the failovers.
func (b *bench) service(ctx context.Context, latency time.Duration, failovers int, all *results) error {
	progress("latency and failover: %d hosts, %d queued", serviceHosts, queuedEntries)
	return b.withService(ctx, func(load *load, in *installation) error {
		return load.during(ctx, func(ctx context.Context) (err error) {
			if latency > 0 {
				if all.Latency, err = load.latency(ctx, in, latency); err != nil {
					return err
				}
			}
			if failovers > 0 {
				all.Failover, err = load.failovers(ctx, in, failovers)
			}
			return err
		})
	})
}

// withService works with three replicas in a lab of which all but the spare hosts are busy.
func (b *bench) withService(ctx context.Context, work func(*load, *installation) error) error {
	busy := serviceHosts - spareHosts
	return b.with(ctx, busy, busy+queuedEntries, func(l *testLab) (err error) {
		load, err := l.newLoad(ctx)
		if err != nil {
			return err
		}
		in, err := l.install(3)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.stop()) }()
		if _, _, err := in.leader(ctx, "the first ticks", func(st replica.Status) bool {
			return st.Assignments > int64(busy)*8/10 && st.Waiting > 0
		}); err != nil {
			return err
		}
		if err := in.followers(ctx); err != nil {
			return err
		}
		return work(load, in)
	})
}

// apiLatency is the latency of jobs that are submitted through the API of a replica, from
// the request on.
func (w *load) apiLatency(ctx context.Context, in *installation, d time.Duration) (*Latency, error) {
	api := in.servers[0]
	spec, err := json.Marshal(labapi.JobSpec{Name: "spare", Owner: "alice", Priority: 40, Labels: []string{spareLabel}})
	if err != nil {
		return nil, err
	}
	w.through(func(ctx context.Context) (int64, error) {
		return submit(ctx, "http://"+api.listen+"/api/v1/jobs", spec)
	})
	defer w.through(nil)
	return w.latency(ctx, in, d)
}

func (w *load) through(submit func(context.Context) (entry int64, err error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.submit = submit
}

// submit submits a job and returns its queue entry.
func submit(ctx context.Context, url string, spec []byte) (entry int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(spec))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return 0, err
	}
	var submitted labapi.Submitted
	if err := json.Unmarshal(body, &submitted); err != nil || res.StatusCode != http.StatusCreated || len(submitted.Entries) != 1 {
		return 0, fmt.Errorf("submit a job: %s: %.500s", res.Status, body)
	}
	return submitted.Entries[0], nil
}

// load inserts jobs for the spare hosts, sees when they get one, and lets jobs
// end.
type load struct {
	l     *testLab
	label int64

	mu       sync.Mutex
	inserted map[int64]time.Time // entry -> when, without a host yet
	// submit, if set, enters a job and returns its entry; else SQL does so.
	submit func(context.Context) (entry int64, err error)
	took   []float64
	latest time.Time // when the last host was seen to be given
}

func (l *testLab) newLoad(ctx context.Context) (*load, error) {
	res, err := l.db.SQL().ExecContext(ctx, "INSERT INTO afe_labels (name, invalid, only_if_needed, platform) VALUES ('"+spareLabel+"', 0, 0, 0)")
	if err != nil {
		return nil, err
	}
	label, err := res.LastInsertId()
	if err != nil {
		return nil, err
	}
	var hosts, labels, acls [][]any
	for i := range spareHosts {
		id := l.spec.Hosts + i + 1
		hosts = append(hosts, []any{id, fmt.Sprintf("spare-host%d", id), "Ready", false, false, false, false, 0, nil})
		labels = append(labels, []any{id, label})
		acls = append(acls, []any{id, 1})
	}
	db := l.db.SQL()
	return &load{l: l, label: label, inserted: map[int64]time.Time{}}, errors.Join(
		simlab.Insert(ctx, db, "afe_hosts", simlab.HostColumns, hosts),
		simlab.Insert(ctx, db, "afe_hosts_labels", "host_id, label_id", labels),
		simlab.Insert(ctx, db, "afe_acl_groups_hosts", "host_id, aclgroup_id", acls))
}

// during works while something else is done.
func (w *load) during(ctx context.Context, other func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(ctx)
	for every, work := range map[time.Duration]func(context.Context) error{jobPause: w.insert, look: w.watch, step: w.endJobs} {
		g.Go(func() error { return repeat(gctx, every, work) })
	}
	g.Go(func() error {
		defer stop()
		return other(gctx)
	})
	return g.Wait()
}

// repeat works at a steady rate, however long each turn takes, until ctx ends.
func repeat(ctx context.Context, every time.Duration, work func(context.Context) error) error {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		if err := work(ctx); err != nil && ctx.Err() == nil && !simlab.Collision(err) {
			return err
		}
	}
}

// insert adds a job for a spare host.
func (w *load) insert(ctx context.Context) error {
	w.mu.Lock()
	submit := w.submit
	w.mu.Unlock()
	if submit != nil {
		began := time.Now()
		entry, err := submit(ctx)
		if err == nil {
			w.entered(entry, began)
		}
		return err
	}
	tx, err := w.l.db.SQL().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	entry, err := w.insertIn(ctx, tx)
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	w.entered(entry, time.Now())
	return nil
}

func (w *load) entered(entry int64, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inserted[entry] = at
}

func (w *load) insertIn(ctx context.Context, tx simlab.Execer) (entry int64, err error) {
	res, err := tx.ExecContext(ctx, "INSERT INTO afe_jobs (owner, name, priority, synch_count, run_verify, run_reset, reboot_before, created_on, timeout, email_list, reboot_after, max_runtime_hrs, max_runtime_mins, timeout_mins)"+
		" VALUES ('alice', 'spare', 40, 1, 0, 1, 1, NOW(), 24, '', 0, 24, 1440, 1440)")
	if err != nil {
		return 0, err
	}
	job, err := res.LastInsertId()
	if err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO afe_jobs_dependency_labels (job_id, label_id) VALUES (?, ?)", job, w.label); err != nil {
		return 0, err
	}
	res, err = tx.ExecContext(ctx, "INSERT INTO afe_host_queue_entries (job_id, meta_host, status, active, complete, aborted, deleted, execution_subdir) VALUES (?, ?, 'Queued', 0, 0, 0, 0, '')", job, w.label)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// watch looks which of the new jobs have got a host.
func (w *load) watch(ctx context.Context) error {
	w.mu.Lock()
	var ids []string
	for id := range w.inserted {
		ids = append(ids, fmt.Sprint(id))
	}
	w.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	return simlab.Each(ctx, w.l.db.SQL(), "SELECT id FROM afe_host_queue_entries WHERE active = 1 AND id IN ("+strings.Join(ids, ",")+")", func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		w.given(id)
		return err
	})
}

// given notes that an entry was seen to have a host.
func (w *load) given(entry int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.latest = time.Now()
	w.took = append(w.took, ms(w.latest.Sub(w.inserted[entry])))
	delete(w.inserted, entry)
}

// endJobs ends the new jobs that have run long enough, and some others.
func (w *load) endJobs(ctx context.Context) error {
	for _, chosen := range []string{
		fmt.Sprintf("q.host_id > %d AND t.time_requested < NOW() - INTERVAL %d SECOND", w.l.spec.Hosts, int(spareJob.Seconds())),
		fmt.Sprintf("q.host_id <= %d LIMIT %d", w.l.spec.Hosts, otherEnds),
	} {
		if err := w.end(ctx, chosen); err != nil {
			return err
		}
	}
	return nil
}

func (w *load) end(ctx context.Context, chosen string) error {
	var entries, hosts []string
	query := "SELECT q.id, q.host_id FROM afe_special_tasks t JOIN afe_host_queue_entries q ON q.id = t.queue_entry_id WHERE t.is_active IN (0, 1) AND t.is_complete = 0 AND q.active = 1 AND " + chosen
	err := simlab.Each(ctx, w.l.db.SQL(), query, func(rows *sql.Rows) error {
		var entry, host string
		err := rows.Scan(&entry, &host)
		entries, hosts = append(entries, entry), append(hosts, host)
		return err
	})
	if err != nil || len(entries) == 0 {
		return err
	}
	in := "(" + strings.Join(entries, ",") + ")"
	return w.l.exec(ctx,
		"UPDATE afe_special_tasks SET is_complete = 1, success = 1 WHERE is_complete = 0 AND queue_entry_id IN "+in,
		"UPDATE afe_host_queue_entries SET status = 'Completed', active = 0, complete = 1 WHERE id IN "+in,
		"UPDATE afe_hosts SET status = 'Ready', dirty = 1 WHERE id IN ("+strings.Join(hosts, ",")+")")
}

// latency measures for a time.
func (w *load) latency(ctx context.Context, in *installation, d time.Duration) (*Latency, error) {
	_, before, err := in.leader(ctx, "a tick", func(replica.Status) bool { return true })
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.took = nil
	w.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(d):
	}
	_, after, err := in.leader(ctx, "a tick", func(replica.Status) bool { return true })
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	lat := &Latency{Hosts: serviceHosts, Queued: after.Waiting, Seconds: d.Seconds(), Jobs: len(w.took), Ticks: after.Ticks - before.Ticks}
	lat.PerSec = float64(lat.Jobs) / lat.Seconds
	lat.P50, lat.P99, lat.Max = percentiles(w.took)
	return lat, nil
}
