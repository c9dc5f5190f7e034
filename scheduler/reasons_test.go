package scheduler

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// reasonsLab has one board with hosts in every state.
func reasonsLab() *Snapshot {
	host := func(id HostID, name string, change func(*Host)) Host {
		h := Host{ID: id, Hostname: name, Ready: true, Labels: []LabelID{1, 2}, ACLs: []ACLID{1}}
		change(&h)
		return h
	}
	leased := func(h *Host) { h.Leased, h.ActiveEntry = true, 20+EntryID(h.ID) }
	return &Snapshot{
		Details:   true,
		Labels:    []Label{{1, "board:eve"}, {2, "pool:bvt"}, {3, "stylus"}},
		ACLGroups: []ACLGroup{{1, "Everyone"}, {2, "team_a"}},
		Users:     []User{{1, "alice", []ACLID{1}}, {2, "loner", nil}},
		Hosts: []Host{
			host(1, "e1", leased), host(2, "e2", leased), host(3, "e3", leased),
			host(4, "e4", func(h *Host) {
				h.Locked, h.LockedSince, h.LockReason = true, "2019-04-01 10:00:00", "broken screen"
			}),
			host(5, "e5", func(h *Host) { h.ACLs = []ACLID{2} }),
			host(6, "e6", func(*Host) {}),
			host(7, "gone", func(h *Host) { h.Invalid, h.Shard = true, 3 }),
		},
		Jobs: []Job{
			{ID: 10, Owner: "alice", User: 1, Priority: 50, Parent: 81, Deps: []LabelID{1, 2}},
			{ID: 11, Owner: "alice", User: 1, Priority: 40, Parent: 90, Deps: []LabelID{1, 2}},
			{ID: 12, Owner: "loner", User: 2, Priority: 40, Deps: []LabelID{1}},
			{ID: 13, Owner: "alice", User: 1, Priority: 40, Deps: []LabelID{1, 3}},
			{ID: 14, Owner: "ghost", Priority: 40},
			{ID: 15, Owner: "alice", User: 1, Priority: 40, Deps: []LabelID{3}},
			{ID: 16, Owner: "alice", User: 1, Priority: 30, Parent: 99},
		},
		Entries: []Entry{
			{ID: 1, Job: 10, MetaHost: 1}, {ID: 2, Job: 11, MetaHost: 1}, {ID: 3, Job: 12, MetaHost: 1}, {ID: 4, Job: 13, MetaHost: 1},
			{ID: 5, Job: 14, MetaHost: 1}, {ID: 6, Job: 15, Host: 4}, {ID: 7, Job: 15, Host: 99}, {ID: 8, Job: 15, Host: 7}, {ID: 9, Job: 16, MetaHost: 1},
		},
		Minimums: []Minimum{{90, "4"}, {99, "many"}},
		Recorder: NewRecorder([]Holding{{1, 81}, {2, 90}, {3, 90}}),
	}
}

// TestReasons checks that every entry that got no host has a reason with numbers.
func TestReasons(t *testing.T) {
	s := reasonsLab()
	p := MakePlan(s)
	require.Len(t, p.Assignments, 1)
	require.Equal(t, EntryID(2), p.Assignments[0].Entry, "the suite with a minimum comes first")
	got := map[EntryID]*Reason{}
	for _, w := range p.Waiting {
		got[w.Entry] = w.Reason
	}
	for entry, want := range map[EntryID]struct {
		code    Code
		lasting bool
		text    string
	}{
		1: {Outranked, false, "needs board:eve, pool:bvt: 6 hosts match; 3 leased (to entries 21, 22, 23, for suites 81, 90), 1 locked (e4 (since 2019-04-01 10:00:00, broken screen)), " +
			"1 given to others in this tick (entry 2), 1 only in other ACL groups (team_a); 0 entries ahead"},
		3: {NoACLGroup, true, `owner "loner" is in no ACL group`},
		4: {NoMatchingHost, true, "needs board:eve, stylus: no host carries stylus"},
		5: {UnknownOwner, true, `owner "ghost" has no row in afe_users`},
		6: {HostLacksLabels, true, "names host e4, which lacks stylus and is locked (since 2019-04-01 10:00:00, broken screen)"},
		7: {NoSuchHost, true, "names host 99, which does not exist"},
		8: {HostOnShard, true, "names host gone, which belongs to shard 3 and lacks stylus"},
		9: {BadMinimum, true, `keyval suite_min_duts of suite 99 is "many", which is no integer`},
	} {
		require.Equal(t, want.code, got[entry].Code, "entry %d", entry)
		require.Equal(t, want.text, got[entry].String(), "entry %d", entry)
		require.Equal(t, want.lasting, got[entry].Code.Lasting(), "entry %d", entry)
	}

	// When nothing is free any more, the reason names the suite's guaranteed minimum.
	s.Hosts[5].Leased = true
	for _, w := range MakePlan(s).Waiting {
		if w.Entry == 2 {
			require.Equal(t, HostsBusy, w.Reason.Code)
			require.Contains(t, w.Reason.String(), "suite minimum 4, holds 2; 3 entries ahead")
		}
	}
}

