package scheduler

import (
	"maps"
	"slices"
)

// Recorder is the suite recorder. It knows how many hosts each suite holds, and which
// suite holds a host (Autotest host_scheduler.SuiteRecorder). A suite holds a host from
// its assignment until its release. This includes the time between the end of the entry
// and the release, when no active entry belongs to the suite any more.
//
// A Recorder belongs to one term. The next term rebuilds its own recorder from the
// database with NewRecorder.
type Recorder struct {
	held  map[JobID]int
	suite map[HostID]JobID
}

// Holding is one host held by a suite.
type Holding struct {
	Host  HostID
	Suite JobID
}

// NewRecorder builds a recorder from the hosts that active, incomplete entries
// of suites hold.
func NewRecorder(holdings []Holding) *Recorder {
	r := &Recorder{held: map[JobID]int{}, suite: map[HostID]JobID{}}
	for _, h := range holdings {
		r.hold(h.Host, h.Suite)
	}
	return r
}

// Held returns how many hosts the suite holds.
func (r *Recorder) Held(suite JobID) int {
	if r == nil {
		return 0
	}
	return r.held[suite]
}

// SuiteOf returns the suite that holds the host, and 0 if there is none.
func (r *Recorder) SuiteOf(host HostID) JobID {
	if r == nil {
		return 0
	}
	return r.suite[host]
}

// Suites returns a copy of the counts. Suites that hold nothing are absent.
func (r *Recorder) Suites() map[JobID]int {
	if r == nil {
		return map[JobID]int{}
	}
	return maps.Clone(r.held)
}

// Hosts returns a copy of the map from hosts to the suites that hold them.
func (r *Recorder) Hosts() map[HostID]JobID {
	if r == nil {
		return map[HostID]JobID{}
	}
	return maps.Clone(r.suite)
}

// Drift is a host that two recorders count for different suites. The suite is 0 in the
// recorder that counts it for none.
type Drift struct {
	Host          HostID
	Kept, Rebuilt JobID
}

// Drift compares this recorder with one rebuilt from the database. A leased host that
// only this one knows is no drift, because it is between the end of its entry and its
// release.
func (r *Recorder) Drift(rebuilt *Recorder, leased func(HostID) bool) []Drift {
	var out []Drift
	for _, host := range slices.Sorted(maps.Keys(rebuilt.suite)) {
		if suite := rebuilt.suite[host]; r.suite[host] != suite {
			out = append(out, Drift{host, r.suite[host], suite})
		}
	}
	for _, host := range slices.Sorted(maps.Keys(r.suite)) {
		if rebuilt.suite[host] == 0 && !leased(host) {
			out = append(out, Drift{host, r.suite[host], 0})
		}
	}
	return out
}

// ForgetUnleased forgets hosts that are no longer leased although no plan released
// them, because somebody cleared the lease by hand. The original counts such hosts until
// it is restarted.
func (r *Recorder) ForgetUnleased(hosts []Host) {
	if len(r.suite) == 0 {
		return
	}
	found := 0
	for i := range hosts {
		id := hosts[i].ID
		if _, held := r.suite[id]; !held {
			continue
		}
		if !hosts[i].Leased {
			r.forget(id)
			continue
		}
		found++
	}
	if found < len(r.suite) {
		r.forgetMissing(hosts)
	}
}

// forgetMissing forgets hosts that do not exist any more.
func (r *Recorder) forgetMissing(hosts []Host) {
	there := make(map[HostID]bool, len(hosts))
	for i := range hosts {
		there[hosts[i].ID] = true
	}
	for id := range r.suite {
		if !there[id] {
			r.forget(id)
		}
	}
}

// Record updates the recorder with what a plan did.
func (r *Recorder) Record(p Plan) {
	for i := range p.Assignments {
		if a := &p.Assignments[i]; a.Suite != 0 {
			r.hold(a.Host, a.Suite)
		}
	}
	for _, rel := range p.Releases {
		r.forget(rel.Host)
	}
}

// Reconcile adds what a recorder rebuilt from the database knows, after a plan was
// applied in part. Hosts that only this recorder knows stay, because they are between
// the end of their entry and their release.
func (r *Recorder) Reconcile(rebuilt *Recorder) {
	for host, suite := range rebuilt.suite {
		r.hold(host, suite)
	}
}

// hold counts a host for a suite, and for no other suite any more.
func (r *Recorder) hold(host HostID, suite JobID) {
	if suite == 0 {
		return
	}
	r.forget(host)
	r.suite[host] = suite
	r.held[suite]++
}

func (r *Recorder) forget(host HostID) {
	suite, ok := r.suite[host]
	if !ok {
		return
	}
	delete(r.suite, host)
	if r.held[suite]--; r.held[suite] == 0 {
		delete(r.held, suite)
	}
}
