package scheduler

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"
)

// Names in generated labs. There are few of each kind, so that requests compete.
var (
	genLabels = []string{"board:a", "board:b", "pool:x", "wifi", "cros-version:1", "cros-version:2", "fwrw-version:1", "rpm", "skip_provision"}
	genUsers  = []User{{1, "alice", []ACLID{1}}, {2, "bob", []ACLID{1, 2}}, {3, "carol", nil}}
)

// labs generates small labs with every feature of the rules.
func labs() *rapid.Generator[*Snapshot] {
	return rapid.Custom(func(t *rapid.T) *Snapshot {
		s := &Snapshot{Rules: Rules{RespectStaticLabels: chance(t, 20), OnShard: chance(t, 15)}}
		if chance(t, 50) {
			s.Rules.Policy = PolicyOptimal
		}
		for i, name := range genLabels {
			s.Labels = append(s.Labels, Label{LabelID(i + 1), name})
			if chance(t, 20) {
				s.ReplacedLabels = append(s.ReplacedLabels, ReplacedLabel{LabelID(i + 1), LabelID(i + 101)})
			}
		}
		s.Users = slices.Clone(genUsers)
		for i := range rapid.IntRange(0, 9).Draw(t, "hosts") {
			s.Hosts = append(s.Hosts, genHost(t, HostID(i+1)))
		}
		crowded := chance(t, 30)
		if crowded {
			freeHosts(s)
		}
		genJobs(t, s)
		if crowded {
			shareHosts(s)
		}
		for _, h := range s.Hosts {
			if chance(t, 5) {
				s.TaskHosts = append(s.TaskHosts, h.ID)
			}
		}
		for _, id := range s.TaskHosts {
			s.Hosts[id-1].OpenTask = true
		}
		s.Now, s.Holds = rapid.Int64Range(0, 2).Draw(t, "now"), genHolds(t, s)
		for _, h := range some(t, s.Hosts, 5) {
			s.Away = append(s.Away, Away{Host: h.ID, Agent: "a", Reason: "silent"})
		}
		if chance(t, 30) {
			s.Contended = genContended(t, s)
		}
		return s
	})
}

// genHolds drains some hosts, and lets some locks end.
func genHolds(t *rapid.T, s *Snapshot) (holds []Hold) {
	for _, h := range s.Hosts {
		if !chance(t, 10) {
			continue
		}
		holds = append(holds, Hold{
			Host: h.ID, Draining: chance(t, 70), Abort: chance(t, 50), By: "alice",
			Abortable: []HeldEntry{{Entry: EntryID(1000 + h.ID), Job: 1}},
			Deadline:  rapid.Int64Range(0, 2000).Draw(t, "deadline"), LockUntil: rapid.Int64Range(0, 2000).Draw(t, "until"),
		})
	}
	return holds
}

// chance is true in so many percent of the cases. It shrinks to false.
func chance(t *rapid.T, percent int) bool {
	return rapid.IntRange(0, 99).Draw(t, "chance") >= 100-percent
}

func some[T any](t *rapid.T, all []T, percent int) []T {
	var out []T
	for _, v := range all {
		if chance(t, percent) {
			out = append(out, v)
		}
	}
	return out
}

func genHost(t *rapid.T, id HostID) Host {
	ids := []LabelID{1, 2, 3, 4, 5, 6, 7}
	statics := []LabelID{101, 102, 103, 104}
	h := Host{
		ID: id, Hostname: fmt.Sprintf("h%d", rapid.IntRange(0, 20).Draw(t, "name")), Status: HostReady, Ready: true,
		Locked: chance(t, 10), Invalid: chance(t, 10), Leased: chance(t, 30), Dirty: chance(t, 50),
		Labels: some(t, ids, 50), StaticLabels: some(t, statics, 30), ACLs: some(t, []ACLID{1, 2}, 70),
	}
	if chance(t, 20) {
		h.Protection = DoNotVerify
	}
	if chance(t, 15) {
		h.Shard = 1
	}
	if chance(t, 15) {
		h.Ready, h.Status = false, "Repair Failed"
	}
	if chance(t, 10) {
		h.ActiveEntry = 1000 + EntryID(h.ID)
	}
	if chance(t, 10) {
		h.Displaced, h.Home = true, ShardID(rapid.IntRange(0, 2).Draw(t, "home"))
	}
	return h
}

