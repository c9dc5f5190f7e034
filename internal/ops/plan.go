package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// PlanReport is what the next tick would do, in a form for people and programs.
type PlanReport struct {
	Shard shard.Name `json:"shard"`
	// Policy is how hosts are chosen.
	Policy scheduler.Policy `json:"policy"`
	// Aging is how many points of priority a job gains for each hour it waits.
	Aging float64 `json:"aging"`
	PlanRules
	// Gain is nil unless another policy was asked for than the one that decides.
	Gain *Gain `json:"gain,omitempty"`
	// Paused is nil unless the shard is paused. Then a tick changes nothing, and
	// whoever would get a host is among Waiting.
	Paused *Pause `json:"paused,omitempty"`
	// Note says of what was asked for that nothing of it waits.
	Note        string          `json:"note,omitempty"`
	Leases      []PlannedHost   `json:"leases"`
	Assignments []PlannedEntry  `json:"assignments"`
	Changes     []PlannedChange `json:"changes"`
	Releases    []PlannedHost   `json:"releases"`
	Moves       []PlannedMove   `json:"moves"`
	// Unlocks are hosts whose locks end, Drained those that nobody uses any more and that become
	// locked, and Aborts entries that use a draining host for too long.
	Unlocks []PlannedHost  `json:"unlocks"`
	Drained []PlannedHost  `json:"drained"`
	Aborts  []PlannedAbort `json:"aborts"`
	Waiting []WaitingEntry `json:"waiting"`
	// WaitingByReason sums up Waiting.
	WaitingByReason []WaitingReason     `json:"waiting_by_reason"`
	Problems        []string            `json:"problems"`
	Never           int                 `json:"never"`
	Plan            scheduler.Plan      `json:"-"`
	Pending         []scheduler.EntryID `json:"-"`
}

// Gain compares the plan with the one under the policy that decides: that of the rules that a
// plan without --policy follows.
type Gain struct {
	Configured scheduler.Policy `json:"configured"`
	// Assigned are how many entries get a host, and Provisions how many of them need a
	// Provision task first: in this plan, and in the one under the configured policy.
	Assigned             int `json:"assigned"`
	Provisions           int `json:"provisions"`
	ConfiguredAssigned   int `json:"configured_assigned"`
	ConfiguredProvisions int `json:"configured_provisions"`
	// ByPriority are the priorities of which not as many entries get a host as under the
	// configured policy, the highest first.
	ByPriority []PriorityGain `json:"by_priority"`
}

// Priority is that of a job, null in JSON if the job has none.
type Priority int64

// MarshalJSON implements json.Marshaler.
func (p Priority) MarshalJSON() ([]byte, error) {
	if p == scheduler.NoPriority {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(p), 10), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Priority) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*p = scheduler.NoPriority
		return nil
	}
	return json.Unmarshal(text, (*int64)(p))
}

func (p Priority) String() string {
	if p == scheduler.NoPriority {
		return "none"
	}
	return strconv.FormatInt(int64(p), 10)
}

// PriorityGain is how many more entries of a priority get a host; less than 0 means fewer.
type PriorityGain struct {
	Priority Priority `json:"priority"`
	More     int      `json:"more"`
}

// More is how many more entries get a host than under the configured policy.
func (g *Gain) More() int { return g.Assigned - g.ConfiguredAssigned }

// PlannedHost is a host that would be leased or released.
type PlannedHost struct {
	Host     int64  `json:"host"`
	Hostname string `json:"hostname"`
}

// PlannedMove is a host that would go to another shard: a row of afe_shards, or 0
// for the master.
type PlannedMove struct {
	Host     int64  `json:"host"`
	Hostname string `json:"hostname"`
	To       int64  `json:"to_shard"`
}

// PlannedAbort is an entry that would be aborted, because its host is drained.
type PlannedAbort struct {
	Entry int64 `json:"entry"`
	Job   int64 `json:"job"`
	Host  int64 `json:"host"`
}

// PlannedEntry is an entry that would get a host.
type PlannedEntry struct {
	Entry    int64    `json:"entry"`
	Job      int64    `json:"job"`
	Suite    int64    `json:"suite,omitempty"`
	Priority Priority `json:"priority"`
	Host     int64    `json:"host"`
	Hostname string   `json:"hostname"`
	Round    int      `json:"round"`
	Tasks    []string `json:"tasks"`
	Status   string   `json:"status"`
}

