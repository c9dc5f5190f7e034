package paperlab

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/hostsched/hostsched/scheduler"
)

// Day describes a simulated day. The facts below are the same for all days.
type Day struct {
	Seed  uint64
	Hosts int
	// Load is how much work arrives, as a share of what all hosts could do. The work of a
	// job is its duration, without provisions and repairs.
	Load float64
	// Rules are those of the planner.
	Rules scheduler.Rules
	// PlainFirst makes hosts with common capabilities come first by name, so that they are
	// assigned first where there is a choice.
	PlainFirst bool
}

// The facts of a day. Times are seconds.
const (
	hour     = 3600
	dayLong  = 24 * hour
	warmUp   = 4 * hour // before the day, so that it does not begin with an empty lab
	tickLong = 30       // from one plan to the next
	// dayBoards is how many kinds of hosts there are. Jobs ask for one of them.
	dayBoards = 10
	// buildsPerBoard are in use at the same time. A host carries one of them.
	buildsPerBoard = 3
	// swing is by how much more than at the mean arrives at noon, and less at midnight.
	swing = 0.4
	// jobsPerSuite is the largest suite. All jobs of a suite are created together.
	jobsPerSuite = 30
	// A job runs for medianRun, and two thirds of the jobs between half and twice of that.
	medianRun = 900
	runSpread = 0.7
	// provisionLong is what a provision adds to a job.
	provisionLong = 600
	// repairChance is how likely a host needs a repair after a job. The repair takes from
	// one to four hours.
	repairChance = 0.01
	// minimumEvery gives every so many suites a minimum of one host.
	minimumEvery = 4
	// firstSuite is a number above those of all other jobs.
	firstSuite = 1_000_000_000
)

// Priorities are those of the jobs of a day.
var Priorities = []int64{10, 20, 40, 50, 70}

// arrival is a job that arrives, with all that happens to it drawn in advance. So it is
// the same whatever the planner decides.
type arrival struct {
	at     float64
	job    scheduler.Job
	build  scheduler.LabelID
	run    float64
	repair float64 // 0 if the host needs none
	picky  bool
}

// running is what keeps a host from being free until a time.
type running struct {
	until  float64
	repair float64
}

type world struct {
	day      Day
	s        *scheduler.Snapshot
	labels   *labels
	arrivals []arrival
	byJob    map[scheduler.JobID]*arrival
	busy     map[int]running // by position of the host
	position map[scheduler.HostID]int
	figures  Figures
}

// Play plays the day and says how well the jobs were served.
func (d Day) Play() Figures {
	w := newWorld(d)
	next := 0
	for now := 0.0; now < warmUp+dayLong; now += tickLong {
		w.end(now)
		for ; next < len(w.arrivals) && w.arrivals[next].at <= now; next++ {
			w.arrive(&w.arrivals[next])
		}
		w.tick(now)
	}
	return w.finish(warmUp + dayLong)
}

func newWorld(d Day) *world {
	rng := rand.New(rand.NewPCG(d.Seed, 1))
	w := &world{day: d, labels: &labels{}, byJob: map[scheduler.JobID]*arrival{}, busy: map[int]running{}, position: map[scheduler.HostID]int{}}
	l := w.labels
	for b := range dayBoards {
		l.boards = append(l.boards, l.add("board:b%d", b))
		for n := range buildsPerBoard {
			l.builds = append(l.builds, l.add("cros-version:b%d/R%d", b, n))
		}
	}
	for c := range Unequal {
		l.capabilities = append(l.capabilities, l.add("cap%d", c))
	}
	w.s = &scheduler.Snapshot{Rules: d.Rules, Labels: l.all, Users: users, Recorder: scheduler.NewRecorder(nil)}
	for i := range d.Hosts {
		w.s.Hosts = append(w.s.Hosts, w.host(rng, i))
	}
	slices.SortFunc(w.s.Hosts, func(a, b scheduler.Host) int { return scheduler.CompareHosts(&a, &b) })
	for i := range w.s.Hosts {
		w.position[w.s.Hosts[i].ID] = i
	}
	w.drawArrivals(rng)
	return w
}

func (w *world) host(rng *rand.Rand, i int) scheduler.Host {
	b := i % dayBoards
	h := scheduler.Host{ID: scheduler.HostID(i + 1), Ready: true, ACLs: []scheduler.ACLID{1}, Labels: []scheduler.LabelID{w.labels.boards[b], w.build(b, rng.IntN(buildsPerBoard))}}
	rare := 0.0
	for c, share := range Unequal {
		if rng.Float64() < share {
			h.Labels = append(h.Labels, w.labels.capabilities[c])
			rare -= math.Log(share)
		}
	}
	h.Hostname = fmt.Sprintf("b%d-host%04d", b, rng.IntN(10_000))
	if w.day.PlainFirst {
		h.Hostname = fmt.Sprintf("%04d-%s", int(100*rare), h.Hostname)
	}
	return h
}

func (w *world) build(board, n int) scheduler.LabelID {
	return w.labels.builds[board*buildsPerBoard+n]
}

