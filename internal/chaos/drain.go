package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

const (
	// drainPatience is how long a lab may take to run empty: some jobs wait for
	// others.
	drainPatience = 90 * time.Second
	// restPatience is how long leaders may take to come to rest while nothing ends.
	restPatience = 20 * time.Second
	drainPoll    = 200 * time.Millisecond
)

// drain mends everything and lets the lab run empty. First nothing ends, so that
// the recorders can be compared with the database while jobs run. What is left over
// in the end is counted.
func (c *chaos) drain(ctx context.Context) error {
	began := time.Now()
	wake, err := c.hostile.calm(ctx)
	defer wake()
	if err != nil {
		return err
	}
	if err := c.watch.healthy(ctx); err != nil {
		return err
	}
	if err := c.removeBrief(ctx); err != nil {
		return err
	}
	c.simulator.Hold(true)
	err = c.compareRecorders(ctx)
	c.simulator.Hold(false)
	if err != nil {
		return err
	}
	c.simulator.SetQueue(0)
	defer c.simulator.SetQueue(pace.Queue)
	if err := c.runEmpty(ctx); err != nil {
		return err
	}
	c.countGoroutines(ctx, true)
	c.res.drains++
	c.journal.say("drained in %.1f s", time.Since(began).Seconds())
	return nil
}

// removeBrief removes the shards that a fault added and could not remove.
func (c *chaos) removeBrief(ctx context.Context) error {
	for _, name := range c.brief {
		left, err := c.number(ctx, "SELECT COUNT(*) FROM afe_shards WHERE hostname = ?", name)
		if err != nil {
			return err
		}
		if left == 0 {
			continue
		}
		bound, cancel := context.WithTimeout(ctx, restPatience)
		if err := c.insist(bound, "shard", "remove", name, "--reason", "chaos", "--yes"); err != nil {
			c.wrong("%v", err)
		}
		cancel()
	}
	c.brief = nil
	return nil
}

// wrong notes what must not be.
func (c *chaos) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.journal.say("VIOLATED: %s", text)
	c.res.mu.Lock()
	defer c.res.mu.Unlock()
	c.res.wrong = append(c.res.wrong, text)
}

// compareRecorders compares each leader's recorder with one that is rebuilt from
// the database. Leaders first assign what there is to assign.
func (c *chaos) compareRecorders(ctx context.Context) error {
	held := 0
	for _, name := range shards() {
		var drift []string
		for deadline := time.Now().Add(restPatience); ; sleep(ctx, drainPoll) {
			n, found, err := c.drift(ctx, name)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				found = []string{err.Error()}
			}
			if drift = found; len(drift) == 0 || time.Now().After(deadline) {
				held += n
				break
			}
		}
		for _, d := range drift {
			c.journal.say("VIOLATED: recorder of %s: %s", name, d)
		}
		c.res.drift += int64(len(drift))
	}
	c.journal.say("the recorders of all shards agree with the database, %d hosts are held by suites", held)
	return nil
}

// drift asks the leader of a shard for its recorder and compares. It also returns
// how many hosts the recorder knows.
func (c *chaos) drift(ctx context.Context, name shard.Name) (int, []string, error) {
	l, ok := c.watch.led()[name]
	if !ok {
		return 0, nil, fmt.Errorf("nobody leads shard %s", name)
	}
	holdings, err := l.replica.recorder(ctx, name)
	if err != nil {
		return 0, nil, err
	}
	found, err := c.admin.Check(ctx, store.Scope{Shard: name, Shared: true}, scheduler.NewRecorder(holdings))
	if err != nil {
		return 0, nil, err
	}
	var out []string
	for _, d := range found.Drift {
		// A leader forgets hosts whose lease the hostile client has cleared, and those
		// that it has given away; it learns of their use again when a term begins.
		unleased := slices.ContainsFunc(found.Unleased, func(f admin.Finding) bool { return f.Host == d.Host })
		if !unleased && !slices.Contains(c.hostile.returned, int64(d.Host)) {
			out = append(out, fmt.Sprintf("host %d: %s", d.Host, d.Text))
		}
	}
	return len(holdings), out, nil
}

func (r *replica) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.listen+path, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(req)
}

