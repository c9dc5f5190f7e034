package simlab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Spec describes a generated lab. The same Spec gives the same lab.
type Spec struct {
	Seed   uint64
	Hosts  int
	Boards int
	// Suites are created at once, half of them (WithMinimum) with a guaranteed
	// minimum of hosts; Entries queue entries are spread over them.
	Suites  int
	Entries int
	// Later leaves out the suites at first: all come by DrawSuite.
	Later bool
	// MinimumShare is the share of all hosts that the minimums add up to.
	MinimumShare float64
	// Runnable makes every job ask for labels that one host has, so that each can
	// run; some name that host, and some are synchronous jobs of two entries.
	Runnable bool
	// LeasedAtFirst leaves hosts leased, as a new host is in Autotest: they pass
	// through one release first.
	LeasedAtFirst bool
}

// Names that a generated lab is made of.
var (
	pools        = []string{"bvt", "cq", "suites"}
	capabilities = []string{"wifi", "bluetooth", "modem", "camera", "touchscreen", "stylus"}
	teams        = []string{"Everyone", "team_kernel", "team_graphics"}
	owners       = []string{"alice", "bob", "carol"}
	priorities   = []int{10, 20, 40, 50, 70}
)

const (
	buildsPerBoard = 3
	// capabilityChance is how likely a host has a capability.
	capabilityChance = 0.5
	// taskChance is how likely a job needs pre-job tasks at all.
	taskChance = 0.9
)

// Lab is a generated lab: what is needed to add more suites to it.
type Lab struct {
	spec     Spec
	rng      *rand.Rand
	labels   map[string]int64
	boards   []string
	labelsOf map[int][]string
	// neverRun counts the jobs that arrived and that no host can run.
	neverRun int
	// nextJob and nextEntry are the ids that come next.
	nextJob, nextEntry int64
	suites             int
}

