package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/paperlab"
	"github.com/hostsched/hostsched/scheduler"
)

func BenchmarkMakePlan(b *testing.B) {
	for _, policy := range []scheduler.Policy{scheduler.PolicyExact, scheduler.PolicyOptimal} {
		for _, size := range []struct{ hosts, entries int }{{1000, 2000}, {10_000, 10_000}, {10_000, 20_000}, {100_000, 200_000}} {
			b.Run(fmt.Sprintf("%s/%dx%d", policy, size.hosts, size.entries), func(b *testing.B) {
				s := paperlab.Spec{Hosts: size.hosts, Entries: size.entries, Capabilities: paperlab.Balanced}.Snapshot()
				s.Rules.Policy = policy
				assigned := 0
				b.ReportAllocs()
				for b.Loop() {
					assigned = len(scheduler.MakePlan(s).Assignments)
				}
				b.ReportMetric(float64(assigned), "assigned")
			})
		}
	}
}

// retries is a lab with hosts of one board and one of 50 builds, and jobs that may have any of
// them. One of so many jobs was on hosts before and may not get those again: so many demands
// differ.
type retries struct {
	hosts, jobs  int
	every, tried int
	// prefer makes each job prefer a build, and minimum is what their suite is guaranteed.
	prefer  bool
	minimum string
}

func (r retries) snapshot(policy scheduler.Policy) *scheduler.Snapshot {
	const builds, firstBuild, suite = 50, 2, 1 << 30
	rng := rand.New(rand.NewPCG(1, 2))
	s := &scheduler.Snapshot{
		Rules: scheduler.Rules{Policy: policy}, Labels: []scheduler.Label{{ID: 1, Name: "board:a"}},
		Users: []scheduler.User{{ID: 1, Login: "alice", ACLs: []scheduler.ACLID{1}}},
	}
	if r.minimum != "" {
		s.Minimums = []scheduler.Minimum{{Suite: suite, Value: r.minimum}}
	}
	build := func() scheduler.LabelID { return scheduler.LabelID(firstBuild + rng.IntN(builds)) }
	for i := range builds {
		s.Labels = append(s.Labels, scheduler.Label{ID: scheduler.LabelID(firstBuild + i), Name: fmt.Sprintf("cros-version:R%d", i)})
	}
	for i := range r.hosts {
		s.Hosts = append(s.Hosts, scheduler.Host{ID: scheduler.HostID(i + 1), Hostname: fmt.Sprintf("h%06d", i), Ready: true, Labels: []scheduler.LabelID{1, build()}, ACLs: []scheduler.ACLID{1}})
	}
	for i := range r.jobs {
		job := scheduler.Job{ID: scheduler.JobID(i + 1), Owner: "alice", User: 1, Parent: suite, SynchCount: 1, Deps: []scheduler.LabelID{1}}
		if r.prefer {
			job.Deps = append(job.Deps, build())
		}
		s.Jobs = append(s.Jobs, job)
		s.Entries = append(s.Entries, scheduler.Entry{ID: scheduler.EntryID(i + 1), Job: job.ID, MetaHost: 1})
		if i%r.every != 0 {
			continue
		}
		for range r.tried {
			id := scheduler.EntryID(r.jobs + len(s.Siblings) + 1)
			s.Siblings = append(s.Siblings, scheduler.Sibling{ID: id, Job: job.ID, Host: scheduler.HostID(rng.IntN(r.hosts) + 1), Status: "Completed"})
		}
	}
	return s
}

// labsOfRetries are such labs of several sizes.
var labsOfRetries = []retries{
	{hosts: 2000, jobs: 4000, every: 1, tried: 1, minimum: "1000"},
	{hosts: 10_000, jobs: 50_000, every: 10, tried: 1},
	{hosts: 10_000, jobs: 50_000, every: 1, tried: 1},
	{hosts: 10_000, jobs: 50_000, every: 1, tried: 1, prefer: true},
	{hosts: 10_000, jobs: 50_000, every: 1, tried: 2},
	{hosts: 10_000, jobs: 50_000, every: 1, tried: 2, prefer: true, minimum: "20000"},
}

func (r retries) String() string {
	name := fmt.Sprintf("%dx%d,tried=%d", r.hosts, r.jobs, r.tried)
	if r.every > 1 {
		name += fmt.Sprintf("/%d", r.every)
	}
	if r.prefer {
		name += ",prefer"
	}
	if r.minimum != "" {
		name += ",minimum=" + r.minimum
	}
	return name
}

func BenchmarkRetries(b *testing.B) {
	for _, r := range labsOfRetries {
		for _, policy := range []scheduler.Policy{scheduler.PolicyExact, scheduler.PolicyOptimal} {
			b.Run(fmt.Sprintf("%s/%s", policy, r), func(b *testing.B) {
				s := r.snapshot(policy)
				b.ReportAllocs()
				for b.Loop() {
					if n := len(scheduler.MakePlan(s).Assignments); n != r.hosts {
						b.Fatalf("%d entries got a host, and not %d", n, r.hosts)
					}
				}
			})
		}
	}
}

// TestMemoryOfRetries: a plan under the policy optimal takes memory that grows with the lab, as
// one under exact does, and not with hosts times the jobs that were on some of them before.
func TestMemoryOfRetries(t *testing.T) {
	const factor = 3 // it is 1.1 to 1.6; with a list of hosts for each job it was 9 to 150
	for _, r := range labsOfRetries {
		exact, optimal := allocated(r.snapshot(scheduler.PolicyExact)), allocated(r.snapshot(scheduler.PolicyOptimal))
		t.Logf("%s: exact %d KiB, optimal %d KiB", r, exact>>10, optimal>>10)
		require.LessOrEqual(t, optimal, factor*exact, "bytes that a plan for %s takes under optimal, and %d times those under exact", r, factor)
	}
}

// allocated returns how many bytes one plan takes.
func allocated(s *scheduler.Snapshot) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	scheduler.MakePlan(s)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
