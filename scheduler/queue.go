package scheduler

import (
	"cmp"
	"fmt"
	"slices"
)

// queue returns the pending entries in the order of the queue: priority, entries
// that name a host, entries with a meta_host, suite (none first), job, entry
// (Autotest JobQueryManager.get_pending_queue_entries). Entries without job are
// reported and left out.
//
// It divides the entries into parts by all that comes before the job in this order, and
// sorts the parts. There are far fewer parts than entries, and databases tend to return
// the rows of each part in the order of their ids, so often nothing is left to sort
// within a part.
func (p *planner) queue() []pending {
	parts := partition{number: make(map[place]int32), in: make([]int32, 0, len(p.s.Entries))}
	for i := range p.s.Entries {
		e := &p.s.Entries[i]
		job := p.job(e.Job)
		if job == nil {
			p.problem(e, fmt.Sprintf("entry %d belongs to job %d, which does not exist", e.ID, e.Job))
			parts.in = append(parts.in, noPart)
			continue
		}
		job.entries++
		parts.add(placeOf(e, job))
	}
	begin := parts.begin()
	next := slices.Clone(begin)
	out := make([]pending, parts.size)
	for i, n := range parts.in {
		if n == noPart {
			continue
		}
		e := &p.s.Entries[i]
		out[next[n]] = pending{entry: e, job: p.job(e.Job), host: -1}
		next[n]++
	}
	for n := range begin {
		part := out[begin[n]:next[n]]
		if !slices.IsSortedFunc(part, compareIDs) {
			slices.SortFunc(part, compareIDs)
		}
	}
	return out
}

// place is what the entries of one part of the queue have in common.
type place struct {
	priority int64
	rank     int8 // lowest for entries that name a host, then for those with a meta_host
	suite    JobID
}

func placeOf(e *Entry, job *jobInfo) place {
	at := place{priority: job.rank, suite: job.Parent}
	if e.Host == 0 {
		at.rank += 2
	}
	if e.MetaHost == 0 {
		at.rank++
	}
	return at
}

// partition divides the entries by their places.
type partition struct {
	number map[place]int32
	places []place
	sizes  []int
	size   int
	in     []int32 // position in the snapshot -> number of the part, or noPart
}

// noPart stands in partition.in for an entry that is left out of the queue.
const noPart = -1

// add appends an entry to the part of a place.
func (q *partition) add(at place) {
	q.size++
	// Neighbouring entries often belong to one suite, which saves looking up the place.
	if n := len(q.in); n > 0 && q.in[n-1] != noPart && at == q.places[q.in[n-1]] {
		q.in = append(q.in, q.in[n-1])
		q.sizes[q.in[n]]++
		return
	}
	n, known := q.number[at]
	if !known {
		n = int32(len(q.places))
		q.number[at] = n
		q.places, q.sizes = append(q.places, at), append(q.sizes, 0)
	}
	q.in = append(q.in, n)
	q.sizes[n]++
}

// begin returns where in the queue each part begins.
func (q *partition) begin() []int {
	begin, end := make([]int, len(q.places)), 0
	for _, at := range slices.SortedFunc(slices.Values(q.places), comparePlaces) {
		n := q.number[at]
		begin[n] = end
		end += q.sizes[n]
	}
	return begin
}

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.rank, b.rank), cmp.Compare(a.suite, b.suite))
}

func compareIDs(a, b pending) int {
	if a.entry.Job != b.entry.Job {
		return cmp.Compare(a.entry.Job, b.entry.Job)
	}
	return cmp.Compare(a.entry.ID, b.entry.ID)
}
