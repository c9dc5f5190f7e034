package lab

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// views are what was read of shards to explain plans. Reading a large lab takes half a
// second and much memory, so one is read at a time, and those who ask meanwhile share it.
type views struct {
	mu  sync.Mutex
	all map[shard.Name]*view
}

// view is a snapshot of a shard with the plan of its next tick.
type view struct {
	// read is when reading began, and took how long that and the plan lasted.
	read     time.Time
	took     time.Duration
	snapshot *scheduler.Snapshot
	paused   string
	plan     scheduler.Plan
}

const (
	// viewLasts is how old a view may be for those who only look.
	viewLasts = time.Second
	// readQuickly is how long reading may take that is done for everybody who looks: in most labs
	// nobody is told what was so before they asked.
	readQuickly = 50 * time.Millisecond
)

// staleFor tells whether a view is too old for somebody who only looks since a time.
func (v *view) staleFor(asked time.Time) bool {
	return v.read.Before(asked) && (v.took < readQuickly || v.read.Before(asked.Add(-viewLasts)))
}

// withView works with a view that was not read before a time. The snapshot must not be changed.
func (l *Lab) withView(ctx context.Context, name shard.Name, notBefore time.Time, work func(*view)) error {
	return l.withViewUnless(ctx, name, func(v *view) bool { return v.read.Before(notBefore) }, work)
}

// look works with a view for somebody who only looks since a time. The snapshot must not be changed.
func (l *Lab) look(ctx context.Context, name shard.Name, asked time.Time, work func(*view)) error {
	return l.withViewUnless(ctx, name, func(v *view) bool { return v.staleFor(asked) }, work)
}

// withViewUnless works with the view that there is, or with a new one if that is too old.
func (l *Lab) withViewUnless(ctx context.Context, name shard.Name, tooOld func(*view) bool, work func(*view)) error {
	l.views.mu.Lock()
	defer l.views.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	v := l.views.all[name]
	if v == nil || tooOld(v) {
		var err error
		if v, err = l.readView(ctx, name); err != nil {
			return err
		}
		if l.views.all == nil {
			l.views.all = map[shard.Name]*view{}
		}
		l.views.all[name] = v
		time.AfterFunc(viewLasts, func() { l.forget(name, v) })
	}
	work(v)
	return nil
}

func (l *Lab) forget(name shard.Name, old *view) {
	l.views.mu.Lock()
	defer l.views.mu.Unlock()
	if l.views.all[name] == old {
		delete(l.views.all, name)
	}
}

func (l *Lab) readView(ctx context.Context, name shard.Name) (*view, error) {
	scope := l.scope
	scope.Shard, scope.Details, scope.DespitePause = name, true, true
	v := &view{read: time.Now()}
	var err error
	if v.snapshot, err = l.db.Snapshot(ctx, scope); err != nil {
		return nil, err
	}
	if v.snapshot.Recorder, err = l.db.Recorder(ctx, scope); err != nil {
		return nil, err
	}
	if v.snapshot.Elsewhere, err = admin.New(l.db).Elsewhere(ctx, scope); err != nil {
		return nil, err
	}
	v.paused, v.snapshot.Basis.Paused = v.snapshot.Basis.Paused, ""
	v.plan = scheduler.MakePlan(v.snapshot)
	v.took = time.Since(v.read)
	return v, nil
}

// planned is what the planner says of a job.
type planned struct {
	wanted  int
	entries []plannedEntry
	paused  string
	// own are the entries that somebody asks for together.
	own scheduler.Own
}

// plannedEntry has a host, or a reason why it gets none.
type plannedEntry struct {
	id     scheduler.EntryID
	host   string
	reason *scheduler.Reason
}

// suiteTried is the id of a suite that is only tried. Its jobs come after it.
const suiteTried = scheduler.JobID(scheduler.FirstTried)