func (r *replica) recorder(ctx context.Context, name shard.Name) (out []scheduler.Holding, err error) {
	res, err := r.get(ctx, "/v1/recorder?shard="+name.String())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s has no recorder of shard %s: %s", r.name, name, res.Status)
	}
	var answer web.Recorder
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, err
	}
	for host, suite := range answer.Hosts {
		out = append(out, scheduler.Holding{Host: host, Suite: suite})
	}
	return out, nil
}

// What must be nothing in an empty lab.
const (
	openEntries = "SELECT COUNT(*) FROM afe_host_queue_entries WHERE complete = 0"
	openTasks   = "SELECT COUNT(*) FROM afe_special_tasks WHERE is_complete = 0"
	// A host is stranded if it is leased for nobody, or is not with the shard that owns
	// its board.
	strandedHosts = `SELECT COUNT(DISTINCT h.id) FROM afe_hosts h JOIN afe_hosts_labels l ON l.host_id = h.id JOIN afe_labels n ON n.id = l.label_id AND n.name LIKE 'board:%'
	   LEFT JOIN afe_shards_labels s ON s.label_id = l.label_id WHERE (h.leased = 1 OR COALESCE(h.shard_id, 0) <> COALESCE(s.shard_id, 0))`
)

// runEmpty waits until nothing is left to do and every host is free and at home,
// and counts what is left over.
func (c *chaos) runEmpty(ctx context.Context) error {
	var left [3]int64
	for deadline := time.Now().Add(drainPatience); ; sleep(ctx, drainPoll) {
		for i, query := range []string{openEntries, openTasks, strandedHosts} {
			n, err := c.number(ctx, query)
			if err != nil {
				return err
			}
			left[i] = n
		}
		if left == [3]int64{} || time.Now().After(deadline) {
			break
		}
	}
	c.res.stuck, c.res.stranded = max(c.res.stuck, left[0]+left[1]), max(c.res.stranded, left[2])
	if left != [3]int64{} {
		c.journal.say("VIOLATED: after %v %d entries and %d tasks are open, and %d hosts are stranded", drainPatience, left[0], left[1], left[2])
		if err := c.describeStranded(ctx); err != nil {
			return err
		}
	}
	return c.checkAll(ctx)
}

// describeStranded says where some of the stranded hosts are and where they belong.
func (c *chaos) describeStranded(ctx context.Context) error {
	query := strings.Replace(strandedHosts, "COUNT(DISTINCT h.id)", "h.hostname, h.leased, h.status, COALESCE(h.shard_id, 0), n.name, COALESCE(s.shard_id, 0)", 1) + " LIMIT 20"
	return simlab.Each(ctx, c.db.SQL(), query, func(rows *sql.Rows) error {
		var host, status, label string
		var leased, in, owner int
		err := rows.Scan(&host, &leased, &status, &in, &label, &owner)
		c.journal.say("  %s (leased %d, status %s) belongs to shard %d, and %s to shard %d", host, leased, status, in, label, owner)
		return err
	})
}

// checkAll runs the check of every shard.
func (c *chaos) checkAll(ctx context.Context) error {
	for _, name := range shards() {
		found, err := c.admin.Check(ctx, store.Scope{Shard: name, Shared: true}, nil)
		if err != nil {
			return err
		}
		if n := found.Count(); n > 0 {
			c.wrong("check of shard %s has %d findings: %+v", name, n, found)
		}
	}
	return nil
}

// countGoroutines notes how many goroutines replicas have: all, or those that have
// not been asked since they were started.
func (c *chaos) countGoroutines(ctx context.Context, all bool) {
	for _, r := range c.replicas {
		if !all && len(r.goroutines) > 0 {
			continue
		}
		if count, err := r.goroutineCount(ctx); err == nil {
			r.goroutines = append(r.goroutines, count)
		}
	}
}

// goroutineCount is how many goroutines a replica has, and how many shards it leads.
type goroutineCount struct{ leads, n int }

func (r *replica) goroutineCount(ctx context.Context) (c goroutineCount, err error) {
	res, err := r.get(ctx, "/metrics")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		switch name, value, _ := strings.Cut(lines.Text(), " "); {
		case strings.HasPrefix(name, "hostsched_leader{") && value == "1":
			c.leads++
		case name == "go_goroutines":
			c.n, err = strconv.Atoi(value)
		}
	}
	if c.n == 0 && err == nil {
		err = errors.New("no metric go_goroutines")
	}
	return c, errors.Join(err, lines.Err())
}
