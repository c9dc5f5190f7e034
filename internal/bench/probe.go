package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/simlab"
)

// Probe is what another client of the database notices of a leader that does a
// full tick and continues: how long its own small transactions take, in
// milliseconds, without a leader and beside one.
type Probe struct {
	Without50  float64 `json:"p50_without_ms"`
	Without99  float64 `json:"p99_without_ms"`
	WithoutMax float64 `json:"max_without_ms"`
	With50     float64 `json:"p50_with_ms"`
	With99     float64 `json:"p99_with_ms"`
	WithMax    float64 `json:"max_with_ms"`
	Operations int     `json:"operations_with"`
}

const (
	// probeTime is how long the probe works, or longer if what it watches does.
	probeTime = 5 * time.Second
	// probePause makes about 200 operations a second.
	probePause = 5 * time.Millisecond
)

// probe is another client: it updates the status of hosts, as Autotest's
// monitor_db does, and inserts jobs, as its frontend does.
type probe struct {
	l    *testLab
	rng  *rand.Rand
	took []float64
}

func (l *testLab) newProbe() *probe { return &probe{l: l, rng: rand.New(rand.NewPCG(seed, 3))} }

// run probes at least for a time, and until watched has returned.
func (p *probe) run(ctx context.Context, atLeast time.Duration, watched func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	seen := make(chan struct{})
	g.Go(func() error {
		defer close(seen)
		return watched(ctx)
	})
	g.Go(func() error {
		began := time.Now()
		for n := 0; ctx.Err() == nil; n++ {
			if err := p.once(ctx, n); err != nil {
				return err
			}
			select {
			case <-seen:
				if time.Since(began) >= atLeast {
					return nil
				}
			default:
			}
			time.Sleep(probePause)
		}
		return nil
	})
	return g.Wait()
}

func (p *probe) once(ctx context.Context, n int) error {
	work := p.status
	if n%4 == 0 {
		work = p.job
	}
	began := time.Now()
	err := work(ctx)
	if err != nil && !simlab.Collision(err) {
		return fmt.Errorf("probe: %w", err)
	}
	p.took = append(p.took, ms(time.Since(began)))
	return nil
}

func (p *probe) status(ctx context.Context) error {
	_, err := p.l.db.SQL().ExecContext(ctx, "UPDATE afe_hosts SET status = IF(status = 'Ready', 'Running', 'Ready') WHERE id = ?", 1+p.rng.IntN(p.l.spec.Hosts))
	return err
}

func (p *probe) job(ctx context.Context) error {
	tx, err := p.l.db.SQL().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := p.l.lab.AddSuite(ctx, tx, 1); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (p *probe) percentiles() (p50, p99, most float64) { return percentiles(p.took) }

func percentiles(all []float64) (p50, p99, most float64) {
	if len(all) == 0 {
		return 0, 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
}
