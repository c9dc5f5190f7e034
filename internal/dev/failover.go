package dev

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
)

// failoverPoll is how often the fence is looked at while a takeover is timed.
const failoverPoll = 5 * time.Millisecond

var errNoLeader = errors.New("nobody leads at the moment")

// eachStatus asks the running replicas about themselves, as long as each wants
// more. One that does not answer is starting or stopped.
func (d *dev) eachStatus(ctx context.Context, each func(*process, replica.Status) (more bool)) {
	for _, p := range d.processes {
		if !p.running() {
			continue
		}
		st, err := p.status(ctx)
		if err != nil {
			continue
		}
		for _, s := range st.Shards {
			if !each(p, s) {
				return
			}
		}
	}
}

// leader finds the process that leads.
func (d *dev) leader(ctx context.Context) (leader *process, status replica.Status, err error) {
	err = errNoLeader
	d.eachStatus(ctx, func(p *process, s replica.Status) bool {
		if s.State == replica.StateLeader {
			leader, status, err = p, s, nil
		}
		return err != nil
	})
	return leader, status, err
}

// killLeader kills the leader with SIGKILL, times the takeover by what the
// database shows, and restarts the killed one as a follower.
func (d *dev) killLeader(ctx context.Context) (string, error) {
	p, st, err := d.leader(ctx)
	if err != nil {
		return "", err
	}
	pid := p.pid()
	if err := p.signal(syscall.SIGKILL); err != nil {
		return "", err
	}
	killed := time.Now()
	d.event("killed leader %s (pid %d, token %d)", p.name, pid, st.Token)
	took, err := d.timeTakeOver(ctx, st.Epoch, killed)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("killed leader %s (pid %d, token %d); takeover took %v", p.name, pid, st.Token, took.Round(time.Millisecond))
	d.event("takeover took %v", took.Round(time.Millisecond))
	return text, p.start()
}

// pauseLeader stops the leader (SIGSTOP) for three TTLs and lets it continue. It
// finds itself deposed, and the database refuses what it still tries to write.
func (d *dev) pauseLeader(ctx context.Context) (string, error) {
	p, st, err := d.leader(ctx)
	if err != nil {
		return "", err
	}
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return "", err
	}
	paused := time.Now()
	d.event("paused leader %s (token %d) for %v", p.name, st.Token, 3*d.opts.TTL)
	took, err := d.timeTakeOver(ctx, st.Epoch, paused)
	if err == nil {
		d.event("takeover took %v", took.Round(time.Millisecond))
	}
	select {
	case <-ctx.Done():
	case <-time.After(3*d.opts.TTL - time.Since(paused)):
	}
	if !p.running() {
		// The successor had to end it: it slept with the database locked.
		d.event("%s had the database locked and was ended by its successor", p.name)
		return "the paused leader was ended by its successor", errors.Join(err, p.start())
	}
	d.event("%s continues", p.name)
	return fmt.Sprintf("paused leader %s for %v", p.name, 3*d.opts.TTL), errors.Join(err, p.signal(syscall.SIGCONT))
}

// timeTakeOver waits until a later epoch has written something.
func (d *dev) timeTakeOver(ctx context.Context, epoch int64, from time.Time) (time.Duration, error) {
	var writes int64 = -1
	for {
		f, _, err := d.db.ReadFence(ctx, shard.Master)
		if err != nil {
			return 0, err
		}
		switch {
		case f.Epoch <= epoch:
		case writes < 0:
			writes = f.Writes
		case f.Writes > writes:
			took := time.Since(from)
			d.mu.Lock()
			defer d.mu.Unlock()
			d.figures.failovers = append(d.figures.failovers, took)
			return took, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("the run ended before anybody took over: %w", ctx.Err())
		case <-time.After(failoverPoll):
		}
	}
}

// killRegularly kills the leader at the interval asked for.
func (d *dev) killRegularly(ctx context.Context) error {
	if d.opts.KillLeaderEvery == 0 {
		return nil
	}
	tick := time.NewTicker(d.opts.KillLeaderEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if d.endsWithin(d.opts.TTL + takeOverAllowance) {
			continue // there is no time left to see the takeover
		}
		_, err := d.killLeader(ctx)
		if err != nil && !errors.Is(err, errNoLeader) && ctx.Err() == nil {
			return err
		}
	}
}

// takeOverAllowance is what a takeover may take beyond the TTL.
const takeOverAllowance = 1500 * time.Millisecond

func (d *dev) endsWithin(t time.Duration) bool {
	return d.opts.Duration > 0 && time.Since(d.began)+t > d.opts.Duration
}

// event notes something worth showing.
func (d *dev) event(format string, args ...any) {
	text := time.Now().Format("15:04:05 ") + fmt.Sprintf(format, args...)
	d.mu.Lock()
	d.events = append(d.events, text)
	d.mu.Unlock()
	if !d.opts.Interactive {
		d.progress("%s", text)
	}
}
