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
