package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
)

// APIFigures are about the API in a lab of serviceHosts hosts in which queuedEntries wait.
type APIFigures struct {
	// Suite is how long it takes to submit a suite of suiteJobs jobs.
	Suite float64 `json:"api_suite_5000_s"`
	// Hosts is how long it takes to read all hosts, page by page.
	Hosts float64 `json:"api_hosts_10000_s"`
	// Watched is a tick while watchers streams of events are read from the leader over one
	// without, while jobs are submitted, begin and end.
	Watched     float64 `json:"watchers_200_tick_ratio"`
	TickWith    float64 `json:"watchers_200_tick_ms"`
	TickWithout float64 `json:"watchers_0_tick_ms"`
	// Events is how many events a watcher gets in a second.
	Events float64 `json:"watchers_200_events_per_s"`
}

const (
	suiteJobs   = 5000
	suiteRounds = 3
	listRounds  = 5
	watchers    = 200
	// Ticks are watched and not watched by turns, so that what else the machine does slows
	// both. calm is how long a turn goes on before its ticks count.
	watchTurns = 4
	watchTime  = 6 * time.Second
	calm       = time.Second
)

// api measures what people and their programs notice of the API.
func (b *bench) api(ctx context.Context, latency time.Duration, all *results) error {
	progress("the API: %d hosts, %d queued", serviceHosts, queuedEntries)
	return b.withService(ctx, func(w *load, in *installation) error {
		if latency > 0 {
			err := w.during(ctx, func(ctx context.Context) (err error) {
				all.API, err = w.apiLatency(ctx, in, latency)
				return err
			})
			if err != nil {
				return err
			}
			all.APIP50, all.APIP99 = all.API.P50, all.API.P99
		}
		all.APIFigures = &APIFigures{}
		return in.answers(ctx, w, all.APIFigures)
	})
}

// answers measures lists, suites and watchers at the leader.
func (in *installation) answers(ctx context.Context, w *load, f *APIFigures) error {
	leader, _, err := in.leader(ctx, "a tick", func(replica.Status) bool { return true })
	if err != nil {
		return err
	}
	c, err := labclient.New(labclient.Config{Servers: []string{"http://" + leader.listen}})
	if err != nil {
		return err
	}
	progress("%d watchers of the journal", watchers)
	if err := in.watched(ctx, w, leader, f); err != nil {
		return err
	}
	progress("lists and suites")
	if f.Hosts, err = medianOf(listRounds, func() error {
		hosts, err := labclient.List[labapi.Host](ctx, c, "/hosts", nil, 0)
		if err == nil && len(hosts) != serviceHosts {
			err = fmt.Errorf("the API lists %d hosts of %d", len(hosts), serviceHosts)
		}
		return err
	}); err != nil {
		return err
	}
	suite, err := in.l.suite(ctx)
	if err != nil {
		return err
	}
	f.Suite, err = medianOf(suiteRounds, func() error { return post(ctx, c, "/suites", suite, nil) })
	return err
}

// medianOf is the median of several rounds, in seconds.
func medianOf(rounds int, do func() error) (float64, error) {
	var took []float64
	for range rounds {
		began := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began).Seconds())
	}
	return median(took), nil
}

// suite asks for all boards of the lab by turns.
func (l *testLab) suite(ctx context.Context) (in labapi.SuiteInput, err error) {
	var names []string
	err = simlab.Each(ctx, l.db.SQL(), "SELECT name FROM afe_labels WHERE name LIKE 'board:%'", func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	})
	in = labapi.SuiteInput{Name: "suite", Owner: "alice", Priority: 20}
	for i := range suiteJobs {
		in.Jobs = append(in.Jobs, labapi.JobSpec{Name: fmt.Sprintf("test %d", i), Labels: []string{names[i%len(names)]}})
	}
	return in, err
}