// drawArrivals draws suites until the day is over. Their rate follows the time of day.
func (w *world) drawArrivals(rng *rand.Rand) {
	meanRun := medianRun * math.Exp(runSpread*runSpread/2)
	meanSuite := float64(1+jobsPerSuite) / 2
	rate := w.day.Load * float64(w.day.Hosts) / (meanRun * meanSuite) // suites per second
	for at, suite := 0.0, scheduler.JobID(firstSuite); at < warmUp+dayLong; suite++ {
		noon := 1 - swing*math.Cos(2*math.Pi*(at-warmUp)/dayLong)
		at += rng.ExpFloat64() / (rate * noon)
		w.drawSuite(rng, at, suite)
	}
}

func (w *world) drawSuite(rng *rand.Rand, at float64, suite scheduler.JobID) {
	b, priority := rng.IntN(dayBoards), Priorities[rng.IntN(len(Priorities))]
	build, owner := w.build(b, rng.IntN(buildsPerBoard)), users[rng.IntN(len(users))]
	if suite%minimumEvery == 0 {
		w.s.Minimums = append(w.s.Minimums, scheduler.Minimum{Suite: suite, Value: "1"})
	}
	for range 1 + rng.IntN(jobsPerSuite) {
		a := arrival{
			at: at, build: build, run: medianRun * math.Exp(runSpread*rng.NormFloat64()),
			job: scheduler.Job{
				ID: scheduler.JobID(len(w.arrivals) + 1), Owner: owner.Login, User: owner.ID, Priority: priority, Parent: suite, SynchCount: 1, Created: int64(at) + 1,
				Deps: []scheduler.LabelID{w.labels.boards[b], build},
			},
		}
		if rng.Float64() < repairChance {
			a.repair = hour * (1 + 3*rng.Float64())
		}
		for range rng.IntN(3) {
			a.job.Deps = append(a.job.Deps, w.labels.capabilities[capability(rng)])
		}
		matching := w.matching(&a)
		a.picky = float64(matching) <= picky*float64(w.day.Hosts)
		if matching > 0 { // a job that no host can run would only wait
			w.arrivals = append(w.arrivals, a)
		}
	}
}

// capability draws a capability. Jobs ask for one as often as hosts have it, as in a lab
// that bought its hosts for its jobs.
func capability(rng *rand.Rand) int {
	sum := 0.0
	for _, share := range Unequal {
		sum += share
	}
	left := sum * rng.Float64()
	for c, share := range Unequal {
		if left -= share; left < 0 {
			return c
		}
	}
	return len(Unequal) - 1
}

// matching counts the hosts that carry all labels of a job but the build.
func (w *world) matching(a *arrival) int {
	n := 0
	for i := range w.s.Hosts {
		missing := func(l scheduler.LabelID) bool { return l != a.build && !slices.Contains(w.s.Hosts[i].Labels, l) }
		if !slices.ContainsFunc(a.job.Deps, missing) {
			n++
		}
	}
	return n
}

func (w *world) arrive(a *arrival) {
	w.byJob[a.job.ID] = a
	w.s.Jobs = append(w.s.Jobs, a.job)
	w.s.Entries = append(w.s.Entries, scheduler.Entry{ID: scheduler.EntryID(a.job.ID), Job: a.job.ID, MetaHost: a.job.Deps[0]})
}

// end ends the jobs and the repairs that are over. A tick follows the end of a job within
// a fraction of a second, so the host is released at once.
func (w *world) end(now float64) {
	var released []scheduler.Release
	for i, r := range w.busy {
		if r.until > now {
			continue
		}
		h := &w.s.Hosts[i]
		h.ActiveEntry = 0
		released = append(released, scheduler.Release{Host: h.ID})
		if r.repair > 0 {
			w.busy[i] = running{until: r.until + r.repair}
			continue
		}
		delete(w.busy, i)
		h.Leased, h.Ready = false, true
	}
	w.s.Recorder.Record(scheduler.Plan{Releases: released})
}

func (w *world) tick(now float64) {
	w.s.Now = int64(now) + 1
	p := scheduler.MakePlan(w.s)
	p.Releases = nil // hosts in repair stay leased
	w.s.Recorder.Record(p)
	for _, a := range p.Assignments {
		w.start(now, w.byJob[a.Job], a)
	}
	w.s.Entries = slices.DeleteFunc(w.s.Entries, func(e scheduler.Entry) bool { return w.byJob[e.Job] == nil })
	w.s.Jobs = slices.DeleteFunc(w.s.Jobs, func(j scheduler.Job) bool { return w.byJob[j.ID] == nil })
	if now >= warmUp {
		w.figures.hosts += len(w.s.Hosts)
		for _, h := range w.s.Hosts {
			if h.ActiveEntry != 0 {
				w.figures.atWork++
			}
		}
	}
}

// start starts a job. If the host lacks the build, it is provisioned first.
func (w *world) start(now float64, job *arrival, a scheduler.Assignment) {
	i := w.position[a.Host]
	h := &w.s.Hosts[i]
	h.Leased, h.ActiveEntry, h.Ready = true, a.Entry, false
	until := now + job.run
	if a.Tasks&scheduler.Provision != 0 {
		until += provisionLong
		h.Labels = slices.Clone(h.Labels)
		h.Labels[1] = job.build
	}
	w.busy[i] = running{until: until, repair: job.repair}
	delete(w.byJob, a.Job)
	w.figures.note(job, now-job.at, a.Tasks&scheduler.Provision != 0)
}

func (w *world) finish(now float64) Figures {
	for _, j := range w.s.Jobs {
		job := w.byJob[j.ID]
		w.figures.noteUnserved(job, now-job.at)
	}
	return w.figures
}
