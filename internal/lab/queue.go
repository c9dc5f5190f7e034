package lab

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
)

// groupJobs is how many jobs of a group are named.
const groupJobs = 10

// Queue groups the waiting entries of all shards by what they ask for and why they wait, as the
// planner says it now. The groups come in the order in which their first entries are served.
func (l *Lab) Queue(ctx context.Context) ([]labapi.RequestGroup, error) {
	names, err := l.ShardNames(ctx)
	if err != nil {
		return nil, err
	}
	out := []labapi.RequestGroup{}
	for _, name := range names {
		err := l.look(ctx, shard.Name(name), time.Now(), func(v *view) { out = append(out, v.groups(name)...) })
		if err != nil {
			return nil, l.explain(err, "read the queue")
		}
	}
	slices.SortStableFunc(out, func(a, b labapi.RequestGroup) int { return cmp.Compare(b.Priority, a.Priority) })
	return out, nil
}

// grouping collects the groups of a view.
type grouping struct {
	v      *view
	shard  string
	labels map[scheduler.LabelID]string
	jobs   map[scheduler.JobID]*scheduler.Job
	hosts  map[scheduler.HostID]string
	at     map[string]int
	groups []labapi.RequestGroup
}

func (v *view) groups(name string) []labapi.RequestGroup {
	g := grouping{v: v, shard: name, labels: map[scheduler.LabelID]string{}, jobs: map[scheduler.JobID]*scheduler.Job{}, hosts: map[scheduler.HostID]string{}, at: map[string]int{}}
	for i := range v.snapshot.Labels {
		g.labels[v.snapshot.Labels[i].ID] = v.snapshot.Labels[i].Name
	}
	for i := range v.snapshot.Jobs {
		g.jobs[v.snapshot.Jobs[i].ID] = &v.snapshot.Jobs[i]
	}
	for i := range v.snapshot.Hosts {
		g.hosts[v.snapshot.Hosts[i].ID] = v.snapshot.Hosts[i].Hostname
	}
	entries := make(map[scheduler.EntryID]*scheduler.Entry, len(v.snapshot.Entries))
	for i := range v.snapshot.Entries {
		entries[v.snapshot.Entries[i].ID] = &v.snapshot.Entries[i]
	}
	for _, w := range v.plan.Waiting {
		g.add(entries[w.Entry], w.Job, w.Reason)
	}
	if v.paused != "" {
		for _, a := range v.plan.Assignments {
			g.add(entries[a.Entry], a.Job, nil)
		}
	}
	return g.groups
}

// add counts an entry. Without a reason it waits because its shard is paused.
func (g *grouping) add(e *scheduler.Entry, id scheduler.JobID, why *scheduler.Reason) {
	job := g.jobs[id]
	if e == nil || job == nil {
		return
	}
	labels := g.wanted(e, job)
	code := "paused"
	if why != nil {
		code = string(why.Code)
	}
	key := strings.Join(append([]string{code, g.hosts[e.Host], strconv.FormatInt(job.Priority, 10)}, labels...), "\x00")
	i, known := g.at[key]
	if !known {
		i = len(g.groups)
		g.at[key] = i
		g.groups = append(g.groups, g.group(e, job, labels, code, why))
	}
	group := &g.groups[i]
	group.Entries++
	group.OldestWait = max(group.OldestWait, g.v.snapshot.Now-job.Created)
	if job.Owner != group.Owner {
		group.Owner = ""
	}
	if n := len(group.Jobs); n < groupJobs && (n == 0 || group.Jobs[n-1] != int64(id)) {
		group.Jobs = append(group.Jobs, int64(id))
	}
}

func (g *grouping) group(e *scheduler.Entry, job *scheduler.Job, labels []string, code string, why *scheduler.Reason) labapi.RequestGroup {
	out := labapi.RequestGroup{Shard: g.shard, Labels: labels, Host: g.hosts[e.Host], Priority: job.Priority, Owner: job.Owner, Jobs: []int64{}, Code: code, Reason: "the shard is paused: " + g.v.paused}
	if why != nil {
		out.Reason, out.Never = why.String(), why.Code.Lasting()
		out.QueueNumbers = labapi.QueueNumbers{
			Matching: why.Matching, Eligible: why.Eligible, Leased: why.Leased, Locked: why.Locked, Draining: why.Draining, Away: why.Away,
			Given: why.GivenAway, Ahead: why.Ahead, Minimum: why.Minimum, Held: why.Held,
		}
	}
	return out
}

// wanted are the names of the labels that an entry requires.
func (g *grouping) wanted(e *scheduler.Entry, job *scheduler.Job) []string {
	names := []string{}
	for _, id := range job.Deps {
		names = append(names, g.labels[id])
	}
	if e.MetaHost != 0 {
		names = append(names, g.labels[e.MetaHost])
	}
	slices.Sort(names)
	return slices.Compact(names)
}
