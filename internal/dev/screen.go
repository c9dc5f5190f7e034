package dev

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// screen shows the figures: redrawn in place on a terminal, else as one progress
// line a second.
type screen struct {
	d       *dev
	printed time.Time
}

// Terminal control sequences.
const (
	alternate  = "\x1b[?1049h\x1b[?25l"
	original   = "\x1b[?25h\x1b[?1049l"
	home       = "\x1b[H"
	clearLine  = "\x1b[K"
	clearBelow = "\x1b[J"
	bold       = "\x1b[1m"
	red        = "\x1b[1;31m"
	green      = "\x1b[32m"
	plain      = "\x1b[0m"
)

const (
	progressEvery = time.Second
	shownSuites   = 12
	shownEvents   = 5
	barWidth      = 40
)

func newScreen(d *dev) *screen {
	if d.opts.Interactive {
		fmt.Fprint(d.opts.Out, alternate)
	}
	return &screen{d: d}
}

func (s *screen) close() {
	if s.d.opts.Interactive {
		fmt.Fprint(s.d.opts.Out, original)
	}
}

func (s *screen) draw() {
	s.d.mu.Lock()
	f := s.d.figures
	events := append([]string(nil), s.d.events[max(0, len(s.d.events)-shownEvents):]...)
	s.d.mu.Unlock()
	elapsed := time.Since(s.d.began)
	if !s.d.opts.Interactive {
		if time.Since(s.printed) >= progressEvery {
			s.printed = time.Now()
			s.d.progress("%5.0fs  leader %-10s token %-6d assigned %7d (%5.0f/s)  waiting %6d  failovers %d  assigned twice: %d",
				elapsed.Seconds(), f.leader, f.fence.Token, f.counts.Assignments, f.perSecond, f.queue, len(f.failovers), f.twice)
		}
		return
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+clearLine+"\r\n", args...) }
	b.WriteString(home)
	line("%shostsched dev%s   %d hosts, %d replicas, seed %d   %s", bold, plain, s.d.opts.Hosts, s.d.opts.Replicas, s.d.opts.Seed, elapsed.Round(time.Second))
	line("")
	for i, command := range s.d.commands() {
		title := ""
		if i == 0 {
			title = "try"
		}
		line("%-13s %s", title, command)
	}
	line("leader        %s%s%s   term %d, token %d, fence held by %s", bold, f.leader, plain, f.fence.Epoch, f.fence.Token, holderProcess(f.fence.Holder))
	line("replicas      %s", s.processList())
	line("hosts         %d idle, %d leased, %d running   %s", f.hosts.idle, f.hosts.leased, f.hosts.running, bar(f.hosts))
	line("assignments   %d, %.0f per second; %d released", f.counts.Assignments, f.perSecond, f.counts.Releases)
	line("ticks         %d, p50 %.1f ms, p99 %.1f ms", f.sum(func(c counters) int64 { return c.ticks }), quantile(f.ticks, 0.5), quantile(f.ticks, 0.99))
	line("failovers     %s; fenced writes %d", failoverText(f.failovers), f.sum(func(c counters) int64 { return c.fenced }))
	colour := green
	if f.twice > 0 {
		colour = red
	}
	line("%sassigned twice: %d%s   (from the database's own history)", colour, f.twice, plain)
	line("")
	line("queue by suite (%d entries waiting)      priority  waiting  minimum  holds", f.queue)
	for i, suite := range f.suites {
		if i == shownSuites {
			line("  … and %d more suites", len(f.suites)-shownSuites)
			break
		}
		line("  %-38s %8d %8d %8d %6d", suite.Name, suite.Priority, suite.Waiting, suite.Minimum, suite.Held)
	}
	line("")
	for _, e := range events {
		line("%s", e)
	}
	line("")
	line("k kill the leader   p pause the leader   q quit")
	b.WriteString(clearBelow)
	fmt.Fprint(s.d.opts.Out, b.String())
}

func (s *screen) processList() string {
	var parts []string
	for _, p := range s.d.processes {
		state := "running"
		p.mu.Lock()
		paused := p.stopped
		p.mu.Unlock()
		switch {
		case !p.running():
			state = "dead"
		case paused:
			state = "paused"
		}
		parts = append(parts, fmt.Sprintf("%s (pid %d, %s)", p.name, p.pid(), state))
	}
	return strings.Join(parts, "  ")
}

func bar(h hostCounts) string {
	if h.total == 0 {
		return ""
	}
	running, leased := h.running*barWidth/h.total, h.leased*barWidth/h.total
	return strings.Repeat("#", running) + strings.Repeat("+", leased) + strings.Repeat(".", max(0, barWidth-running-leased))
}

func failoverText(all []time.Duration) string {
	if len(all) == 0 {
		return "none yet"
	}
	return fmt.Sprintf("%d, last took %d ms, longest %.0f ms", len(all), all[len(all)-1].Milliseconds(), quantile(all, 1))
}

// readKeys acts on keys until ctx ends. A terminal in raw mode sends Ctrl-C as a
// key.
func (d *dev) readKeys(ctx context.Context, quit func()) error {
	fd := int(d.opts.Keys.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return fmt.Errorf("read keys from the terminal: %w", err)
	}
	keys := make(chan byte)
	go func() {
		// Ends with the process: a read from a terminal cannot be interrupted.
		in := bufio.NewReader(d.opts.Keys)
		for {
			key, err := in.ReadByte()
			if err != nil {
				return
			}
			select {
			case keys <- key:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return term.Restore(fd, before)
		case key := <-keys:
			d.press(ctx, key, quit)
		}
	}
}

const ctrlC = 3

func (d *dev) press(ctx context.Context, key byte, quit func()) {
	var act func(context.Context) (string, error)
	switch key {
	case 'q', ctrlC:
		quit()
		return
	case 'k':
		act = d.killLeader
	case 'p':
		act = d.pauseLeader
	default:
		return
	}
	go func() {
		if _, err := act(ctx); err != nil && ctx.Err() == nil {
			d.event("%v", err)
		}
	}()
}

// IsTerminal tells whether a screen can be drawn and keys read.
func IsTerminal(files ...*os.File) bool {
	for _, f := range files {
		if !term.IsTerminal(int(f.Fd())) {
			return false
		}
	}
	return true
}