// planNew plans the next tick of the shards that new jobs belong to, as if they were queued.
func (l *Lab) planNew(ctx context.Context, notBefore time.Time, b *batch) ([]planned, error) {
	out := make([]planned, len(b.jobs))
	names := map[shard.Name]bool{}
	for i := range b.jobs {
		out[i].wanted, out[i].own = len(b.jobs[i].entries), scheduler.Tried
		for _, e := range b.jobs[i].entries {
			names[e.shard] = true
		}
	}
	for name := range names {
		if err := l.withView(ctx, name, notBefore, func(v *view) { v.planNew(name, b, out) }); err != nil {
			return nil, l.explain(err, "plan with new jobs")
		}
	}
	return out, nil
}

func (v *view) planNew(name shard.Name, b *batch, out []planned) {
	s := *v.snapshot
	s.Jobs, s.Entries = slices.Clone(s.Jobs), slices.Clone(s.Entries)
	if b.newSuite != nil {
		s.Minimums = append(slices.Clone(s.Minimums), scheduler.Minimum{Suite: suiteTried, Value: strconv.Itoa(b.newSuite.Minimum)})
	}
	of := map[scheduler.EntryID]int{}
	for i := range b.jobs {
		j := &b.jobs[i]
		job := scheduler.JobID(scheduler.FirstTried + 1 + i)
		s.Jobs = append(s.Jobs, j.asJob(job, b, s.Now))
		for _, e := range j.entries {
			if e.shard != name {
				continue
			}
			id := scheduler.EntryID(scheduler.FirstTried + len(of))
			of[id] = i
			s.Entries = append(s.Entries, scheduler.Entry{ID: id, Job: job, Host: scheduler.HostID(e.host), MetaHost: scheduler.LabelID(e.meta)})
		}
	}
	plan := scheduler.MakePlan(&s)
	for _, a := range plan.Assignments {
		if i, ours := of[a.Entry]; ours {
			out[i].entries = append(out[i].entries, plannedEntry{host: a.Hostname})
		}
	}
	for _, w := range plan.Waiting {
		if i, ours := of[w.Entry]; ours {
			out[i].entries = append(out[i].entries, plannedEntry{reason: w.Reason})
		}
	}
	for i := range out {
		out[i].paused = v.paused
	}
}

// asJob is a new job as the planner reads it.
func (j *newJob) asJob(id scheduler.JobID, b *batch, now int64) scheduler.Job {
	spec := jobspec.Cleaned(*j.spec)
	before, _ := jobspec.RebootBefore(spec.Reboot) // it was checked
	job := scheduler.Job{
		ID: id, Owner: b.owner.login, User: scheduler.UserID(b.owner.id), Priority: int64(j.spec.Priority), Parent: scheduler.JobID(j.spec.Suite),
		SynchCount: jobspec.Synch(j.spec), RunVerify: j.spec.Verify != nil && *j.spec.Verify, RunReset: spec.Reset == nil || *spec.Reset,
		RebootBefore: scheduler.RebootBefore(before), Created: now,
	}
	if b.newSuite != nil {
		job.Parent = suiteTried
	}
	for _, l := range j.labels {
		job.Deps = append(job.Deps, scheduler.LabelID(l))
	}
	return job
}

// never says why some entry can never run, empty if each can some day. Each needs a host of
// its own.
func (p *planned) never() string {
	for _, e := range p.entries {
		switch r := e.reason; {
		case r == nil:
		case r.Code == scheduler.JobHasHosts, !r.Code.Lasting():
			if r.Matching > 0 && r.Eligible < p.wanted {
				return fmt.Sprintf("%d hosts are wanted, and there are only %d: %s", p.wanted, r.Eligible, r)
			}
		default:
			return r.String()
		}
	}
	return ""
}

// explanation says which hosts entries would get, or why none.
func (p *planned) explanation() *labapi.Explanation {
	e := &labapi.Explanation{}
	given, why := 0, ""
	for _, entry := range p.entries {
		e.Entries = append(e.Entries, entry.explain(p))
		switch {
		case entry.reason == nil:
			given++
		case why == "":
			why = entry.reason.TextFor(p.own)
		}
	}
	switch {
	case p.paused != "":
		e.Text = "waits: the shard is paused: " + p.paused
		if why != "" {
			e.Text += "; and besides: " + why
		}
	case given == len(p.entries):
		e.Text = fmt.Sprintf("the next tick gives %s", hostsText(given))
	case given > 0:
		e.Text = fmt.Sprintf("the next tick gives %s of %d; the others wait: %s", hostsText(given), len(p.entries), why)
	default:
		e.Text = "waits: " + why
	}
	return e
}