func genContended(t *rapid.T, s *Snapshot) (c Contended) {
	for _, h := range some(t, s.Hosts, 30) {
		c.Hosts = append(c.Hosts, h.ID)
	}
	for _, e := range some(t, s.Entries, 10) {
		c.Entries = append(c.Entries, e.ID)
	}
	for _, e := range some(t, s.Siblings, 10) {
		c.Entries = append(c.Entries, e.ID)
	}
	for _, j := range some(t, s.Jobs, 10) {
		c.Jobs = append(c.Jobs, j.ID)
	}
	for _, u := range some(t, s.Users, 5) {
		c.Users = append(c.Users, u.ID)
	}
	return c
}

// freeHosts lets every host be assigned, so that it matters which entry gets which.
func freeHosts(s *Snapshot) {
	for i := range s.Hosts {
		h := &s.Hosts[i]
		h.Locked, h.Invalid, h.Leased, h.ActiveEntry, h.Displaced, h.ACLs = false, false, false, 0, false, []ACLID{1}
	}
}

// shareHosts lets every job have hosts, so that many jobs want the same.
func shareHosts(s *Snapshot) {
	for i := range s.Jobs {
		j := &s.Jobs[i]
		j.User, j.Priority, j.SynchCount = genUsers[0].ID, j.Priority/2, 1
	}
}

// genJobs adds two suites, their jobs with one or more entries, and entries that
// are no longer pending.
func genJobs(t *rapid.T, s *Snapshot) {
	for suite := JobID(1); suite <= 3; suite++ {
		if chance(t, 60) {
			s.Minimums = append(s.Minimums, Minimum{suite, rapid.SampledFrom([]string{"1", "2", " 3 ", "-1", "9", "x"}).Draw(t, "minimum")})
		}
	}
	entry := EntryID(1)
	for i := range rapid.IntRange(0, 8).Draw(t, "jobs") {
		job := Job{
			ID: JobID(10 + i), User: UserID(rapid.IntRange(0, len(genUsers)).Draw(t, "user")), Priority: int64(rapid.IntRange(0, 3).Draw(t, "priority")),
			Parent: JobID(rapid.IntRange(0, 3).Draw(t, "parent")), SynchCount: 1, RunVerify: chance(t, 30), RunReset: chance(t, 60),
			RebootBefore: RebootBefore(rapid.IntRange(0, 2).Draw(t, "reboot")),
		}
		for l := range genLabels {
			if chance(t, 15) {
				job.Deps = append(job.Deps, LabelID(l+1))
			}
		}
		if chance(t, 20) {
			job.SynchCount = rapid.IntRange(2, 3).Draw(t, "synch")
		}
		s.Jobs = append(s.Jobs, job)
		genEntries(t, s, &job, &entry)
	}
	var holdings []Holding
	for _, h := range s.Hosts {
		if h.Leased && chance(t, 40) {
			holdings = append(holdings, Holding{h.ID, JobID(rapid.IntRange(1, 3).Draw(t, "suite"))})
		}
	}
	s.Recorder = NewRecorder(holdings)
}

func genEntries(t *rapid.T, s *Snapshot, job *Job, next *EntryID) {
	var taken []HostID // (job, host) is unique
	for range rapid.IntRange(1, 4).Draw(t, "entries") {
		e := Entry{ID: *next, Job: job.ID, MetaHost: 1}
		*next++
		host := HostID(rapid.IntRange(1, max(1, len(s.Hosts))).Draw(t, "host"))
		if slices.Contains(taken, host) || !chance(t, 30) {
			s.Entries = append(s.Entries, e)
			continue
		}
		taken = append(taken, host)
		if chance(t, 40) {
			status := rapid.SampledFrom([]EntryStatus{"Completed", StatusStarting, StatusResetting}).Draw(t, "status")
			s.Siblings = append(s.Siblings, Sibling{ID: e.ID, Job: job.ID, Host: host, Status: status, Subdir: "group0"})
			continue
		}
		e.Host = host
		if chance(t, 50) {
			e.MetaHost = 0
		}
		s.Entries = append(s.Entries, e)
	}
}
