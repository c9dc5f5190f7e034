package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/shard"
)

// Failovers are the times from the end of a leader, or from the moment it falls silent, to
// the first host that its successor assigns, in milliseconds: one for each shard that it led.
type Failovers struct {
	TTLMillis int64 `json:"ttl_ms"`
	Shards    int   `json:"shards"`
	// Kills are by SIGKILL, Stops by SIGSTOP.
	Kills           int     `json:"kills"`
	Stops           int     `json:"stops"`
	CrashMillis50   float64 `json:"crash_to_host_ms_p50"`
	CrashMillis99   float64 `json:"crash_to_host_ms_p99"`
	CrashMax        float64 `json:"crash_to_host_ms_max"`
	SilenceMillis50 float64 `json:"silence_to_host_ms_p50"`
	SilenceMillis99 float64 `json:"silence_to_host_ms_p99"`
	SilenceMax      float64 `json:"silence_to_host_ms_max"`
}

const (
	// settleDown is how long everything is left alone before a leader is ended: a replica
	// that was started again counts in placement by then, and the others hear it.
	settleDown = holdOff + 1500*time.Millisecond
	// failoverPatience bounds a failover, which after the end of a lease takes a TTL.
	failoverPatience = time.Minute
)

// measure ends leaders, one after the other, and sees how long their shards wait.
func (c *chaos) measure(ctx context.Context) (*Failovers, error) {
	f := &Failovers{TTLMillis: c.o.ttl.Milliseconds(), Shards: len(shards()), Kills: c.o.kills, Stops: c.o.stops}
	crash, err := c.failoversBy(ctx, c.o.kills, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	silence, err := c.failoversBy(ctx, c.o.stops, syscall.SIGSTOP)
	if err != nil {
		return nil, err
	}
	f.CrashMillis50, f.CrashMillis99, f.CrashMax = percentiles(crash)
	f.SilenceMillis50, f.SilenceMillis99, f.SilenceMax = percentiles(silence)
	return f, nil
}

func (c *chaos) failoversBy(ctx context.Context, n int, by syscall.Signal) (took []float64, err error) {
	for i := range n {
		each, err := c.failover(ctx, by)
		if err != nil {
			return nil, fmt.Errorf("failover %d by %v: %w", i+1, by, err)
		}
		took = append(took, each...)
		c.journal.say("%v %d of %d: first hosts after %.0f ms", by, i+1, n, each)
	}
	return took, nil
}

// failover ends the leader of a shard that is drawn, and brings it back.
func (c *chaos) failover(ctx context.Context, by syscall.Signal) (took []float64, err error) {
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	led := c.watch.led()
	name, _ := pick(c, shards())
	victim := led[name].replica
	if victim == nil {
		return nil, fmt.Errorf("nobody leads shard %s", name)
	}
	ended := time.Now().UnixMicro()
	if err := victim.signal(by); err != nil {
		return nil, err
	}
	for _, name := range shards() {
		if led[name].replica != victim {
			continue
		}
		at, err := c.firstHost(ctx, name, led[name].epoch, ended)
		if err != nil {
			return nil, err
		}
		took = append(took, float64(at-ended)/1000)
	}
	if by == syscall.SIGSTOP {
		return took, victim.signal(syscall.SIGCONT)
	}
	<-victim.exit.Done()
	return took, victim.start()
}

// firstHost waits for the first assignment of a shard under a later epoch, and returns when
// it was made, in microseconds.
func (c *chaos) firstHost(ctx context.Context, name shard.Name, epoch, since int64) (int64, error) {
	for deadline := time.Now().Add(failoverPatience); ctx.Err() == nil && time.Now().Before(deadline); sleep(ctx, 20*time.Millisecond) {
		at, err := c.number(ctx, "SELECT MIN(at) FROM chaos_events WHERE event = 'take' AND shard = ? AND epoch > ? AND at > ?", name.String(), epoch, since)
		if err != nil || at > 0 {
			return at, err
		}
	}
	return 0, errors.Join(fmt.Errorf("%w: shard %s had no assignment for %v", errViolated, name, failoverPatience), ctx.Err())
}

// settle waits until all replicas may lead, hear each other, and have been left alone.
func (c *chaos) settle(ctx context.Context) error {
	for deadline := time.Now().Add(failoverPatience); !c.allReady(ctx); sleep(ctx, watchPoll) {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("not all replicas are ready after %v", failoverPatience), ctx.Err())
		}
	}
	sleep(ctx, settleDown)
	return c.watch.healthy(ctx)
}

func (c *chaos) allReady(ctx context.Context) bool {
	return !slices.ContainsFunc(c.replicas, func(r *replica) bool {
		st, err := r.status(ctx)
		return err != nil || st.Role == "none" || len(st.Unheard) > 0
	})
}

// percentiles sorts, and returns the median, the 99th and the largest; zeros of nothing.
func percentiles(all []float64) (p50, p99, most float64) {
	if len(all) == 0 {
		return 0, 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
}

func (f *Failovers) print(w io.Writer) {
	fmt.Fprintf(w, "\nTTL %d ms, %d shards. First host after SIGKILL of a leader, %d times: p50 %.0f ms, p99 %.0f ms, max %.0f ms; after SIGSTOP, %d times: p50 %.0f ms, p99 %.0f ms, max %.0f ms\n",
		f.TTLMillis, f.Shards, f.Kills, f.CrashMillis50, f.CrashMillis99, f.CrashMax, f.Stops, f.SilenceMillis50, f.SilenceMillis99, f.SilenceMax)
}
