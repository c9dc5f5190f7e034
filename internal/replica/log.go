package replica

import (
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/scheduler"
)

// rounds are the rounds of a tick as the log calls them.
var rounds = map[scheduler.Round]string{
	scheduler.RoundNamed:   "named host",
	scheduler.RoundMinimum: "suite minimum",
	scheduler.RoundRest:    "rest",
}

// logApplied says for each host who got it and why, and which hosts were released. It
// costs nothing unless the log is told to show that.
func (r *Replica) logApplied(s *scheduler.Snapshot, applied scheduler.Plan) {
	level := hclog.Debug
	if r.cfg.LogAssignments {
		level = hclog.Info
	}
	if r.log.GetLevel() > level {
		return
	}
	if len(applied.Assignments) > 0 {
		wanted := labelsWanted(s, applied.Assignments)
		for i := range applied.Assignments {
			a := &applied.Assignments[i]
			r.log.Log(level, "assigned", "host", a.Hostname, "entry", a.Entry, "job", a.Job, "suite", a.Suite, "priority", a.Priority, "round", rounds[a.Round],
				"labels", strings.Join(wanted[a.Entry], ","), "tasks", strings.Join(a.Tasks.Names(), ","), "status", a.Status, "waited", a.QueuedSeconds)
		}
	}
	for _, l := range applied.Leases {
		r.log.Log(level, "leased for a frontend task", "host", l.Hostname)
	}
	for _, rel := range applied.Releases {
		r.log.Log(level, "released, because nobody uses it", "host", rel.Hostname)
	}
	for _, u := range applied.Unlocks {
		r.log.Log(level, "unlocked, because the time of its lock was over", "host", u.Hostname)
	}
	for _, d := range applied.Drained {
		r.log.Log(level, "locked, because it is drained", "host", d.Hostname, "by", d.By, "reason", d.Reason)
	}
	for _, a := range applied.Aborts {
		r.log.Log(level, "aborted, because its host drains and the deadline is past", "entry", a.Entry, "job", a.Job, "by", a.By)
	}
	for _, m := range applied.Moves {
		r.log.Log(level, "handed over to its shard", "host", m.Hostname, "shard id", m.To)
	}
}

// labelsWanted names the labels that entries ask for: that of the entry, and those that
// the job depends on.
func labelsWanted(s *scheduler.Snapshot, assignments []scheduler.Assignment) map[scheduler.EntryID][]string {
	names := make(map[scheduler.LabelID]string, len(s.Labels))
	for _, l := range s.Labels {
		names[l.ID] = l.Name
	}
	deps := make(map[scheduler.JobID][]scheduler.LabelID, len(s.Jobs))
	for i := range s.Jobs {
		deps[s.Jobs[i].ID] = s.Jobs[i].Deps
	}
	out := make(map[scheduler.EntryID][]string, len(assignments))
	for i := range assignments {
		out[assignments[i].Entry] = nil
	}
	for i := range s.Entries {
		e := &s.Entries[i]
		if _, assigned := out[e.ID]; !assigned {
			continue
		}
		labels := slices.Clone(deps[e.Job])
		if e.MetaHost != 0 && !slices.Contains(labels, e.MetaHost) {
			labels = append(labels, e.MetaHost)
		}
		for _, l := range labels {
			out[e.ID] = append(out[e.ID], names[l])
		}
	}
	return out
}
