package lifecycle

import (
	"cmp"
	"maps"
	"slices"

	"github.com/hostsched/hostsched/scheduler"
)

// Change is a row before and after. A row that is new has no before, one that goes no after.
type Change[ID cmp.Ordered, Row comparable] struct {
	ID            ID
	Before, After *Row
}

// Writes are the rows that differ between two states, each list sorted by id.
type Writes struct {
	Entries []Change[scheduler.EntryID, Entry]
	Hosts   []Change[scheduler.HostID, Host]
	Tasks   []Change[TaskID, Task]
	// Eligible are the hosts that lose their row of afe_ineligible_host_queues.
	Eligible []scheduler.HostID
}

// Diff returns what to write.
func Diff(before, after State) Writes {
	w := Writes{
		Entries: diff(columns(before.Entries), columns(after.Entries)),
		Hosts:   diff(before.Hosts, after.Hosts),
		Tasks:   diff(before.Tasks, after.Tasks),
	}
	for _, host := range slices.Sorted(maps.Keys(before.Ineligible)) {
		if !after.Ineligible[host] {
			w.Eligible = append(w.Eligible, host)
		}
	}
	return w
}

// columns are entries without what is no column of their rows.
func columns(entries map[scheduler.EntryID]Entry) map[scheduler.EntryID]Entry {
	out := maps.Clone(entries)
	for id, e := range out {
		e.Claimed = false
		out[id] = e
	}
	return out
}

func diff[ID cmp.Ordered, Row comparable](before, after map[ID]Row) []Change[ID, Row] {
	var out []Change[ID, Row]
	for id, was := range before {
		is, still := after[id]
		switch {
		case !still:
			out = append(out, Change[ID, Row]{ID: id, Before: &was})
		case is != was:
			out = append(out, Change[ID, Row]{ID: id, Before: &was, After: &is})
		}
	}
	for id, is := range after {
		if _, was := before[id]; !was {
			out = append(out, Change[ID, Row]{ID: id, After: &is})
		}
	}
	// New tasks have falling ids: the one queued last comes first.
	slices.SortFunc(out, func(a, b Change[ID, Row]) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
