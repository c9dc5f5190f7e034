package lifecycle_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
)

// TestScenarios plays testdata/scenarios.txt, which says what its commands mean. They are what
// the tests of monitor_db look at, and our departures.
func TestScenarios(t *testing.T) {
	text, err := os.ReadFile("testdata/scenarios.txt")
	require.NoError(t, err)
	scenarios := strings.Split(string(text), "\n== ")[1:]
	require.Greater(t, len(scenarios), 40)
	for _, scenario := range scenarios {
		name, steps, _ := strings.Cut(scenario, "\n")
		t.Run(name, func(t *testing.T) {
			w := newWorld(original, 3)
			for step := range strings.Lines(steps) {
				if fields := strings.Fields(step); len(fields) > 0 {
					require.NoError(t, w.do(fields), step)
					require.NoError(t, w.wrong, step)
				}
			}
		})
	}
}

// do is one step of a scenario.
func (w *world) do(f []string) error {
	possible := true
	arg := append(f[1:], "", "", "")
	switch f[0] {
	case "job":
		w.enter(f[1:])
	case "give":
		possible = w.free(entryNamed(arg[0]), w.host(arg[1]))
		if possible {
			w.give(entryNamed(arg[0]), w.host(arg[1]), kinds(arg[2])...)
		}
	case "start":
		possible = w.start(lifecycle.Kind(arg[0]), w.host(arg[1]))
	case "end":
		w.endTask(w.host(arg[0]), arg[1])
	case "claim":
		before := w.lastRun
		w.claimJob(entryNamed(arg[0]), 0)
		possible = w.lastRun > before
	case "begin", "exit":
		possible = w.advance(entryNamed(arg[0]), f[0])
	case "finish":
		w.jobEnds(w.claimedBy(entryNamed(arg[0])), results[arg[1]])
	case "abort":
		w.abort(entryNamed(arg[0]))
	case "lock", "unlock", "protect":
		w.change(w.host(arg[0]), f[0])
	case "request":
		w.addTask(lifecycle.Task{Kind: lifecycle.Kind(arg[0]), Host: w.host(arg[1]), Entry: entryNamed(arg[2]), RequestedBy: owner})
	case "put":
		w.put(arg[0], arg[1], arg[2])
	case "sweep":
		w.sweep()
	case "not":
		if w.do(f[1:]) == nil {
			return fmt.Errorf("%v is possible", f[1:])
		}
	case "=":
		return w.is(f[1:])
	case "tasks":
		return w.hasTasks(w.host(f[1]), f[2:])
	default:
		return fmt.Errorf("%q is no command", f[0])
	}
	if !possible {
		return fmt.Errorf("%v is not possible", f)
	}
	return nil
}

var results = map[string]result{
	"ok": {ok: true}, "failed": {}, "tests": {failed: 1}, "unusable": {unusable: true}, "lost": {lost: true}, "back": {}, "again": {again: true},
}

func entryNamed(name string) scheduler.EntryID {
	id, _ := strconv.Atoi(name)
	return scheduler.EntryID(id)
}

func (w *world) host(name string) scheduler.HostID {
	for id, h := range w.hosts {
		if h.Hostname == name {
			return id
		}
	}
	return 0
}

func kinds(list string) (out []lifecycle.Kind) {
	for _, kind := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		out = append(out, lifecycle.Kind(kind))
	}
	return out
}

// enter is the command job.
func (w *world) enter(words []string) {
	j := &aJob{Job: lifecycle.Job{SynchCount: 1, RunVerify: true, RunReset: true, Owner: owner}, ineligible: map[scheduler.HostID]bool{}}
	job := scheduler.JobID(len(w.jobs) + 1)
	w.jobs[job] = j
	for _, word := range words {
		e := lifecycle.Entry{Job: job, Status: scheduler.StatusQueued}
		switch word {
		case "synch=2", "synch=3":
			j.SynchCount = int(word[len(word)-1] - '0')
			continue
		case "noreset":
			j.RunReset = false
			continue
		case "noverify":
			j.RunVerify = false
			continue
		case "reboot=always":
			j.RebootAfter = lifecycle.RebootAfterAlways
			continue
		case "reboot=passed":
			j.RebootAfter = lifecycle.RebootAfterPassed
			continue
		case "any":
			e.AnyHost = true
		default:
			e.Host = w.host(word) // none for "none"
		}
		id := scheduler.EntryID(len(w.entries) + 1)
		j.entries = append(j.entries, id)
		w.entries[id] = e
	}
}

func (w *world) start(kind lifecycle.Kind, host scheduler.HostID) bool {
	before := w.lastRun
	// Tasks of entries come first here, as a claimant might have it.
	ids := w.openTasks(host)
	slices.SortStableFunc(ids, func(a, b lifecycle.TaskID) int { return int(w.tasks[b].Entry - w.tasks[a].Entry) })
	for _, id := range ids {
		if w.lastRun == before && w.tasks[id].Kind == kind {
			w.claimTask(id, 0)
		}
	}
	return w.lastRun > before
}

func (w *world) endTask(host scheduler.HostID, how string) {
	for _, id := range w.openTasks(host) {
		r := w.runOf(id)
		switch {
		case r != nil && how == "gone":
			delete(w.runs, r.id)
		case r != nil:
			w.taskEnds(r, results[how])
		}
	}
}

func (w *world) advance(entry scheduler.EntryID, how string) bool {
	r := w.claimedBy(entry)
	job := w.entries[entry].Job
	if how == "begin" && w.happens(job, 0, lifecycle.RunStarted{Entries: r.entries}) {
		r.state = lifecycle.StateRunning
		return true
	}
	if how == "exit" && w.happens(job, 0, lifecycle.RunEnded{Entries: r.entries}) {
		r.state = lifecycle.StateFinishing
		return true
	}
	return false
}

func (w *world) change(host scheduler.HostID, how string) {
	h := w.hosts[host]
	h.Locked = how == "lock"
	if how == "protect" {
		h.Protection = scheduler.DoNotVerify
	}
	w.hosts[host] = h
}

func (w *world) put(what, status, host string) {
	if id := w.host(what); id != 0 {
		h := w.hosts[id]
		h.Status = status
		w.hosts[id] = h
		return
	}
	e := w.entries[entryNamed(what)]
	e.Status, e.Host = scheduler.EntryStatus(status), w.host(host)
	e.Active = lifecycle.Active(e.Status) || e.Status == scheduler.StatusQueued
	w.entries[entryNamed(what)] = e
}

// is compares statuses.
func (w *world) is(words []string) error {
	for pair := range slices.Chunk(words, 2) {
		got := string(w.entries[entryNamed(pair[0])].Status)
		if id := w.host(pair[0]); id != 0 {
			got = w.hosts[id].Status
		}
		if want := strings.ReplaceAll(pair[1], "_", " "); got != want {
			return fmt.Errorf("%s is %q, not %q", pair[0], got, want)
		}
	}
	return nil
}

func (w *world) hasTasks(host scheduler.HostID, want []string) error {
	var got []string
	for _, id := range w.openTasks(host) {
		got = append(got, string(w.tasks[id].Kind))
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("open on host %d: %v", host, got)
	}
	return nil
}