// PlannedChange is an entry whose status would change without getting a host.
type PlannedChange struct {
	Entry int64  `json:"entry"`
	Job   int64  `json:"job"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// WaitingEntry is an entry that would get no host, and why.
type WaitingEntry struct {
	Entry int64  `json:"entry"`
	Job   int64  `json:"job"`
	Code  string `json:"code"`
	// Never is true if waiting alone does not help.
	Never    bool   `json:"never"`
	Reason   string `json:"reason"`
	Matching int    `json:"matching"`
	Eligible int    `json:"eligible"`
	Leased   int    `json:"leased"`
	// LeasedTo are the first of the entries that have those.
	LeasedTo  []int64 `json:"leased_to"`
	Locked    int     `json:"locked"`
	Draining  int     `json:"draining"`
	Away      int     `json:"away"`
	GivenAway int     `json:"given_away"`
	// GivenTo are the first of the entries that got those.
	GivenTo   []int64 `json:"given_to"`
	Contended int     `json:"contended"`
	Moving    int     `json:"moving"`
	// ForTasks are wanted by special tasks without entry.
	ForTasks int `json:"for_tasks"`
	Minimum  int `json:"minimum"`
	Held     int `json:"held"`
	Ahead    int `json:"ahead"`
}

// codePaused is the reason of an entry that would be served if the shard were not
// paused.
const codePaused = "paused"

// MakePlanReport plans the next tick of a shard and changes nothing. The suite
// recorder is rebuilt from the database, as after a failover. An empty policy means that of
// the shard's scope.
func MakePlanReport(ctx context.Context, s Shard, policy scheduler.Policy, filter PlanFilter) (PlanReport, error) {
	scope := s.Scope
	scope.Details, scope.DespitePause = true, true
	label, err := filter.find(ctx, s)
	if err != nil {
		return PlanReport{}, err
	}
	snapshot, err := s.DB.Snapshot(ctx, scope)
	if err != nil {
		return PlanReport{}, err
	}
	if snapshot.Recorder, err = s.DB.Recorder(ctx, scope); err != nil {
		return PlanReport{}, err
	}
	if snapshot.Elsewhere, err = s.DB.Elsewhere(ctx, scope); err != nil {
		return PlanReport{}, err
	}
	paused := snapshot.Basis.Paused
	snapshot.Basis.Paused = ""
	configured := snapshot.Rules.Policy.OrDefault()
	if policy == "" {
		policy = configured
	}
	snapshot.Rules.Policy = policy
	plan, err := planned(ctx, snapshot)
	if err != nil {
		return PlanReport{}, err
	}
	r := report(scope.Shard, plan)
	r.Policy, r.Aging, r.PlanRules = policy, snapshot.Rules.Aging, s.Rules
	asked := filter.jobs(snapshot, label)
	if policy != configured {
		snapshot.Rules.Policy = configured
		other, err := planned(ctx, snapshot)
		if err != nil {
			return PlanReport{}, err
		}
		r.Gain = gain(configured, ofJobs(r.Plan, asked), ofJobs(other, asked))
	}
	unserved, err := s.DB.Waiting(ctx, scope)
	if err != nil {
		return PlanReport{}, err
	}
	for _, w := range unserved {
		r.Problems = append(r.Problems, w.String())
	}
	for _, e := range snapshot.Entries {
		r.Pending = append(r.Pending, e.ID)
	}
	if paused != "" {
		p, err := readPause(ctx, s.DB, scope.Shard, paused)
		if err != nil {
			return PlanReport{}, err
		}
		r.hold(p)
	}
	if err := filter.add(ctx, s, label, r.Aborts, asked); err != nil {
		return PlanReport{}, err
	}
	filter.apply(asked, &r)
	r.sumUp()
	return r, nil
}

// planned makes a plan, for as long as somebody waits for it.
func planned(ctx context.Context, s *scheduler.Snapshot) (scheduler.Plan, error) {
	made := make(chan scheduler.Plan, 1)
	go func() { made <- scheduler.MakePlan(s) }()
	select {
	case p := <-made:
		return p, nil
	case <-ctx.Done():
		return scheduler.Plan{}, fmt.Errorf("plan: %w", context.Cause(ctx))
	}
}

func gain(configured scheduler.Policy, plan, other []scheduler.Assignment) *Gain {
	more := map[int64]int{}
	for _, a := range plan {
		more[a.Priority]++
	}
	for _, a := range other {
		more[a.Priority]--
	}
	g := &Gain{
		Configured: configured,
		Assigned:   len(plan), Provisions: provisions(plan),
		ConfiguredAssigned: len(other), ConfiguredProvisions: provisions(other),
		ByPriority: []PriorityGain{},
	}
	for _, priority := range slices.Backward(slices.Sorted(maps.Keys(more))) {
		if n := more[priority]; n != 0 {
			g.ByPriority = append(g.ByPriority, PriorityGain{Priority(priority), n})
		}
	}
	return g
}

func provisions(assignments []scheduler.Assignment) int {
	n := 0
	for _, a := range assignments {
		if a.Tasks&scheduler.Provision != 0 {
			n++
		}
	}
	return n
}

// hold makes the report that of a paused shard: what would be done is not, and
// the entries concerned wait.
func (r *PlanReport) hold(p Pause) {
	var waiting []WaitingEntry
	held := func(entry, job int64, would string) {
		waiting = append(waiting, WaitingEntry{Entry: entry, Job: job, Code: codePaused, Reason: "because the shard is paused (would " + would + ")", LeasedTo: []int64{}, GivenTo: []int64{}})
	}
	for _, a := range r.Assignments {
		held(a.Entry, a.Job, "get host "+a.Hostname)
	}
	for _, c := range r.Changes {
		held(c.Entry, c.Job, "change from "+c.From+" to "+c.To)
	}
	r.Paused = &p
	r.Plan = scheduler.Plan{Basis: r.Plan.Basis, Waiting: r.Plan.Waiting, Problems: r.Plan.Problems}
	r.Waiting = append(waiting, r.Waiting...)
	r.Assignments, r.Changes, r.Aborts = []PlannedEntry{}, []PlannedChange{}, []PlannedAbort{}
	r.noHosts()
}

// noHosts leaves out what concerns hosts only.
func (r *PlanReport) noHosts() {
	r.Leases, r.Releases, r.Unlocks, r.Drained, r.Moves = []PlannedHost{}, []PlannedHost{}, []PlannedHost{}, []PlannedHost{}, []PlannedMove{}
}

func report(name shard.Name, p scheduler.Plan) PlanReport {
	// Lists are never null in JSON.
	r := PlanReport{
		Shard: name, Assignments: []PlannedEntry{}, Changes: []PlannedChange{},
		Aborts: []PlannedAbort{}, Waiting: []WaitingEntry{}, Problems: []string{}, Plan: p,
	}
	r.noHosts()
	for _, l := range p.Leases {
		r.Leases = append(r.Leases, PlannedHost{int64(l.Host), l.Hostname})
	}
	for _, a := range p.Assignments {
		tasks := a.Tasks.Names()
		if tasks == nil {
			tasks = []string{}
		}
		r.Assignments = append(r.Assignments, PlannedEntry{
			Entry: int64(a.Entry), Job: int64(a.Job), Suite: int64(a.Suite), Priority: Priority(a.Priority),
			Host: int64(a.Host), Hostname: a.Hostname, Round: int(a.Round), Tasks: tasks, Status: string(a.Status),
		})
	}
	for _, c := range p.Changes {
		r.Changes = append(r.Changes, PlannedChange{int64(c.Entry), int64(c.Job), string(c.From), string(c.Status)})
	}
	for _, rel := range p.Releases {
		r.Releases = append(r.Releases, PlannedHost{int64(rel.Host), rel.Hostname})
	}
	for _, u := range p.Unlocks {
		r.Unlocks = append(r.Unlocks, PlannedHost{int64(u.Host), u.Hostname})
	}
	for _, d := range p.Drained {
		r.Drained = append(r.Drained, PlannedHost{int64(d.Host), d.Hostname})
	}
	for _, a := range p.Aborts {
		r.Aborts = append(r.Aborts, PlannedAbort{int64(a.Entry), int64(a.Job), int64(a.Host)})
	}
	for _, m := range p.Moves {
		r.Moves = append(r.Moves, PlannedMove{int64(m.Host), m.Hostname, int64(m.To)})
	}
	worded := map[*scheduler.Reason]WaitingEntry{} // thousands of entries may share a reason
	for _, w := range p.Waiting {
		e, known := worded[w.Reason]
		if !known {
			e = waitingFor(w.Reason)
			worded[w.Reason] = e
		}
		e.Entry, e.Job = int64(w.Entry), int64(w.Job)
		r.Waiting = append(r.Waiting, e)
	}
	for _, pr := range p.Problems {
		r.Problems = append(r.Problems, pr.Text)
	}
	return r
}

// waitingFor is what is the same for all entries that wait for a reason.
func waitingFor(why *scheduler.Reason) WaitingEntry {
	_, others := why.Given(scheduler.Tried)
	return WaitingEntry{
		Code: string(why.Code), Never: why.Code.Lasting(), Reason: why.String(),
		Matching: why.Matching, Eligible: why.Eligible, Leased: why.Leased, LeasedTo: listed(why.LeasedTo()), Locked: why.Locked,
		Draining: why.Draining, Away: why.Away, GivenAway: why.GivenAway, GivenTo: listed(others.Entries), Contended: why.Contended, Moving: why.Moving, ForTasks: why.ForTasks,
		Minimum: why.Minimum, Held: why.Held, Ahead: why.Ahead,
	}
}

func listed(entries []scheduler.EntryID) []int64 { return sqldb.Int64s(scheduler.Listed(entries)) }
