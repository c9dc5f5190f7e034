package ownrun

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/command"
)

// guard is another process, which ends the command if this one is killed, or was stopped when
// the claim ends. Every method does nothing for nil.
type guard struct {
	process int
	to      *os.File
}

// startGuard starts this program anew as the guard, in a session of its own so that whoever
// signals this process does not signal the guard.
func startGuard(args []string) (*guard, error) {
	if args == nil {
		return nil, nil
	}
	from, to, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the guard of the command: %w", err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = from
	// The guard of a run around this one is not to end this guard with the rest.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(line string) bool { return strings.HasPrefix(line, markEnv) })
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = from.Close() // it is the guard's
	if err != nil {
		_ = to.Close()
		return nil, fmt.Errorf("start the guard of the command: %w", err)
	}
	return &guard{cmd.Process.Pid, to}, nil
}

func (g *guard) pids() []int {
	if g == nil {
		return nil
	}
	return []int{g.process}
}

func (g *guard) say(format string, args ...any) {
	if g == nil {
		return
	}
	// A guard that was killed guards nothing, and the command goes on without.
	_, _ = fmt.Fprintf(g.to, format+"\n", args...)
}

// watch tells by which mark to know what the command started, and until when it may run. It
// comes before the command, whose first moment is guarded, too. group tells which group to
// end besides, of which some may have dropped the mark, and done that the command has ended.
func (g *guard) watch(mark string, until command.Instant) { g.say("watch %s", mark); g.until(until) }
func (g *guard) until(at command.Instant)                 { g.say("until %d", at) }
func (g *guard) group(id int)                             { g.say("group %d", id) }
func (g *guard) done()                                    { g.say("done") }

// guarded is what a guard was told. Without a mark there is no command yet.
type guarded struct {
	mark  string
	until command.Instant
	group int
}

// lookAgain is how often a guard looks again for what lives although it was ended: a program
// that was stopped may begin the command when it goes on.
const lookAgain = time.Second

// Guard is the guard's half. It returns when the program has ended, or says that the command
// has.
func Guard(from io.Reader) {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(from); s.Scan(); {
			lines <- s.Text()
		}
	}()
	clock := time.NewTicker(look)
	defer clock.Stop()
	var g guarded
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				g.end() // nobody is there any more who could
				return
			}
			if line == "done" {
				return
			}
			g.read(line)
			clock.Reset(look)
		case <-clock.C:
			if g.until != 0 && g.until.Until() <= 0 {
				g.end()
				clock.Reset(lookAgain)
			}
		}
	}
}

func (g *guarded) read(line string) {
	for format, to := range map[string]any{"watch %s": &g.mark, "until %d": &g.until, "group %d": &g.group} {
		if _, err := fmt.Sscanf(line, format, to); err == nil {
			return
		}
	} // there is nobody to tell of a line that makes no sense
}

// endBound is how long the guard tries.
const endBound = 10 * time.Second

// end kills the group of the command, and what left the group but has the mark in its
// environment.
func (g *guarded) end() {
	if g.mark == "" {
		return // it never began
	}
	for over := time.Now().Add(endBound); command.KillMarked(g.group, markEnv+g.mark) && time.Now().Before(over); {
		time.Sleep(look / 10)
	}
}
