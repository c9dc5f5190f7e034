package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	replicastatus "github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/shard"
)

// watch asks all replicas again and again who leads what, and when each shard
// ticked last.
type watch struct {
	c *chaos

	mu      sync.Mutex
	leaders map[shard.Name]leader
	// ticked is when a shard was last seen to tick. outages is how many faults are
	// at work that may stop shards, and mended when the last of those was mended.
	ticked  map[shard.Name]time.Time
	outages int
	mended  time.Time
	// dead is the longest time that a shard stood still although nothing hindered it,
	// and where says which and when; turnDead is the same of this turn alone; late are the shards that do so for too long at this moment.
	dead, turnDead time.Duration
	where          string
	late           map[shard.Name]bool
	delays         []string
	// asked is when it was last looked who waits in the database while a shard stood still.
	asked time.Time
}

// leader is a replica that says that it leads, and how far it has got.
type leader struct {
	replica      *replica
	epoch, ticks int64
}

const (
	watchPoll = 100 * time.Millisecond
	// unclearAfter is after how long a shard that nothing hinders stands still for a reason
	// that somebody will want to know.
	unclearAfter = 3 * time.Second
	// deadLimit is how long a shard may stand still although nothing hinders it, on
	// a machine that others use, too.
	deadLimit = 20 * time.Second
	// healPatience is how long the run waits for a shard before it gives up.
	healPatience = 2 * time.Minute
)

func newWatch(c *chaos) *watch {
	return &watch{c: c, leaders: map[shard.Name]leader{}, ticked: map[shard.Name]time.Time{}, late: map[shard.Name]bool{}, mended: time.Now()}
}

func (w *watch) run(ctx context.Context) error {
	for ctx.Err() == nil {
		sleep(ctx, watchPoll)
		w.look(ctx)
	}
	return nil
}

// look asks all replicas at once. Two may say that they lead a shard, if one was
// stopped and does not know yet what it has lost: the later epoch is right.
func (w *watch) look(ctx context.Context) {
	answers := make([]web.ServerStatus, len(w.c.replicas))
	var asking sync.WaitGroup
	for i, r := range w.c.replicas {
		asking.Go(func() { answers[i], _ = r.status(ctx) }) // whoever does not answer leads nothing
	}
	asking.Wait()
	if w.unclear() {
		w.c.sayWhoWaits(ctx)
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	found := map[shard.Name]leader{}
	for i, answer := range answers {
		for _, st := range answer.Shards {
			if st.State == replicastatus.StateLeader && st.Epoch > found[st.Shard].epoch {
				found[st.Shard] = leader{w.c.replicas[i], st.Epoch, st.Ticks}
			}
		}
	}
	for _, name := range shards() {
		if l, ok := found[name]; ok && l != w.leaders[name] {
			w.ticked[name] = now
			delete(w.late, name)
		}
		if ctx.Err() == nil {
			w.judge(name, now)
		}
	}
	w.leaders = found
}

// still is for how long a shard has stood still since nothing hindered it. It needs the
// lock.
func (w *watch) still(name shard.Name, now time.Time) time.Duration {
	since := w.ticked[name]
	if since.Before(w.mended) {
		since = w.mended
	}
	return now.Sub(since)
}

// unclear tells, once in a while, whether a shard stands still although nothing hinders it.
func (w *watch) unclear() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.outages > 0 || now.Sub(w.asked) < unclearAfter {
		return false
	}
	if !slices.ContainsFunc(shards(), func(name shard.Name) bool { return w.still(name, now) > unclearAfter }) {
		return false
	}
	w.asked = now
	return true
}

// judge counts for how long a shard has stood still since nothing hindered it. It
// needs the lock.
func (w *watch) judge(name shard.Name, now time.Time) {
	if w.outages > 0 {
		return
	}
	still := w.still(name, now)
	w.turnDead = max(w.turnDead, still)
	if still > w.dead {
		w.dead, w.where = still, fmt.Sprintf("shard %s, %.0f s after the beginning", name, now.Sub(w.c.journal.began).Seconds())
	}
	if still > deadLimit && !w.late[name] {
		w.late[name] = true
		w.delays = append(w.delays, fmt.Sprintf("shard %s has not ticked for %v, %.0f s after the beginning", name, deadLimit, now.Sub(w.c.journal.began).Seconds()))
		w.c.journal.say("VIOLATED: %s", w.delays[len(w.delays)-1])
	}
}

// outage says that a fault may stop shards until done is called.
func (w *watch) outage() (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outages++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.outages--
		w.mended = time.Now()
	}
}

// hindered tells whether a fault is at work that may stop shards.
func (w *watch) hindered() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.outages > 0
}

// newTurn begins to count anew how long a shard stood still.
func (w *watch) newTurn() (former time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	former, w.turnDead = w.turnDead, 0
	return former
}

// led returns who leads what at this moment.
func (w *watch) led() map[shard.Name]leader {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.leaders)
}

// healthy waits until every shard has ticked since now. A replica that has ended
// is started again meanwhile, as its service manager would do.
func (w *watch) healthy(ctx context.Context) error {
	began := time.Now()
	for {
		missing := w.missing(began)
		switch {
		case len(missing) == 0:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(began) > healPatience:
			return fmt.Errorf("%w: shards %v have not ticked for %v", errViolated, missing, healPatience)
		}
		if err := w.c.restartEnded(); err != nil {
			return err
		}
		sleep(ctx, watchPoll/2)
	}
}

func (w *watch) missing(since time.Time) (names []shard.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range shards() {
		if !w.ticked[name].After(since) {
			names = append(names, name)
		}
	}
	return names
}

// restartEnded starts replicas that ended by themselves.
func (c *chaos) restartEnded() error {
	var err error
	for _, r := range c.replicas {
		if !r.down && r.ended() {
			c.journal.say("%s ended by itself: %v", r.name, r.exit.Err())
			c.res.ended++
			err = errors.Join(err, r.start())
		}
	}
	return err
}