// Create fills an empty database with a lab.
func Create(ctx context.Context, db *sql.DB, spec Spec) (*Lab, error) {
	l := &Lab{spec: spec, rng: rand.New(rand.NewPCG(spec.Seed, 1)), labels: map[string]int64{}, nextJob: 1, nextEntry: 1}
	if l.spec.Boards == 0 {
		l.spec.Boards = 50
	}
	return l, InTx(ctx, db, func(tx *sql.Tx) error {
		for _, step := range []func(context.Context, Execer) error{l.insertPeople, l.insertLabels, l.insertHosts, l.insertSuites} {
			if err := step(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *Lab) insertPeople(ctx context.Context, db Execer) error {
	var users, groups, members [][]any
	for i, login := range owners {
		users = append(users, []any{i + 1, login, 0, 0})
	}
	for i, team := range teams {
		groups = append(groups, []any{i + 1, team})
	}
	for u := range owners {
		members = append(members, []any{1, u + 1})
		if team := u % len(teams); team > 0 {
			members = append(members, []any{team + 1, u + 1})
		}
	}
	return errors.Join(
		Insert(ctx, db, "afe_users", UserColumns, users),
		Insert(ctx, db, "afe_acl_groups", "id, name", groups),
		Insert(ctx, db, "afe_acl_groups_users", "aclgroup_id, user_id", members))
}

func (l *Lab) insertLabels(ctx context.Context, db Execer) error {
	var rows [][]any
	add := func(name string) {
		id := int64(len(rows) + 1)
		l.labels[name] = id
		rows = append(rows, []any{id, name, false, false, false})
	}
	for b := range l.spec.Boards {
		board := fmt.Sprintf("b%02d", b)
		l.boards = append(l.boards, board)
		add("board:" + board)
		for n := range buildsPerBoard {
			add(build(board, n))
		}
	}
	for _, p := range pools {
		add("pool:" + p)
	}
	for _, c := range capabilities {
		add(c)
	}
	return Insert(ctx, db, "afe_labels", LabelColumns, rows)
}

func build(board string, n int) string { return fmt.Sprintf("cros-version:%s/R%d", board, n) }

func (l *Lab) insertHosts(ctx context.Context, db Execer) error {
	var hosts, labels, acls [][]any
	l.labelsOf = map[int][]string{}
	link := func(host int, label string) {
		labels = append(labels, []any{host, l.labels[label]})
		l.labelsOf[host] = append(l.labelsOf[host], label)
	}
	for id := 1; id <= l.spec.Hosts; id++ {
		board := l.boards[id%len(l.boards)]
		hosts = append(hosts, []any{id, fmt.Sprintf("%s-rack%d-host%d", board, id/40, id), "Ready", false, false, l.spec.LeasedAtFirst, l.rng.IntN(4) == 0, 0, nil})
		link(id, "board:"+board)
		link(id, "pool:"+pools[(id/len(l.boards))%len(pools)])
		link(id, build(board, l.rng.IntN(buildsPerBoard)))
		for _, c := range capabilities {
			if l.rng.Float64() < capabilityChance {
				link(id, c)
			}
		}
		acls = append(acls, []any{id, 1})
		if team := l.rng.IntN(len(teams)); team > 0 {
			acls = append(acls, []any{id, team + 1})
		}
	}
	return errors.Join(
		Insert(ctx, db, "afe_hosts", HostColumns, hosts),
		Insert(ctx, db, "afe_hosts_labels", "host_id, label_id", labels),
		Insert(ctx, db, "afe_acl_groups_hosts", "host_id, aclgroup_id", acls))
}

func (l *Lab) insertSuites(ctx context.Context, db Execer) error {
	if l.spec.Later {
		return nil
	}
	return l.AddSuites(ctx, db)
}

// AddSuites queues as many suites and entries as Create does, of the same kind: a lab whose
// first queue is over gets the next one.
func (l *Lab) AddSuites(ctx context.Context, db Execer) error {
	if l.spec.Suites == 0 {
		return nil
	}
	each, rest := l.spec.Entries/l.spec.Suites, l.spec.Entries%l.spec.Suites
	for i := range l.spec.Suites {
		n := each
		if i < rest {
			n++
		}
		if err := l.AddSuite(ctx, db, n); err != nil {
			return err
		}
	}
	return nil
}

// AddSuite queues a suite of n jobs with one entry each, all for one board and
// build, each in one of the pools.
func (l *Lab) AddSuite(ctx context.Context, db Execer, n int) error {
	suite := l.nextJob
	l.nextJob++
	l.suites++
	// The boards take turns, so that a lab's work is for all of its hosts.
	board := l.boards[l.suites%len(l.boards)]
	owner := owners[l.rng.IntN(len(owners))]
	priority := priorities[l.rng.IntN(len(priorities))]
	version := build(board, l.rng.IntN(buildsPerBoard))
	now := time.Now().UTC().Format(TimeFormat)
	jobs := [][]any{l.job(suite, owner, fmt.Sprintf("suite-%s-%d", board, suite), priority, nil, now)}
	var deps, entries [][]any
	for range n {
		job := l.nextJob
		l.nextJob++
		row := l.job(job, owner, fmt.Sprintf("test-%d", job), priority, suite, now)
		a := l.ask(board, version)
		row[synchColumn] = a.entries
		jobs = append(jobs, row)
		for label := range a.labels {
			deps = append(deps, []any{job, l.labels[label]})
		}
		var metaHost any = l.labels["board:"+board]
		if a.host != nil {
			metaHost = nil
		}
		for range a.entries {
			entries = append(entries, []any{l.nextEntry, job, a.host, metaHost, "Queued", false, false, false, false, ""})
			l.nextEntry++
		}
	}
	return errors.Join(
		Insert(ctx, db, "afe_jobs", JobColumns, jobs),
		Insert(ctx, db, "afe_jobs_dependency_labels", "job_id, label_id", deps),
		Insert(ctx, db, "afe_job_keyvals", "job_id, `key`, value", l.minimumRows(suite)),
		Insert(ctx, db, "afe_host_queue_entries", EntryColumns, entries))
}

// synchColumn is the place of synch_count in JobColumns.
const synchColumn = 5

// asked is what a job asks for: labels, perhaps one host by name, and a number of
// hosts at the same time.
type asked struct {
	labels  map[string]bool
	host    any
	entries int
}

func (l *Lab) ask(board, version string) asked {
	if l.spec.Runnable {
		return l.askRunnable(board)
	}
	a := asked{labels: map[string]bool{"board:" + board: true, "pool:" + l.pool(): true, version: true}, entries: 1}
	for range l.rng.IntN(3) {
		a.labels[capabilities[l.rng.IntN(len(capabilities))]] = true
	}
	return a
}

// The shares of jobs that name their host, and of synchronous ones.
const (
	namedShare = 0.1
	synchShare = 0.05
)

// askRunnable asks for labels of a host that exists. A synchronous job asks for
// the board alone, of which there are several hosts.
func (l *Lab) askRunnable(board string) asked {
	a := asked{labels: map[string]bool{"board:" + board: true}, entries: 1}
	if l.rng.Float64() < synchShare {
		a.entries = 2
		return a
	}
	host := l.hostOf(board)
	for _, label := range l.labelsOf[host] {
		if strings.HasPrefix(label, "pool:") || l.rng.Float64() < 0.4 {
			a.labels[label] = true
		}
	}
	if l.rng.Float64() < namedShare {
		a.host = host
	}
	return a
}

// hostOf draws a host of a board.
func (l *Lab) hostOf(board string) int {
	first := l.firstOf(board)
	return first + len(l.boards)*l.rng.IntN((l.spec.Hosts-first)/len(l.boards)+1)
}

// firstOf is the first host of a board; the next ones follow it with as many between them as there are boards.
func (l *Lab) firstOf(board string) int {
	if first := slices.Index(l.boards, board); first > 0 {
		return first
	}
	return len(l.boards)
}

// pool draws the pool of a job. Demand is uneven, as in a real lab: some hosts of
// the last pool find no job, so that about 94 % of all hosts are assigned when
// there are twice as many entries as hosts.
func (l *Lab) pool() string {
	switch p := l.rng.Float64(); {
	case p < 0.60:
		return pools[0]
	case p < 0.86:
		return pools[1]
	}
	return pools[2]
}

// minimum gives every other suite a guaranteed minimum of hosts.
func (l *Lab) minimum() int {
	if l.suites%2 != 0 || l.spec.Suites == 0 {
		return 0
	}
	return max(1, int(l.spec.MinimumShare*float64(l.spec.Hosts)*2/float64(l.spec.Suites)))
}

func (l *Lab) minimumRows(suite int64) [][]any {
	n := l.minimum()
	if n == 0 {
		return nil
	}
	return [][]any{{suite, "suite_min_duts", fmt.Sprint(n)}}
}

func (l *Lab) job(id int64, owner, name string, priority int, parent any, now string) []any {
	reset := l.rng.Float64() < taskChance
	reboot := 1
	if !reset {
		reboot = 0
	}
	return append([]any{id, owner, name, priority, parent, 1, false, reset, reboot, nil}, JobTail(now)...)
}
