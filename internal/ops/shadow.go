package ops

import (
	"context"
	"time"

	"github.com/hostsched/hostsched/scheduler"
)

// Agreement compares our plans with what another scheduler on the same database
// really does.
type Agreement struct {
	Ticks int `json:"ticks"`
	// Given counts entries that got a host; Agreed of them our last plan before
	// also gave one, SameHost the very same.
	Given    int `json:"given"`
	Agreed   int `json:"agreed"`
	SameHost int `json:"same_host"`
	// Unexpected got a host that our plan had not given them; Open are planned by
	// us and not, or not yet, given.
	Unexpected int `json:"unexpected"`
	Open       int `json:"open"`
	// Policy is how hosts were chosen in our plans. More is how many more entries our last
	// plan served than one under the policy that decides would have, at the same moment, and
	// Mean is the mean of More over all ticks. Both are 0 if the policies are the same.
	Policy scheduler.Policy `json:"policy"`
	More   int              `json:"more"`
	Mean   float64          `json:"mean_more"`
	PlanRules
	// Paused is nil unless the shard is paused: a leader of hostsched gives nothing then.
	Paused *Pause `json:"paused,omitempty"`
}

// Shadow plans at every interval, reads what the running scheduler did since,
// and reports the agreement so far to each. It writes nothing. It ends after
// ticks intervals, or never if ticks is 0, or when ctx does. An empty policy means
// that of the shard's scope.
func Shadow(ctx context.Context, s Shard, policy scheduler.Policy, interval time.Duration, ticks int, each func(Agreement) error) (err error) {
	defer func() {
		if ctx.Err() != nil {
			err = nil // whoever watches ends it, in the middle of a query or not
		}
	}()
	var sum Agreement
	planned := map[scheduler.EntryID]scheduler.HostID{}
	var pending []scheduler.EntryID
	clock := time.NewTicker(interval)
	defer clock.Stop()
	for n := 0; ticks == 0 || n < ticks; n++ {
		if n > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-clock.C:
			}
		}
		given, err := s.DB.HostsOf(ctx, pending)
		if err != nil {
			return err
		}
		sum.add(given, planned)
		report, err := MakePlanReport(ctx, s, policy, PlanFilter{})
		if err != nil {
			return err
		}
		// A prediction stands until its entry has a host: the other scheduler may
		// be in the middle of its tick.
		for _, a := range report.Plan.Assignments {
			planned[a.Entry] = a.Host
		}
		pending = report.Pending
		sum.Ticks++
		sum.Open, sum.Paused = len(report.Plan.Assignments), report.Paused
		sum.compare(report)
		if err := each(sum); err != nil {
			return err
		}
	}
	return nil
}

// compare adds what the policy gained in a plan.
func (a *Agreement) compare(r PlanReport) {
	a.Policy, a.PlanRules = r.Policy, r.PlanRules
	if r.Gain == nil {
		return
	}
	a.More = r.Gain.More()
	a.Mean += (float64(a.More) - a.Mean) / float64(a.Ticks)
}

func (a *Agreement) add(given map[scheduler.EntryID]scheduler.HostID, planned map[scheduler.EntryID]scheduler.HostID) {
	for entry, host := range given {
		a.Given++
		want, agreed := planned[entry]
		switch {
		case !agreed:
			a.Unexpected++
		case want == host:
			a.SameHost++
			fallthrough
		default:
			a.Agreed++
		}
		delete(planned, entry)
	}
}