func hostsText(n int) string {
	if n == 1 {
		return "1 host"
	}
	return fmt.Sprintf("%d hosts", n)
}

func (e plannedEntry) explain(p *planned) labapi.EntryExplanation {
	out := labapi.EntryExplanation{Entry: int64(e.id)}
	switch {
	case e.reason != nil:
		out.Reasons = reasonsOf(e.reason, p.own)
	case p.paused != "":
		out.Reasons = []labapi.Reason{{Reason: fmt.Sprintf("the shard is paused: %s (would get host %s)", p.paused, e.host)}}
	default:
		out.Host = e.host
	}
	return out
}

// reasonsOf are the parts of a reason with their numbers, or the whole where it has none.
func reasonsOf(r *scheduler.Reason, own scheduler.Own) (out []labapi.Reason) {
	leasedTo := sqldb.Int64s(scheduler.Listed(r.LeasedTo()))
	parts := []labapi.Reason{
		{Reason: "leased", Hosts: r.Leased, Entries: leasedTo}, {Reason: "locked", Hosts: r.Locked}, {Reason: "draining", Hosts: r.Draining},
		{Reason: "without an agent that takes anything", Hosts: r.Away},
		{Reason: "held by another transaction", Hosts: r.Contended}, {Reason: "moving to another shard", Hosts: r.Moving}, {Reason: "wanted by special tasks", Hosts: r.ForTasks},
	}
	same, others := r.Given(own)
	for _, given := range []scheduler.Given{same, others} {
		parts = append(parts, labapi.Reason{Reason: given.Text, Hosts: given.Hosts, Entries: sqldb.Int64s(scheduler.Listed(given.Entries))})
	}
	parts = append(parts, labapi.Reason{Reason: "only in other ACL groups", Hosts: r.Matching - r.Eligible})
	for _, part := range parts {
		if part.Hosts > 0 {
			out = append(out, part)
		}
	}
	if len(out) == 0 || r.Code.Lasting() {
		return []labapi.Reason{{Reason: r.TextFor(own), Hosts: r.Matching, Entries: leasedTo}}
	}
	return out
}

// ExplainJob says why the entries of a job wait, or what became of them.
func (l *Lab) ExplainJob(ctx context.Context, id int64) (labapi.Explanation, error) {
	asked := time.Now()
	job, err := l.Job(ctx, id)
	if err != nil {
		return labapi.Explanation{}, err
	}
	names, err := l.shardsOf(ctx, []int64{id})
	if err != nil {
		return labapi.Explanation{}, err
	}
	waiting := map[int64]bool{}
	for _, e := range job.Entries {
		if e.Status == string(scheduler.StatusQueued) && !e.Active && !e.Complete && !e.Aborted {
			waiting[e.ID] = true
		}
	}
	own := scheduler.Own{Name: "this job", Has: func(entry scheduler.EntryID) bool { return waiting[int64(entry)] }}
	p := planned{wanted: len(waiting), own: own}
	see := l.look
	for round := 0; round < 2 && len(p.entries) < len(waiting); round++ {
		p.entries = nil
		for name := range names {
			if err := see(ctx, name, asked, func(v *view) { v.find(waiting, &p) }); err != nil {
				return labapi.Explanation{}, l.explain(err, "explain a job")
			}
		}
		see, asked = l.withView, time.Now() // for entries that are newer than the view that was there
	}
	e := p.ofJob(job)
	missing, err := l.missingAgents(ctx, id)
	if err == nil && missing != "" {
		e.Text += "; " + missing
	}
	return e, err
}