// watched compares ticks with watchers and without.
func (in *installation) watched(ctx context.Context, w *load, leader *serverProcess, f *APIFigures) error {
	return w.during(ctx, func(ctx context.Context) error {
		var with, without, ratios, events []float64
		alone := func() (mean, n float64, err error) { return in.meanTick(ctx, leader) }
		watched := func() (mean, n float64, err error) {
			err = watching(ctx, "http://"+leader.listen+"/api/v1/events", func(ctx context.Context) error {
				mean, n, err = in.meanTick(ctx, leader)
				return err
			})
			return mean, n, err
		}
		// The lab fills while it is measured, so either comes first by turns.
		for range watchTurns {
			var ticks [4]float64
			for i, turn := range []func() (float64, float64, error){alone, watched, watched, alone} {
				mean, n, err := turn()
				if err != nil {
					return err
				}
				ticks[i], events = mean, append(events, n)
			}
			without, with = append(without, ticks[0], ticks[3]), append(with, ticks[1], ticks[2])
			ratios = append(ratios, (ticks[1]+ticks[2])/(ticks[0]+ticks[3]))
		}
		f.TickWithout, f.TickWith, f.Watched, f.Events = median(without), median(with), median(ratios), median(events)
		return nil
	})
}

// meanTick is how long the ticks of a leader take now, in milliseconds, and how many events a
// second there are meanwhile.
func (in *installation) meanTick(ctx context.Context, leader *serverProcess) (mean, events float64, err error) {
	if err := sleep(ctx, calm); err != nil {
		return 0, 0, err
	}
	before, ok := leader.status(ctx)
	if !ok {
		return 0, 0, errors.Join(errors.New("the leader does not answer"), in.logs())
	}
	first, err := in.latestEvent(ctx)
	if err != nil {
		return 0, 0, err
	}
	var sum time.Duration
	var n int
	began := time.Now()
	for seen := before.Ticks; time.Since(began) < watchTime; {
		if err := sleep(ctx, time.Second); err != nil {
			return 0, 0, err
		}
		st, ok := leader.status(ctx)
		if !ok || st.State != replica.StateLeader {
			return 0, 0, errors.Join(errors.New("the leader leads no more"), in.logs())
		}
		recent := st.Recent[max(0, len(st.Recent)-int(st.Ticks-seen)):]
		for _, took := range recent {
			sum += took
		}
		n, seen = n+len(recent), st.Ticks
	}
	took := time.Since(began).Seconds()
	last, err := in.latestEvent(ctx)
	return ms(sum) / float64(max(n, 1)), float64(last-first) / took, err
}

func (in *installation) latestEvent(ctx context.Context) (id int64, err error) {
	return id, in.l.db.SQL().QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM hostsched_events").Scan(&id)
}

// watching does something while so many streams of events are read.
func watching(ctx context.Context, url string, do func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var g errgroup.Group
	for range watchers {
		res, err := follow(ctx, client, url)
		if err != nil {
			stop()
			return errors.Join(err, g.Wait())
		}
		g.Go(func() error {
			_, err := io.Copy(io.Discard, res.Body)
			if ctx.Err() != nil {
				err = nil
			}
			return errors.Join(err, res.Body.Close())
		})
	}
	err := do(ctx)
	stop()
	return errors.Join(err, g.Wait())
}

func follow(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("watch the journal: %s", res.Status), res.Body.Close())
	}
	return res, nil
}

func (f *APIFigures) print(w io.Writer) {
	table(w, "the API, 10,000 hosts|s|")
	row(w, "all hosts, in pages|%.2f|", f.Hosts)
	row(w, "a suite of %d jobs is submitted|%.2f|", suiteJobs, f.Suite)
	table(w, "watchers|events per second|mean tick ms|ratio|")
	row(w, "0|%.0f|%.2f||", f.Events, f.TickWithout)
	row(w, "%d|%.0f|%.2f|%.2f|", watchers, f.Events, f.TickWith, f.Watched)
}