// TestReasonsOfHostsForTasks: a host that a special task without entry gets, or has, is nobody's
// who came first.
func TestReasonsOfHostsForTasks(t *testing.T) {
	s := &Snapshot{
		Details: true, Labels: []Label{{1, "board:a"}}, Users: []User{{1, "alice", []ACLID{1}}}, TaskHosts: []HostID{1, 3}, Recorder: NewRecorder(nil),
		Hosts: []Host{
			{ID: 1, Hostname: "h1", Ready: true, Labels: []LabelID{1}, ACLs: []ACLID{1}},
			{ID: 2, Hostname: "h2", Ready: true, Leased: true, OpenTask: true, Labels: []LabelID{1}, ACLs: []ACLID{1}},
			{ID: 3, Hostname: "h3", Ready: true, ACLs: []ACLID{1}},
		},
		Jobs:    []Job{{ID: 10, Owner: "alice", User: 1, SynchCount: 1, Deps: []LabelID{1}}, {ID: 11, Owner: "alice", User: 1, SynchCount: 1}},
		Entries: []Entry{{ID: 1, Job: 10, MetaHost: 1}, {ID: 2, Job: 11, Host: 3}},
	}
	for _, policy := range []Policy{PolicyExact, PolicyOptimal} {
		s.Rules.Policy = policy
		got := map[EntryID]string{}
		for _, w := range MakePlan(s).Waiting {
			got[w.Entry] = fmt.Sprint(w.Reason.Code, ": ", w.Reason)
		}
		require.Equal(t, map[EntryID]string{
			1: "hosts_busy: needs board:a: 2 hosts match; 1 leased (1 to none, for special tasks or not yet released), 1 wanted by special tasks; 0 entries ahead",
			2: "host_leased: names host h3, which is wanted by a special task",
		}, got)
	}
}

// TestHostOfAStoppedJob stops a synchronous job that had got a host in the same tick. The
// host counts as assigned until the end of the tick, so another entry that could use it
// still waits.
func TestHostOfAStoppedJob(t *testing.T) {
	s := &Snapshot{
		Labels: []Label{{1, "board:a"}},
		Users:  []User{{1, "alice", []ACLID{1}}},
		Hosts: []Host{
			{ID: 1, Hostname: "h1", Ready: true, Labels: []LabelID{1}, ACLs: []ACLID{1}},
			{ID: 2, Hostname: "h2", Ready: true, Labels: []LabelID{1}, ACLs: []ACLID{1}},
		},
		Jobs: []Job{
			{ID: 10, Owner: "alice", User: 1, Priority: 9, SynchCount: 3, Deps: []LabelID{1}}, // has two entries only
			{ID: 11, Owner: "alice", User: 1, SynchCount: 1, Deps: []LabelID{1}},
		},
		Entries: []Entry{{ID: 1, Job: 10, MetaHost: 1}, {ID: 2, Job: 10, MetaHost: 1}, {ID: 3, Job: 11, MetaHost: 1}},
	}
	s.Recorder = NewRecorder(nil)
	codes := map[EntryID]Code{}
	for _, w := range MakePlan(s).Waiting {
		codes[w.Entry] = w.Reason.Code
	}
	require.Equal(t, map[EntryID]Code{2: JobStopped, 3: Outranked}, codes)
}