// missingAgents says for which hosts that a job has it waits for an agent, empty if there is
// none, or if the jobs of this lab need no agents.
func (l *Lab) missingAgents(ctx context.Context, job int64) (string, error) {
	if !l.scope.Agents {
		return "", nil
	}
	alone, err := l.withoutAgent(ctx, job)
	if err != nil {
		return "", err
	}
	if len(alone) > 0 {
		return "no agent serves host " + strings.Join(alone, ", ") + ": 'hostsched agent' tells how to give it one", nil
	}
	away, err := l.db.AgentsAway(ctx, "h.id IN (SELECT q.host_id FROM afe_host_queue_entries q WHERE q.job_id = ? AND q.active = 1 AND q.complete = 0 AND (q.status = 'Queued' OR q.status = 'Starting'"+notOwn+"))"+
		" AND "+FreeHost, job)
	var texts []string
	for _, a := range away {
		texts = append(texts, fmt.Sprintf("agent %s: %s", a.Agent, a.Reason))
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	return strings.Join(texts[:min(len(texts), 5)], "; "), err
}

// notOwn leaves out entries q of jobs that their submitters run themselves.
const notOwn = " AND NOT EXISTS (SELECT 1 FROM hostsched_own_jobs o WHERE o.job_id = q.job_id)"

// withoutAgent are some of the hosts on which a job would start if an agent served them.
func (l *Lab) withoutAgent(ctx context.Context, job int64) (names []string, err error) {
	query := "SELECT COALESCE(h.hostname, '') FROM afe_host_queue_entries q JOIN afe_hosts h ON h.id = q.host_id WHERE q.job_id = ? AND q.status = 'Starting' AND q.complete = 0" +
		" AND NOT EXISTS (SELECT 1 FROM hostsched_agent_hosts a WHERE a.host_id = q.host_id)" + notOwn + " ORDER BY q.id LIMIT 5"
	err = l.each(ctx, "look which hosts have no agent", query, []any{job}, func(scan sqldb.Scanner) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	})
	return names, err
}

// find collects what the plan says of entries.
func (v *view) find(waiting map[int64]bool, p *planned) {
	for _, a := range v.plan.Assignments {
		if waiting[int64(a.Entry)] {
			p.entries = append(p.entries, plannedEntry{id: a.Entry, host: a.Hostname})
		}
	}
	for _, w := range v.plan.Waiting {
		if waiting[int64(w.Entry)] {
			p.entries = append(p.entries, plannedEntry{id: w.Entry, reason: w.Reason})
		}
	}
	if v.paused != "" {
		p.paused = v.paused
	}
}

// ofJob explains a job of which some entries may have begun or ended.
func (p *planned) ofJob(job labapi.Job) labapi.Explanation {
	e := labapi.Explanation{}
	if len(p.entries) > 0 {
		e = *p.explanation()
	}
	var begun []string
	for _, entry := range job.Entries {
		if entry.Status == string(scheduler.StatusQueued) && !entry.Active && !entry.Complete && !entry.Aborted {
			continue
		}
		text := whatBecame(&entry)
		begun = append(begun, text)
		e.Entries = append(e.Entries, labapi.EntryExplanation{Entry: entry.ID, Host: entry.Host, Reasons: []labapi.Reason{{Reason: text}}})
	}
	slices.SortFunc(e.Entries, func(a, b labapi.EntryExplanation) int { return cmp.Compare(a.Entry, b.Entry) })
	if e.Text == "" {
		begun = slices.Compact(begun)
		e.Text = strings.Join(begun[:min(len(begun), 5)], ", ")
	}
	if e.Text == "" {
		e.Text = "is " + string(job.State)
	}
	return e
}

// whatBecame says what became of an entry that does not wait for a host. One that has a host
// stays Queued until its first task begins.
func whatBecame(e *labapi.Entry) string {
	switch {
	case e.Status == string(scheduler.StatusQueued) && e.Active:
		return "has host " + e.Host + ", and waits for its first task"
	case e.Aborted && !e.Complete:
		return "is being aborted in status " + e.Status
	case e.Host != "":
		return "is " + e.Status + " on " + e.Host
	}
	return "is " + e.Status
}
