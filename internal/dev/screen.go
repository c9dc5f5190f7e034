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
	alternate  = "\x1b[?1049h\x1b[?25l" + noWrap
	original   = wrap + "\x1b[?25h\x1b[?1049l"
	wrap       = "\x1b[?7h"
	noWrap     = "\x1b[?7l"
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
	defaultHeight = 40
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
	if !s.d.opts.Interactive {
		s.progress(f)
		return
	}
	lines := s.head(f)
	tail := append([]string{""}, events...)
	tail = append(tail, "", "k kill the leader   p pause the leader   q quit")
	lines = append(lines, suitesOf(f, s.height()-len(lines)-len(tail))...)
	lines = append(lines, tail...)
	fmt.Fprint(s.d.opts.Out, home+strings.Join(lines, clearLine+"\r\n")+clearLine+clearBelow)
}

// progress writes a line where there is no screen, and one of a job's log.
func (s *screen) progress(f figures) {
	if time.Since(s.printed) < progressEvery {
		return
	}
	s.printed = time.Now()
	jobs := ""
	if s.d.opts.Agents > 0 {
		jobs = fmt.Sprintf("  jobs running %d passed %d failed %d", f.runs.open, f.runs.passed, f.runs.failed)
	}
	s.d.progress("%5.0fs  leader %-10s token %-6d assigned %7d (%5.0f/s)  waiting %6d%s  failovers %d  assigned twice: %d",
		time.Since(s.d.began).Seconds(), f.leader, f.fence.Token, f.counts.Assignments, f.perSecond, f.queue, jobs, len(f.failovers), f.twice)
	for _, r := range f.latest {
		if r.line != "" {
			s.d.progress("        %s", r)
			return
		}
	}
}

// height is how many lines the terminal has.
func (s *screen) height() int {
	_, height, err := term.GetSize(int(s.d.opts.Keys.Fd()))
	if err != nil || height == 0 {
		return defaultHeight
	}
	return height
}

// head is what is always shown.
func (s *screen) head(f figures) (lines []string) {
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	agents := ""
	if n := s.d.opts.Agents; n > 0 {
		agents = fmt.Sprintf(" %d agents,", n)
	}
	line("%shostsched dev%s   %d hosts, %d replicas,%s seed %d   %s", bold, plain, s.d.opts.Hosts, s.d.opts.Replicas, agents, s.d.opts.Seed, time.Since(s.d.began).Round(time.Second))
	line("look at       %s in a browser", s.d.consoleURL())
	line("try in another terminal:")
	for _, command := range s.d.commands() {
		// These are copied: none may be cut.
		line("  %s%s%s", wrap, command, noWrap)
	}
	line("")
	line("leader        %s%s%s   term %d, token %d, fence held by %s", bold, f.leader, plain, f.fence.Epoch, f.fence.Token, holderProcess(f.fence.Holder))
	line("replicas      %s", processList(s.d.processes))
	if len(s.d.agents) > 0 {
		line("agents        %s", processList(s.d.agents))
	}
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
	return append(lines, runsOf(f)...)
}

// runsOf shows the latest runs with their logs.
func runsOf(f figures) (lines []string) {
	if len(f.latest) == 0 {
		return nil
	}
	lines = []string{fmt.Sprintf("jobs: %d running, %d passed, %d failed; %d special tasks", f.runs.open, f.runs.passed, f.runs.failed, f.runs.tasks)}
	for _, r := range f.latest {
		colour := ""
		switch r.outcome() {
		case "passed":
			colour = green
		case "failed", "unusable", "infra", "lost":
			colour = red
		}
		lines = append(lines, "  "+colour+r.String()+plain)
	}
	return append(lines, "")
}

// suitesOf shows suites in a number of lines.
func suitesOf(f figures, room int) []string {
	lines := []string{fmt.Sprintf("queue by suite (%d entries waiting)      priority  waiting  minimum  holds", f.queue)}
	shown := max(0, min(len(f.suites), shownSuites, room-2))
	for _, suite := range f.suites[:shown] {
		lines = append(lines, fmt.Sprintf("  %-38s %8d %8d %8d %6d", suite.Name, suite.Priority, suite.Waiting, suite.Minimum, suite.Held))
	}
	if more := len(f.suites) - shown; more > 0 {
		lines = append(lines, fmt.Sprintf("  … and %d more suites", more))
	}
	return lines
}

func processList(all []*process) string {
	var parts []string
	for _, p := range all {
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