// TestReasonsOfContendedRows: what another transaction holds has a reason of its own,
// which is not a lasting one, and everything else is served.
func TestReasonsOfContendedRows(t *testing.T) {
	lab := func() *Snapshot {
		hosts := func(ids ...HostID) (out []Host) {
			for _, id := range ids {
				out = append(out, Host{ID: id, Hostname: fmt.Sprintf("h%d", id), Ready: true, Labels: []LabelID{1}, ACLs: []ACLID{1}})
			}
			return out
		}
		return &Snapshot{
			Labels: []Label{{1, "board:a"}},
			Users:  []User{{1, "alice", []ACLID{1}}, {2, "bob", []ACLID{1}}},
			Hosts:  hosts(1, 2),
			Jobs:   []Job{{ID: 10, Owner: "alice", User: 1, Priority: 9, Deps: []LabelID{1}}, {ID: 11, Owner: "bob", User: 2, SynchCount: 2, Deps: []LabelID{1}}},
			Entries: []Entry{
				{ID: 1, Job: 10, MetaHost: 1}, {ID: 2, Job: 10, Host: 2},
			},
		}
	}
	reasons := func(s *Snapshot) (texts []string, given map[EntryID]HostID) {
		p := MakePlan(s)
		for _, w := range p.Waiting {
			require.False(t, w.Reason.Code.Lasting())
			texts = append(texts, fmt.Sprint(w.Entry, " ", w.Reason.Code, ": ", w.Reason))
		}
		given = map[EntryID]HostID{}
		for _, a := range p.Assignments {
			given[a.Entry] = a.Host
		}
		return texts, given
	}
	for name, test := range map[string]struct {
		change func(*Snapshot)
		texts  []string
		given  map[EntryID]HostID
	}{
		"its host": {func(s *Snapshot) { s.Contended.Hosts = []HostID{2} },
			[]string{"2 host_contended: names host h2, which is held by another transaction"}, map[EntryID]HostID{1: 1}},
		"the only free host": {func(s *Snapshot) { s.Contended.Hosts, s.Hosts[1].Leased = []HostID{1}, true },
			[]string{"2 host_leased: names host h2, which is leased", "1 host_contended: needs board:a: 2 hosts match; 1 leased, 1 held by another transaction; 0 entries ahead"}, map[EntryID]HostID{}},
		"another host that it may have": {func(s *Snapshot) { s.Contended.Hosts, s.Entries = []HostID{1}, s.Entries[:1] },
			nil, map[EntryID]HostID{1: 2}},
		"its row": {func(s *Snapshot) { s.Contended.Entries = []EntryID{1} },
			[]string{"1 entry_contended: its row is held by another transaction"}, map[EntryID]HostID{2: 2}},
		"its job, to which an entry that names its host need not refer": {func(s *Snapshot) { s.Contended.Jobs = []JobID{10} },
			[]string{"1 entry_contended: the row of its job is held by another transaction"}, map[EntryID]HostID{2: 2}},
		"its owner": {func(s *Snapshot) { s.Contended.Users, s.Entries[1].Job, s.Jobs[1].SynchCount = []UserID{1}, 11, 1 },
			[]string{"1 entry_contended: the row of its owner is held by another transaction"}, map[EntryID]HostID{2: 2}},
		"an entry that starts together with it": {func(s *Snapshot) {
			s.Entries = []Entry{{ID: 3, Job: 11, MetaHost: 1}}
			s.Siblings = []Sibling{{ID: 4, Job: 11, Host: 7, Status: StatusPending}}
			s.Contended.Entries = []EntryID{4}
		}, []string{"3 entry_contended: a row of an entry that starts together with it, or of the host of one, is held by another transaction"}, map[EntryID]HostID{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := lab()
			test.change(s)
			texts, given := reasons(s)
			require.ElementsMatch(t, test.texts, texts)
			require.Equal(t, test.given, given)
		})
	}
}

// TestJobThatHadHosts: an entry can never run if its job was on all the hosts that it could have,
// and waits if somebody else has one of them.
func TestJobThatHadHosts(t *testing.T) {
	s := &Snapshot{
		Labels: []Label{{1, "board:eve"}}, Users: []User{{1, "alice", []ACLID{1}}},
		Hosts: []Host{{ID: 1, Hostname: "e1", Ready: true, Labels: []LabelID{1}, ACLs: []ACLID{1}}, {ID: 2, Hostname: "e2", Ready: true, Labels: []LabelID{1}, ACLs: []ACLID{1}}},
		Jobs:  []Job{{ID: 10, Owner: "alice", User: 1, Deps: []LabelID{1}}}, Entries: []Entry{{ID: 3, Job: 10, MetaHost: 1}},
		Siblings: []Sibling{{ID: 1, Job: 10, Host: 1, Status: "Completed"}, {ID: 2, Job: 10, Host: 2, Status: "Completed"}},
	}
	const had = "; every free one already belongs to another entry of the job"
	why := MakePlan(s).Waiting[0].Reason
	require.Equal(t, JobHasHosts, why.Code)
	require.True(t, why.Code.Lasting())
	require.Equal(t, "needs board:eve: 2 hosts match; 0 entries ahead"+had, why.String())

	s.Siblings = s.Siblings[:1]
	s.Hosts[1].Locked = true
	why = MakePlan(s).Waiting[0].Reason
	require.Equal(t, HostsBusy, why.Code)
	require.False(t, why.Code.Lasting())
	require.Equal(t, "needs board:eve: 2 hosts match; 1 locked; 0 entries ahead"+had, why.String())
	s.Hosts[1].Locked = false
	require.Len(t, MakePlan(s).Assignments, 1)
}
