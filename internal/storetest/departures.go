package storetest

// Departure is a scenario in which we differ from the original on purpose.
type Departure struct {
	// Reason says why.
	Reason string
	// Acquired are the entries that get a host from us, tick by tick.
	Acquired [][]int64
}

// Departures are asserted as departures: a scenario listed here must differ in
// exactly this way.
var Departures = map[string]Departure{
	"small_crash_min_duts_not_an_integer": {
		Reason:   "a suite_min_duts that is no integer ended the original; we report it and pass over the entries of that suite only",
		Acquired: [][]int64{{4}},
	},
	"small_crash_one_time_host_of_unknown_owner": {
		Reason:   "an owner without user row ended the original half-way; we report the entry and pass over it",
		Acquired: [][]int64{{2}},
	},
	"small_stale_cache_line_loses_a_host": {
		Reason:   "the original's stale cache line loses a free host for a tick; we have no such cache",
		Acquired: [][]int64{{1, 2, 3}, {}},
	},
	"small_stale_line_third_request_is_served": {
		Reason:   "the original's stale cache line serves a lower priority first; we have no such cache",
		Acquired: [][]int64{{1, 2, 3}, {}},
	},
	"small_unleased_by_hand_is_assigned_twice": {
		Reason:   "a host with an active entry is never assigned, even when its lease was cleared by hand",
		Acquired: [][]int64{{}},
	},
}
