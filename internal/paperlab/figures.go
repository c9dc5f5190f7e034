package paperlab

import "slices"

// picky is the share of the hosts that a picky job can use at most, busy or not.
const picky = 0.01

// Figures say how well the jobs of one or several days were served. Only jobs that arrived
// after the warm-up count.
type Figures struct {
	// Served are the jobs that got a host, and Provisions how many of them needed a
	// provision first. Unserved still waited at the end of the day.
	Served, Provisions, Unserved int

	hosts, atWork int // counted at every tick
	waits         map[int64][]float64
	picky         []float64
}

// note counts a job that got its host after it had waited for so many seconds.
func (f *Figures) note(job *arrival, waited float64, provisioned bool) {
	if job.at < warmUp {
		return
	}
	f.Served++
	if provisioned {
		f.Provisions++
	}
	f.wait(job, waited)
}

// noteUnserved counts a job that still waits at the end of the day, as if it got its host
// then.
func (f *Figures) noteUnserved(job *arrival, waited float64) {
	if job.at < warmUp {
		return
	}
	f.Unserved++
	f.wait(job, waited)
}

func (f *Figures) wait(job *arrival, waited float64) {
	if f.waits == nil {
		f.waits = map[int64][]float64{}
	}
	f.waits[job.job.Priority] = append(f.waits[job.job.Priority], waited)
	if job.picky {
		f.picky = append(f.picky, waited)
	}
}

// Add adds the figures of another day.
func (f *Figures) Add(other Figures) {
	f.Served += other.Served
	f.Provisions += other.Provisions
	f.Unserved += other.Unserved
	f.hosts += other.hosts
	f.atWork += other.atWork
	f.picky = append(f.picky, other.picky...)
	if f.waits == nil {
		f.waits = map[int64][]float64{}
	}
	for priority, waits := range other.waits {
		f.waits[priority] = append(f.waits[priority], waits...)
	}
}

// AtWork is the share of hosts that worked, at the mean of the day.
func (f *Figures) AtWork() float64 { return float64(f.atWork) / float64(f.hosts) }

// Waits are the minutes that jobs waited: half of them at most P50, and all but one of a
// hundred at most P99.
type Waits struct {
	Jobs int     `json:"jobs"`
	P50  float64 `json:"p50_min"`
	P99  float64 `json:"p99_min"`
	Max  float64 `json:"max_min"`
}

// Of are the waits of the jobs of a priority.
func (f *Figures) Of(priority int64) Waits { return waitsOf(f.waits[priority]) }

// Picky are the waits of the jobs that few hosts can run.
func (f *Figures) Picky() Waits { return waitsOf(f.picky) }

func waitsOf(seconds []float64) Waits {
	if len(seconds) == 0 {
		return Waits{}
	}
	sorted := slices.Sorted(slices.Values(seconds))
	at := func(share float64) float64 { return sorted[int(share*float64(len(sorted)-1))] / 60 }
	return Waits{Jobs: len(sorted), P50: at(0.5), P99: at(0.99), Max: at(1)}
}
