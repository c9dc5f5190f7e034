package scheduler_test

import (
	"fmt"
	"testing"

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

// BenchmarkRetries plans for jobs each of which was on a host of its own before and may not get
// that one again, of a suite whose minimum is for some of them: so many demands differ.
func BenchmarkRetries(b *testing.B) {
	const hosts, jobs = 2000, 4000
	for _, policy := range []scheduler.Policy{scheduler.PolicyExact, scheduler.PolicyOptimal} {
		b.Run(string(policy), func(b *testing.B) {
			s := &scheduler.Snapshot{
				Rules: scheduler.Rules{Policy: policy}, Labels: []scheduler.Label{{ID: 1, Name: "board:a"}},
				Users: []scheduler.User{{ID: 1, Login: "alice", ACLs: []scheduler.ACLID{1}}}, Minimums: []scheduler.Minimum{{Suite: 1 << 30, Value: "1000"}},
			}
			for i := range hosts {
				s.Hosts = append(s.Hosts, scheduler.Host{ID: scheduler.HostID(i + 1), Hostname: fmt.Sprintf("h%d", i), Ready: true, Labels: []scheduler.LabelID{1}, ACLs: []scheduler.ACLID{1}})
			}
			for i := range jobs {
				job := scheduler.JobID(i + 1)
				s.Jobs = append(s.Jobs, scheduler.Job{ID: job, Owner: "alice", User: 1, Parent: 1 << 30, SynchCount: 1, Deps: []scheduler.LabelID{1}})
				s.Entries = append(s.Entries, scheduler.Entry{ID: scheduler.EntryID(jobs + i + 1), Job: job, MetaHost: 1})
				s.Siblings = append(s.Siblings, scheduler.Sibling{ID: scheduler.EntryID(i + 1), Job: job, Host: scheduler.HostID(i%hosts + 1), Status: "Completed"})
			}
			b.ReportAllocs()
			for b.Loop() {
				if n := len(scheduler.MakePlan(s).Assignments); n != hosts {
					b.Fatalf("%d entries got a host, and not %d", n, hosts)
				}
			}
		})
	}
}
