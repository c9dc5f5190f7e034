package scheduler

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// readMinimums parses the suite_min_duts keyvals of suites. It notes those that are not
// integers in badMinimums.
func (p *planner) readMinimums() {
	for _, m := range p.s.Minimums {
		n, ok := parseMinimum(m.Value)
		if !ok {
			p.badMinimums[m.Suite] = m.Value
			continue
		}
		p.minimums[m.Suite] = n
	}
}

// reportMinimums reports the keyvals that are no integers and keep entries waiting.
func (p *planner) reportMinimums() {
	for _, suite := range slices.Sorted(maps.Keys(p.blockedSuites)) {
		p.plan.Problems = append(p.plan.Problems, Problem{Text: fmt.Sprintf(
			"suite %d: keyval suite_min_duts is %q, which is no integer; its entries wait until it is corrected", suite, p.badMinimums[suite])})
	}
}

// parseMinimum parses a number as Python's int() does, which allows surrounding white
// space and a sign. A negative number counts as no minimum.
func parseMinimum(value string) (int, bool) {
	digits := strings.TrimSpace(value)
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	if digits == "" {
		return 0, false
	}
	n := 0
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, false
		}
		// A value that is larger than the number of hosts in any lab means all hosts.
		n = min(n*10+int(c-'0'), math.MaxInt32)
	}
	if negative {
		return 0, true
	}
	return n, true
}

// roundMinimum is round 1. It assigns to every suite as many hosts as it still lacks to
// its guaranteed minimum. The requests of a suite share this number in the order in which
// they are served. It shrinks by what a request asks for, whether or not there was a host
// (Autotest rdb.RequestAccountant.get_min_duts).
func (p *planner) roundMinimum() {
	budget := make(map[JobID]int, len(p.minimums))
	for suite, minimum := range p.minimums {
		budget[suite] = max(0, minimum-p.s.Recorder.Held(suite))
	}
	for i := range p.groups {
		if g := &p.groups[i]; g.key.suite != 0 {
			g.asked = min(len(g.entries), budget[g.key.suite])
			budget[g.key.suite] -= g.asked
		}
	}
	p.chooseForMinimums()
	for i := range p.groups {
		if g := &p.groups[i]; g.asked > 0 {
			p.serve(g, g.asked, RoundMinimum)
		}
	}
}
