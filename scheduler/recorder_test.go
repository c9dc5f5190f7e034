package scheduler

import (
	"maps"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// TestRecorderKeptEqualsRebuilt plays ticks in which entries end and hosts are released,
// both by the tick and by hand. The recorder that was kept all the time must equal one
// rebuilt from the hosts that are held.
func TestRecorderKeptEqualsRebuilt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := labs().Draw(t, "lab")
		kept := NewRecorder(nil)
		s.Recorder = kept
		truth := map[HostID]JobID{}
		for range rapid.IntRange(1, 6).Draw(t, "ticks") {
			kept.ForgetUnleased(s.Hosts)
			p := MakePlan(clone(s))
			kept.Record(p)
			for _, a := range p.Assignments {
				if a.Suite != 0 && a.Status != StatusStopped {
					truth[a.Host] = a.Suite
				}
			}
			for _, r := range p.Releases {
				delete(truth, r.Host)
			}
			apply(s, p)
			s.Recorder = kept
			for i := range s.Hosts {
				h := &s.Hosts[i]
				if h.ActiveEntry != 0 && chance(t, 40) { // its entry ends
					h.ActiveEntry, h.OpenTask, h.Ready = 0, false, true
				}
				if h.Leased && chance(t, 10) { // somebody clears the lease
					h.Leased = false
					delete(truth, h.ID)
				}
			}
		}
		kept.ForgetUnleased(s.Hosts)
		if !maps.Equal(kept.Hosts(), truth) {
			t.Fatalf("kept %v, held %v", kept.Hosts(), truth)
		}
		rebuilt := NewRecorder(nil)
		for h, suite := range truth {
			rebuilt.hold(h, suite)
		}
		if !reflect.DeepEqual(kept.Suites(), rebuilt.Suites()) {
			t.Fatalf("kept %v, rebuilt %v", kept.Suites(), rebuilt.Suites())
		}
	})
}
