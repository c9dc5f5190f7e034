package main

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
)

// Failover is the time from the end of a leader to the first host that its
// successor gives out, in milliseconds, under load; and for a hand-over also the
// time until the successor has taken over.
type Failover struct {
	TTL   float64 `json:"ttl_ms"`
	Count int     `json:"count"`
	// Crash is after SIGKILL, HandOver after SIGTERM.
	Crash50     float64 `json:"crash_p50_ms"`
	CrashMax    float64 `json:"crash_max_ms"`
	TakeOver50  float64 `json:"hand_over_taken_p50_ms"`
	TakeOverMax float64 `json:"hand_over_taken_max_ms"`
	HandOver50  float64 `json:"hand_over_p50_ms"`
	HandOverMax float64 `json:"hand_over_max_ms"`
}

// settleDown is how long a new leader works before it is ended, too: replicas
// that were started again are ready then.
const settleDown = 3 * time.Second

func (w *load) failovers(ctx context.Context, in *installation, n int) (*Failover, error) {
	f := &Failover{TTL: ms(leaseTTL), Count: n}
	var crash, taken, handOver []float64
	for range n {
		_, took, err := w.failover(ctx, in, syscall.SIGKILL)
		if err != nil {
			return nil, err
		}
		crash = append(crash, took)
		takeOver, took, err := w.failover(ctx, in, syscall.SIGTERM)
		if err != nil {
			return nil, err
		}
		taken, handOver = append(taken, takeOver), append(handOver, took)
	}
	f.TakeOver50, _, f.TakeOverMax = percentiles(taken)
	f.Crash50, _, f.CrashMax = percentiles(crash)
	f.HandOver50, _, f.HandOverMax = percentiles(handOver)
	return f, nil
}

// failover ends the leader, and waits for the takeover and for the first host
// that the successor gives out.
func (w *load) failover(ctx context.Context, in *installation, sig syscall.Signal) (taken, first float64, err error) {
	leader, st, err := in.leader(ctx, "any", func(st replica.Status) bool { return st.Ticks > 0 })
	if err != nil {
		return 0, 0, err
	}
	if err := in.followers(ctx); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := leader.cmd.Process.Signal(sig); err != nil {
		return 0, 0, err
	}
	for deadline := began.Add(patience); ; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return 0, 0, errors.Join(errors.New("nobody took over"), ctx.Err(), in.logs())
		}
		fence, _, err := w.l.db.ReadFence(ctx, shard.Master)
		if err != nil {
			return 0, 0, err
		}
		if fence.Epoch > st.Epoch {
			break
		}
	}
	takenOver := time.Now()
	for deadline := began.Add(patience); !w.latestGiven().After(takenOver); time.Sleep(time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return 0, 0, errors.Join(errors.New("the successor gives no host out"), ctx.Err(), in.logs())
		}
	}
	first = ms(w.latestGiven().Sub(began))
	if err := leader.end(sig); err != nil {
		return 0, 0, err
	}
	if err := leader.start(); err != nil {
		return 0, 0, err
	}
	time.Sleep(settleDown)
	return ms(takenOver.Sub(began)), first, nil
}

func (w *load) latestGiven() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest
}
