package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// The times of a probe.
const (
	probeInterval = 300 * time.Millisecond
	probeTimeout  = time.Second
	// probePatience is after how long without any answer a replica says that it has lost a
	// database. It is longer than a stall of one second.
	probePatience = 1500 * time.Millisecond
)

// probe asks a database a trivial question again and again, because a long statement
// on a dead connection says for long neither yes nor no.
type probe struct {
	ping func(context.Context) error

	mu sync.Mutex
	// asked is when the first of the questions was asked that were not answered; zero if
	// the last one was answered.
	asked time.Time
	err   error
}

func newProbe(ping func(context.Context) error) *probe { return &probe{ping: ping} }

// run asks until ctx ends.
func (p *probe) run(ctx context.Context) {
	again := time.NewTicker(probeInterval)
	defer again.Stop()
	for {
		p.ask(ctx)
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

func (p *probe) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p.mu.Lock()
	if p.asked.IsZero() {
		p.asked = time.Now()
	}
	p.mu.Unlock()
	err := p.ping(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err = err; err == nil {
		p.asked = time.Time{}
	}
}

// lost says why the database counts as lost, empty if it does not.
func (p *probe) lost(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked.IsZero() || now.Sub(p.asked) <= probePatience {
		return ""
	}
	since := p.asked.UTC().Format(time.RFC3339)
	if p.err == nil {
		return "the database has not answered since " + since
	}
	return fmt.Sprintf("the database has not answered since %s: %v", since, p.err)
}
