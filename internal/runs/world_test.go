package runs_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

var root = access.Caller{Login: "root", Role: access.Admin}

// world is a lab with hosts of agents, and jobs that have them.
type world struct {
	t   *testing.T
	db  *store.DB
	lab *lab.Lab
	*runs.Runs
	ctx  context.Context
	keys int
}

func newWorld(t *testing.T, db *store.DB) *world {
	l := lab.New(db, store.Scope{Shard: shard.Master, Shared: true, Agents: true})
	w := &world{t: t, db: db, lab: l, Runs: runs.New(l), ctx: context.Background()}
	_, err := l.AddUser(w.ctx, root, "root")
	require.NoError(t, err)
	return w
}

// host enters a host and returns its id.
func (w *world) host(name string) int64 {
	w.t.Helper()
	h, _, err := w.lab.AddHost(w.ctx, root, labapi.HostInput{Hostname: name, Labels: []string{"board:eve"}})
	require.NoError(w.t, err)
	return h.ID
}

// agent enters an agent that serves hosts.
func (w *world) agent(name string, hosts ...string) runs.Claimant {
	w.t.Helper()
	_, err := w.lab.AddAgent(w.ctx, root, labapi.AgentInput{Name: name, Hosts: hosts})
	require.NoError(w.t, err)
	id := storetest.Count(w.t, w.db, "SELECT id FROM hostsched_agents WHERE name = ?", name)
	return runs.Claimant{Agent: int64(id), Name: name, Session: "s1"}
}

// job submits a job for so many hosts that start together.
func (w *world) job(spec labapi.JobSpec) labapi.Submitted {
	w.t.Helper()
	if spec.Name == "" {
		spec.Name = "a job"
	}
	if len(spec.Hosts) == 0 {
		spec.Labels = []string{"board:eve"}
	}
	out, _, err := w.lab.SubmitJob(w.ctx, lab.Submission{Who: root, MaxPriority: 1000}, spec)
	require.NoError(w.t, err)
	return out
}

// give does what the planner does with an entry: it gets a host, and tasks.
func (w *world) give(entry, host int64, tasks ...string) {
	w.t.Helper()
	var job int64
	require.NoError(w.t, w.db.SQL().QueryRow("SELECT job_id FROM afe_host_queue_entries WHERE id = ?", entry).Scan(&job))
	storetest.Exec(w.t, w.db, "UPDATE afe_hosts SET leased = 1 WHERE id = ?", host)
	storetest.Exec(w.t, w.db, "UPDATE afe_host_queue_entries SET host_id = ?, active = 1 WHERE id = ?", host, entry)
	storetest.Exec(w.t, w.db, w.db.Dialect.InsertIgnore+" afe_ineligible_host_queues (job_id, host_id) VALUES (?, ?)", job, host)
	for _, kind := range tasks {
		storetest.Exec(w.t, w.db, "INSERT INTO afe_special_tasks (host_id, task, time_requested, queue_entry_id, requested_by_id) SELECT ?, ?, "+w.db.Dialect.Now+", ?, id FROM afe_users WHERE login = 'root'", host, kind, entry)
	}
	if len(tasks) == 0 {
		storetest.Exec(w.t, w.db, "UPDATE afe_host_queue_entries SET status = 'Starting', execution_subdir = (SELECT hostname FROM afe_hosts WHERE id = ?) WHERE id = ?", host, entry)
		storetest.Exec(w.t, w.db, "UPDATE afe_hosts SET status = 'Pending' WHERE id = ?", host)
	}
}

func (w *world) key() string {
	w.keys++
	return fmt.Sprintf("a key that nobody guesses %d", w.keys)
}

// offers are those of one agent.
func (w *world) offers(a runs.Claimant) []labapi.Offer {
	w.t.Helper()
	all, err := w.Offers(w.ctx, []int64{a.Agent})
	require.NoError(w.t, err)
	return all[a.Agent]
}

// claim takes the only offer of an agent up, and returns the run.
func (w *world) claim(a runs.Claimant, kind string) (labapi.Claimed, runs.Run) {
	w.t.Helper()
	offers := w.offers(a)
	require.Len(w.t, offers, 1)
	require.Equal(w.t, kind, offers[0].Kind)
	claimed, err := w.Claim(w.ctx, a, labapi.ClaimInput{Session: a.Session, ClaimKey: w.key(), Offer: offers[0]})
	require.NoError(w.t, err)
	run, err := w.ByToken(w.ctx, claimed.Token)
	require.NoError(w.t, err)
	return claimed, run
}

// perform claims the only offer, and ends it with a result.
func (w *world) perform(a runs.Claimant, kind, result string) {
	w.t.Helper()
	_, run := w.claim(a, kind)
	w.finish(run, result)
}

func (w *world) finish(run runs.Run, result string) {
	w.t.Helper()
	_, err := w.Finish(w.ctx, run, labapi.RunFinish{Result: result})
	require.NoError(w.t, err)
}

func (w *world) begin(run runs.Run) {
	w.t.Helper()
	_, err := w.State(w.ctx, run, labapi.RunState{Phase: "running"})
	require.NoError(w.t, err)
}

// entry is an entry as people describe it.
func (w *world) entry(id int64) string {
	return w.text("SELECT COALESCE(status, ''), ' ', CASE WHEN active = 1 THEN 'active' ELSE '' END, CASE WHEN complete = 1 THEN 'complete' ELSE '' END FROM afe_host_queue_entries WHERE id = ?", id)
}

// hostIs is the status of a host.
func (w *world) hostIs(id int64) string {
	return w.text("SELECT COALESCE(status, ''), CASE WHEN dirty = 1 THEN ' dirty' ELSE '' END FROM afe_hosts WHERE id = ?", id)
}

// text are the columns of one row, one after the other.
func (w *world) text(query string, args ...any) string {
	w.t.Helper()
	rows, err := w.db.SQL().Query(query, args...)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(w.t, err)
	values, into := make([]string, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	text := ""
	for rows.Next() {
		require.NoError(w.t, rows.Scan(into...))
		for _, v := range values {
			text += v
		}
	}
	require.NoError(w.t, rows.Err())
	return text
}
