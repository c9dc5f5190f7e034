package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// ErrNotFound means that a plan was asked for what is not in the database of the shard.
var ErrNotFound = errors.New("not found")

// PlanFilter says about which entries a plan is asked for. Zero values ask about all.
type PlanFilter struct {
	Job, Suite int64
	// Label is one that jobs depend on.
	Label string
}

// WaitingReason is how many entries wait for one reason.
type WaitingReason struct {
	Code string `json:"code"`
	// Never is true if waiting alone does not help.
	Never   bool `json:"never"`
	Entries int  `json:"entries"`
	// Entry is one of them, and Reason its reason in words.
	Entry  int64  `json:"entry"`
	Reason string `json:"reason"`
}

// sumUp counts the waiting entries by reason, the most frequent first.
func (r *PlanReport) sumUp() {
	r.Never = 0
	byCode := map[string]*WaitingReason{}
	for _, w := range r.Waiting {
		if w.Never {
			r.Never++
		}
		sum := byCode[w.Code]
		if sum == nil {
			sum = &WaitingReason{Code: w.Code, Never: w.Never, Entry: w.Entry, Reason: w.Reason}
			byCode[w.Code] = sum
		}
		sum.Entries++
	}
	r.WaitingByReason = []WaitingReason{}
	for _, sum := range byCode {
		r.WaitingByReason = append(r.WaitingByReason, *sum)
	}
	slices.SortFunc(r.WaitingByReason, func(a, b WaitingReason) int {
		return cmp.Or(b.Entries-a.Entries, cmp.Compare(a.Code, b.Code))
	})
}

// ofJobs are the assignments of a plan to jobs that were asked for.
func ofJobs(p scheduler.Plan, jobs map[int64]bool) []scheduler.Assignment {
	return slices.DeleteFunc(slices.Clone(p.Assignments), func(a scheduler.Assignment) bool { return !jobs[int64(a.Job)] })
}

// apply leaves in a report what concerns the jobs asked for.
func (f PlanFilter) apply(jobs map[int64]bool, r *PlanReport) {
	if f == (PlanFilter{}) {
		return
	}
	r.Assignments = slices.DeleteFunc(r.Assignments, func(a PlannedEntry) bool { return !jobs[a.Job] })
	r.Changes = slices.DeleteFunc(r.Changes, func(c PlannedChange) bool { return !jobs[c.Job] })
	r.Waiting = slices.DeleteFunc(r.Waiting, func(w WaitingEntry) bool { return !jobs[w.Job] })
	r.Aborts = slices.DeleteFunc(r.Aborts, func(a PlannedAbort) bool { return !jobs[a.Job] })
	r.noHosts()
	if !r.DoesSomething() && len(r.Waiting) == 0 {
		r.Note = fmt.Sprintf("nothing of %s waits for a host in shard %s", f, r.Shard)
	}
}

// isSuite is the condition on a job to be one that 'hostsched suite list' shows: the parent of
// others, or one with a guaranteed minimum.
const isSuite = " AND (EXISTS (SELECT 1 FROM afe_jobs c WHERE c.parent_job_id = j.id)" +
	" OR EXISTS (SELECT 1 FROM afe_job_keyvals k WHERE k.job_id = j.id AND k.`key` = 'suite_min_duts'))"

// find refuses what is not in the database, where an empty plan would say that nothing of it
// waits. It returns the id of the label.
func (f PlanFilter) find(ctx context.Context, s Shard) (scheduler.LabelID, error) {
	for _, row := range []struct {
		noun, condition string
		id              int64
	}{{"job", "", f.Job}, {"suite", isSuite, f.Suite}} {
		if row.id == 0 {
			continue
		}
		what := fmt.Sprintf("plan for %s %d", row.noun, row.id)
		found, err := sqldb.SelectIDs(ctx, s.DB.Pool, "SELECT id FROM afe_jobs j WHERE id = ?"+row.condition, row.id)
		if err != nil {
			return 0, sqldb.Explain(err, what, s.DB.Target())
		}
		if len(found) == 0 {
			return 0, fmt.Errorf("%w: %s: there is no such %s in %s, where shard %s has its jobs; 'hostsched %[3]s list' shows those that there are", ErrNotFound, what, row.noun, s.DB.Target(), s.Name)
		}
	}
	if f.Label == "" {
		return 0, nil
	}
	id, err := s.DB.LabelID(ctx, f.Label)
	if errors.Is(err, ErrInput) {
		return 0, fmt.Errorf("%w: plan for label %q: there is no such label in %s; 'hostsched label list' shows those that there are", ErrNotFound, f.Label, s.DB.Target())
	}
	return scheduler.LabelID(id), err
}

// String names what was asked for.
func (f PlanFilter) String() string {
	text, depend := "jobs", "depend"
	switch {
	case f.Job != 0:
		text, depend = fmt.Sprintf("job %d", f.Job), "depends"
	case f.Label == "":
		return fmt.Sprintf("suite %d", f.Suite)
	}
	if f.Suite != 0 {
		text += fmt.Sprintf(" of suite %d", f.Suite)
	}
	if f.Label != "" {
		text += fmt.Sprintf(" that %s on %s", depend, f.Label)
	}
	return text
}

// jobs are those that are asked for.
func (f PlanFilter) jobs(snapshot *scheduler.Snapshot, label scheduler.LabelID) map[int64]bool {
	byMetaHost := map[scheduler.JobID]bool{}
	for _, e := range snapshot.Entries {
		if label != 0 && e.MetaHost == label {
			byMetaHost[e.Job] = true
		}
	}
	out := map[int64]bool{}
	for _, j := range snapshot.Jobs {
		id, suite := int64(j.ID), int64(j.Parent)
		fits := (f.Job == 0 || id == f.Job) && (f.Suite == 0 || suite == f.Suite || id == f.Suite) &&
			(label == 0 || byMetaHost[j.ID] || slices.Contains(j.Deps, label))
		if fits {
			out[id] = true
		}
	}
	return out
}

// add adds those jobs that are asked for of which only an entry is aborted: it has a host, so
// that no snapshot has its job.
func (f PlanFilter) add(ctx context.Context, s Shard, label scheduler.LabelID, aborts []PlannedAbort, jobs map[int64]bool) error {
	if f == (PlanFilter{}) || len(aborts) == 0 {
		return nil
	}
	var args []any
	query := "SELECT j.id FROM afe_jobs j WHERE j.id IN " + sqldb.List(sqldb.IDsOf(aborts, func(a PlannedAbort) int64 { return a.Job }))
	for _, condition := range []struct {
		text string
		id   int64
	}{
		{"j.id = ?", f.Job}, {"COALESCE(j.parent_job_id, j.id) = ?", f.Suite},
		{"EXISTS (SELECT 1 FROM afe_jobs_dependency_labels d WHERE d.job_id = j.id AND d.label_id = ?)", int64(label)},
	} {
		if condition.id != 0 {
			query, args = query+" AND "+condition.text, append(args, condition.id)
		}
	}
	found, err := sqldb.SelectIDs(ctx, s.DB.Pool, query, args...)
	for _, id := range found {
		jobs[id] = true
	}
	return sqldb.Explain(err, "look for jobs that are aborted", s.DB.Target())
}

// DoesSomething tells whether the plan would do anything to what was asked for.
func (r PlanReport) DoesSomething() bool {
	return len(r.Leases)+len(r.Assignments)+len(r.Changes)+len(r.Releases)+len(r.Moves)+len(r.Unlocks)+len(r.Drained)+len(r.Aborts) > 0
}
