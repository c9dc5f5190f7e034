package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// jobState follows the entries of a synchronous job, which is one whose entries start
// together, while the plan is made. Starting or stopping such a job changes entries that
// got no host in this tick too.
type jobState struct {
	job     *Job
	entries []*entryState // by entry id
	stopped bool
	groups  int // the number of the next results directory, "groupN"
}

type entryState struct {
	id         EntryID
	host       *Host // nil if the entry has no host or one that is not in the snapshot
	hostID     HostID
	from       EntryStatus
	status     EntryStatus
	subdir     string
	assignment int // index into Plan.Assignments, -1 if none
}

// jobState returns the state of a job, and creates it from the job's pending entries and
// their siblings at the first call.
func (p *planner) jobState(jobs map[JobID]*jobState, job *Job) *jobState {
	if js := jobs[job.ID]; js != nil {
		return js
	}
	js := &jobState{job: job}
	jobs[job.ID] = js
	for _, sib := range p.siblings[job.ID] {
		es := &entryState{id: sib.ID, hostID: sib.Host, from: sib.Status, status: sib.Status, assignment: -1}
		if num, ok := p.hostNum.get(int64(sib.Host)); ok {
			es.host = p.hosts[num]
		}
		js.entries = append(js.entries, es)
		if n, ok := groupNumber(sib.Subdir); ok {
			js.groups = max(js.groups, n+1)
		}
	}
	for _, e := range p.synchEntries[job.ID] {
		js.entries = append(js.entries, &entryState{id: e.ID, hostID: e.Host, from: StatusQueued, status: StatusQueued, assignment: -1})
	}
	slices.SortFunc(js.entries, func(a, b *entryState) int { return cmp.Compare(a.id, b.id) })
	return js
}

// groupNumber reads N from an execution_subdir that begins with "groupN". ok is false if
// it does not begin so.
func groupNumber(subdir string) (n int, ok bool) {
	rest, ok := strings.CutPrefix(subdir, "group")
	if !ok {
		return 0, false
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	n, err := strconv.Atoi(rest[:end])
	return n, err == nil
}

// assign notes that an entry of the job got a host.
func (js *jobState) assign(id EntryID, assignment int, h *Host) {
	es := js.find(id)
	es.assignment = assignment
	es.host = h
	es.hostID = h.ID
}

func (js *jobState) find(id EntryID) *entryState {
	for _, es := range js.entries {
		if es.id == id {
			return es
		}
	}
	return nil
}

func (js *jobState) count(want func(EntryStatus) bool) int {
	n := 0
	for _, es := range js.entries {
		if want(es.status) {
			n++
		}
	}
	return n
}

// onPending makes the entry Pending. It then starts the job if synch_count entries are
// Pending, or stops it if so many can never be Pending.
func (js *jobState) onPending(id EntryID) {
	es := js.find(id)
	es.status = StatusPending
	pending := js.count(func(s EntryStatus) bool { return s == StatusPending })
	if pending >= js.job.SynchCount {
		js.start(es)
		return
	}
	if js.count(EntryStatus.notYetRun) < js.job.SynchCount {
		js.stop()
	}
}

// start makes the entry Starting, together with as many other Pending entries as the job
// needs. Those are chosen by hostname, and all get one results directory.
func (js *jobState) start(first *entryState) {
	chosen := []*entryState{first}
	var others []*entryState
	for _, es := range js.entries {
		if es != first && es.status == StatusPending {
			others = append(others, es)
		}
	}
	slices.SortStableFunc(others, func(a, b *entryState) int { return compareHostnames(a.host, b.host) })
	if want := js.job.SynchCount - 1; want > 0 {
		chosen = append(chosen, others[:want]...)
	}
	subdir := hostnameOf(first.host)
	if len(chosen) > 1 {
		subdir = fmt.Sprintf("group%d", js.groups)
		js.groups++
	}
	for _, es := range chosen {
		es.status = StatusStarting
		es.subdir = subdir
	}
}

// stop stops all entries of the job that have not begun to run.
func (js *jobState) stop() {
	js.stopped = true
	for _, es := range js.entries {
		if es.status == StatusPending || es.status == StatusQueued {
			es.status = StatusStopped
		}
	}
}

// compareHostnames orders hosts as Autotest's Host.cmp_for_sort does. Names that differ
// only in their trailing digits compare by that number, so that host9 precedes host10.
func compareHostnames(a, b *Host) int {
	an, bn := strings.ToLower(hostnameOf(a)), strings.ToLower(hostnameOf(b))
	ap, ad := splitDigits(an)
	bp, bd := splitDigits(bn)
	if ap == bp && ad != "" && bd != "" {
		x, errA := strconv.ParseUint(ad, 10, 64)
		y, errB := strconv.ParseUint(bd, 10, 64)
		if errA == nil && errB == nil && x != y {
			return cmp.Compare(x, y)
		}
	}
	return strings.Compare(an, bn)
}

func hostnameOf(h *Host) string {
	if h == nil {
		return ""
	}
	return h.Hostname
}

// splitDigits splits the trailing digits off a name.
func splitDigits(name string) (prefix, digits string) {
	prefix = strings.TrimRight(name, "0123456789")
	return prefix, name[len(prefix):]
}
