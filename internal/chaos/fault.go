package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// fault is a kind of fault.
type fault struct {
	kind string
	// weight says how often it is chosen, compared with others.
	weight int
	// outage is set if shards may stand still until the fault is mended; without it
	// they have to go on meanwhile.
	outage bool
	// cluster is the kind of cluster to which the fault can happen, oneServer if to
	// none, empty if to any.
	cluster string
	// light faults must not cost a leader its term.
	light bool
	// strike chooses a victim and breaks it. It returns nil if there is none.
	strike func(ctx context.Context, c *chaos) (*broken, error)
}

// broken is what a fault has done; it is mended even if the fault succeeded only in
// part.
type broken struct {
	what string
	hold time.Duration
	// mend repairs it; nil if there is nothing to repair.
	mend func(ctx context.Context) error
	// use is what it has to do with the database: it is not mended before those that
	// keep it from being mended.
	use databaseUse

	fault *fault
	began time.Time
	done  func()
}

// databaseUse is what a fault has to do with the database. Those that are named later
// cannot be mended before those that are named earlier.
type databaseUse int

const (
	noUse databaseUse = iota
	stopsServer
	locksThings // in a session, which ends it
	byCommand   // of hostsched, which undoes it
)

// mendInOrder lets faults last until they can be mended, and sorts them by that.
func mendInOrder(struck []*broken) {
	for use := locksThings; use <= byCommand; use++ {
		var earlier time.Duration
		for _, b := range struck {
			if b.use != noUse && b.use < use {
				earlier = max(earlier, b.hold+1)
			}
		}
		for _, b := range struck {
			if b.use == use {
				b.hold = max(b.hold, earlier)
			}
		}
	}
	slices.SortFunc(struck, func(a, b *broken) int { return int(a.hold - b.hold) })
}

// catalogue are all kinds of faults.
var catalogue = slices.Concat(replicaFaults, memberFaults, keyFaults, linkFaults, databaseFaults, galeraFaults, groupFaults, labFaults)

const (
	// turnLength is the time from one fault to the next.
	turnLength = 3 * time.Second
	// One turn in stormShare is a storm of 2 to maxStorm faults at once.
	stormShare = 4
	maxStorm   = 4
	// strikeTimeout bounds breaking and mending.
	strikeTimeout = 30 * time.Second
	// drainEvery is the time from one drain to the next.
	drainEvery = 8 * time.Minute
)

// faults lets faults happen for the time that was asked for, and drains the lab in
// between and at the end.
func (c *chaos) faults(ctx context.Context) error {
	if err := c.watch.healthy(ctx); err != nil {
		return err
	}
	end := time.Now().Add(time.Duration(c.o.minutes * float64(time.Minute)))
	drain := time.Now().Add(drainEvery)
	for ctx.Err() == nil && time.Now().Before(end) {
		if err := c.turn(ctx); err != nil {
			return err
		}
		if time.Now().After(drain) {
			if err := c.drain(ctx); err != nil {
				return err
			}
			drain = time.Now().Add(drainEvery)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.drain(ctx)
}

// turn is one fault or storm, from the first blow until every shard ticks again.
func (c *chaos) turn(ctx context.Context) error {
	began := time.Now()
	n := 1
	if c.rng.IntN(stormShare) == 0 {
		n = 2 + c.rng.IntN(maxStorm-1)
	}
	c.watch.newTurn()
	struck := c.strike(ctx, n)
	if err := c.mendAll(ctx, struck); err != nil {
		return err
	}
	if err := c.watch.healthy(ctx); err != nil {
		return err
	}
	c.res.healed(struck, c.watch.newTurn())
	c.countGoroutines(ctx, false)
	if err := c.lookForDoubles(ctx); err != nil {
		return err
	}
	sleep(ctx, turnLength-time.Since(began))
	return nil
}

// strike breaks n things at once, and returns them ordered by when they are mended.
func (c *chaos) strike(ctx context.Context, n int) (struck []*broken) {
	for range n {
		if b := c.strikeOne(ctx, n > 1); b != nil {
			struck = append(struck, b)
		}
	}
	mendInOrder(struck)
	return struck
}

// strikeOne chooses a fault. In a storm any of them may stop shards.
func (c *chaos) strikeOne(ctx context.Context, storm bool) *broken {
	f := c.choose()
	bound, cancel := context.WithTimeout(ctx, strikeTimeout)
	defer cancel()
	done := func() {}
	if storm || f.outage {
		done = c.watch.outage()
	}
	b, err := f.strike(bound, c)
	if err != nil {
		c.journal.say("%s: %v", f.kind, err) // beside other faults much may fail
		c.res.failed++
	}
	if errors.Is(err, errViolated) {
		c.wrong("%v", err)
	}
	if b == nil {
		done()
		return nil
	}
	b.fault, b.began, b.done = f, time.Now(), done
	c.res.count(b)
	c.journal.say("%s %s, for %v", f.kind, b.what, b.hold.Round(time.Millisecond))
	return b
}

func (c *chaos) choose() *fault {
	from := catalogue
	switch {
	case c.o.calm:
		from = calmFaults
	case c.o.runs:
		from = runCatalogue
	}
	var total int
	for i := range from {
		total += c.weightOf(&from[i])
	}
	at := c.rng.IntN(total)
	for i := range from {
		if at -= c.weightOf(&from[i]); at < 0 {
			return &from[i]
		}
	}
	panic("weights do not add up")
}

func (c *chaos) weightOf(f *fault) int {
	here := f.cluster == "" || f.cluster == c.o.cluster || f.cluster == oneServer && c.o.cluster == ""
	wanted := func(part string) bool { return strings.Contains(f.kind, part) }
	if !here || !slices.ContainsFunc(strings.Split(c.o.only, ","), wanted) {
		return 0
	}
	return f.weight
}

// mendAll mends each fault after its time.
func (c *chaos) mendAll(ctx context.Context, struck []*broken) error {
	var failed []error
	for _, b := range struck {
		sleep(ctx, time.Until(b.began.Add(b.hold)))
		if b.mend != nil {
			// What was broken is mended even if the run is being stopped.
			bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), strikeTimeout)
			if err := b.mend(bound); err != nil {
				failed = append(failed, fmt.Errorf("mend %s (%s): %w", b.fault.kind, b.what, err))
			}
			cancel()
		}
		b.done()
		c.res.mended(b)
	}
	return errors.Join(failed...)
}

// between draws a duration.
func (c *chaos) between(low, high time.Duration) time.Duration {
	return low + time.Duration(c.rng.Int64N(int64(high-low)+1))
}

// pick draws one of several, by the run's seed.
func pick[T any](c *chaos, from []T) (one T, ok bool) {
	if len(from) == 0 {
		return one, false
	}
	return from[c.rng.IntN(len(from))], true
}

// of draws one of several that fulfil a condition.
func of[T any](c *chaos, from []T, fulfils func(T) bool) (one T, ok bool) {
	return pick(c, slices.DeleteFunc(slices.Clone(from), func(x T) bool { return !fulfils(x) }))
}
