package ownrun

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
)

// Calls are the calls of the run that was claimed, as agentclient.Run makes them.
type Calls interface {
	State(context.Context, labapi.RunState) (labapi.RunAnswer, error)
	Renew(context.Context) (labapi.RunAnswer, error)
	PutLog(ctx context.Context, stream string, offset int64, data []byte) (labapi.LogEnd, error)
	Finish(context.Context, labapi.RunFinish) (labapi.RunAnswer, error)
}

// Options are what a run is made of.
type Options struct {
	Claimed labapi.Claimed
	// Sent is when the call was sent that claimed it.
	Sent  command.Instant
	Calls Calls
	// Args are the command. {host} and {hosts} stand for names of hosts.
	Args []string
	// Timeout is how long the command may take, 0 for any time.
	Timeout time.Duration
	// Say tells a person something, in one line.
	Say func(format string, args ...any)
	// Signals are those that this process got.
	Signals chan os.Signal
	// Log means that the servers keep what the command writes.
	Log bool
	// Mask are values that these logs do not show: many may read them who may not call as the
	// caller does.
	Mask []string
	// Guard starts this program anew, to be the guard; nil for none.
	Guard []string
}

// Passed on are the signals that ask a command to end, and those that it gets as they come.
var (
	asking = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
	others = []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGTSTP}
)

// Notify sends the signals that a run passes on to a channel, until the process ends, but for
// those that whoever started it wanted to be ignored, as nohup does. Signals that ask for the
// end within command.OneRequest are one.
func Notify(to chan<- os.Signal) {
	from := make(chan os.Signal, cap(to))
	for _, sig := range slices.Concat(asking, others) {
		if !signal.Ignored(sig) {
			signal.Notify(from, sig)
		}
	}
	go func() {
		var again command.Instant
		for sig := range from {
			if Asks(sig) {
				if again.Until() > 0 {
					continue
				}
				again = command.Now().Add(command.OneRequest)
			}
			select {
			case to <- sig:
			default: // so many are waiting that none is missed
			}
		}
	}()
}

// Asks tells whether a signal asks for the end.
func Asks(sig os.Signal) bool { return slices.Contains(asking, sig) }

// run is a command with its claim.
type run struct {
	Options
	lease *command.Lease
	grace time.Duration
	p     *command.Process
	term  *command.Terminal
	guard *guard
	logs  *logs
	// told is closed when the servers have answered that the command runs, or have not.
	told chan struct{}
	// news are what the servers say, as long as the command runs.
	news chan news
	// asked counts the signals that asked for the end.
	asked int
	// why is the reason for which the run was ended, empty if it was not.
	why string
	// lost means that the hosts may be somebody else's by now.
	lost bool
	// killAt is when a command that was asked to end is killed, 0 if it was not asked.
	killAt command.Instant
}

// The reasons for which a run is ended, as labapi.RunFinish has them.
const (
	whyAborted = "aborted"
	whyTimeout = "timeout"
	whyLease   = "lease-lost"
)

// Run runs the command and returns the exit status that belongs to it.
func Run(o Options) int {
	r := &run{Options: o, grace: time.Duration(o.Claimed.Manifest.GraceMillis) * time.Millisecond, told: make(chan struct{}), news: make(chan news, 1)}
	r.lease = command.NewLease(o.Sent, time.Duration(o.Claimed.LeaseMillis)*time.Millisecond)
	spec := command.Spec{Args: Replaced(o.Args, o.Claimed.Hosts), Env: environment(o.Claimed), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	err := r.start(spec)
	r.logs.started()
	defer r.logs.remove()
	if err != nil {
		r.Say("%s", err)
		return r.neverBegan(err)
	}
	calling, end := context.WithCancel(context.Background())
	var calls sync.WaitGroup
	calls.Go(func() { r.renew(calling) })
	calls.Go(func() { r.sendLogs(calling) })
	r.watch()
	r.guard.done()
	r.endLogs()
	select {
	case <-r.told:
	case <-time.After(toldBound):
	}
	end()
	calls.Wait()
	if r.term != nil {
		r.term.TakeBack(r.p)
	}
	return r.finish()
}

// toldBound is how long a command that has ended waits for the servers to know that it began.
const toldBound = 2 * time.Second

func (r *run) start(spec command.Spec) (err error) {
	if r.Log {
		if r.logs, err = keepLogs(&spec, r.Claimed.Manifest.LogCap, r.Mask); err != nil {
			return err
		}
	}
	if r.guard, err = startGuard(r.Guard); err != nil {
		return err
	}
	if err := command.Adopt(); err != nil {
		return err
	}
	spec.Adopted, spec.Spared = true, r.guard.pids()
	mark := rand.Text()
	spec.Env = append(spec.Env, markEnv+mark)
	r.guard.watch(mark, r.mustBeOver())
	if r.mustBeOver().Until() <= 0 {
		r.guard.done()
		return fmt.Errorf("the claim of %s was over before the command began", hostsText(r.Claimed.Hosts))
	}
	if r.p, err = command.Start(spec); err != nil {
		r.guard.done()
		return err
	}
	r.guard.group(r.p.Pid())
	r.term = command.OpenTerminal()
	return nil
}

// mustBeOver is when nothing of the command may run any more.
func (r *run) mustBeOver() command.Instant {
	_, kill := r.lease.Stop(r.grace)
	return kill
}

// look is how often the clock is looked at. Timers stand still while the machine sleeps.
const look = 100 * time.Millisecond

// watch returns when the command has ended.
func (r *run) watch() {
	clock := time.NewTicker(look)
	defer clock.Stop()
	var over command.Instant
	if r.Timeout > 0 {
		over = command.Now().Add(r.Timeout)
	}
	for {
		select {
		case <-r.p.Done():
			return
		case sig := <-r.Signals:
			r.pass(sig)
		case sig := <-r.p.Stopped():
			r.attend(sig)
		case n := <-r.news:
			r.hear(n)
		case <-clock.C:
			r.lookAtClock(over)
		}
	}
}

// pass passes a signal on. The second one that asks for the end kills.
func (r *run) pass(sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	if !Asks(sig) {
		r.p.Signal(number)
		return
	}
	if r.asked++; r.asked > 1 {
		r.p.Kill()
		return
	}
	r.p.Signal(number)
	r.p.Signal(syscall.SIGCONT)
}

// attend is about the keys of the terminal, and Ctrl-Z.
func (r *run) attend(sig syscall.Signal) {
	if r.term == nil {
		return
	}
	r.term.Attend(r.p, sig, func() bool {
		if r.mustBeOver().Until() > 0 {
			return true
		}
		r.lose()
		return false
	})
}

// hear takes what the servers say.
func (r *run) hear(n news) {
	switch {
	case n.lost:
		r.lose()
	case n.stop != nil:
		r.stop(n.stop.Reason, time.Duration(n.stop.GraceMillis)*time.Millisecond)
	}
}

// lose kills the command: its hosts may be somebody else's.
func (r *run) lose() {
	r.lost = true
	r.p.Kill()
}

// stop asks the command to end, once.
func (r *run) stop(why string, grace time.Duration) {
	if r.killAt != 0 {
		return
	}
	r.why, r.killAt = why, command.Now().Add(grace)
	r.p.Signal(syscall.SIGTERM)
	r.p.Signal(syscall.SIGCONT)
}

// lookAtClock ends a command whose time is over, or whose claim ends soon.
func (r *run) lookAtClock(over command.Instant) {
	if over != 0 && over.Until() <= 0 {
		r.stop(whyTimeout, r.grace)
	}
	ask, kill := r.lease.Stop(r.grace)
	if ask.Until() <= 0 {
		r.stop(whyLease, time.Duration(kill-ask))
	}
	if kill.Until() <= 0 || r.killAt != 0 && r.killAt.Until() <= 0 {
		r.p.Kill()
	}
}

// finishPause is between two attempts to give the hosts back.
const finishPause = 500 * time.Millisecond

// finish gives the hosts back and returns the exit status.
func (r *run) finish() int {
	exit := r.p.Exit()
	if exit.Left {
		r.Say("processes of the command cannot be ended; they may use %s yet", hostsText(r.Claimed.Hosts))
	}
	if r.lost || r.lease.Until().Until() <= 0 {
		r.Say("the claim of %s was lost; the command was ended", hostsText(r.Claimed.Hosts))
		return command.StatusFailed
	}
	err := r.giveBack(r.result(exit))
	switch {
	case errors.Is(err, agentclient.ErrRunLost) || r.why == whyLease:
		r.Say("the claim of %s could not be kept; the command was ended", hostsText(r.Claimed.Hosts))
		return command.StatusFailed
	case err != nil:
		r.Say("%s could not be given back, and will be taken back when the claim ends: %s", hostsText(r.Claimed.Hosts), oneLine(err))
	}
	switch r.why {
	case whyTimeout:
		r.Say("the command did not end in time")
		return command.StatusTimeout
	case whyAborted:
		r.Say("job %d was aborted", r.Claimed.Manifest.Job)
	}
	return exit.Status()
}

// result is what the servers are told of the end.
func (r *run) result(exit command.Exit) labapi.RunFinish {
	in := labapi.RunFinish{Result: labapi.ResultOf(exit.Code), StopReason: r.why}
	if exit.Signal != 0 {
		number := int(exit.Signal)
		in.Result, in.Signal = labapi.ResultFailed, &number
		if r.why == "" && r.asked > 0 {
			in.StopReason = whyAborted
		}
	} else {
		in.ExitCode = &exit.Code
	}
	if r.why != "" {
		in.Result = labapi.ResultFailed
	}
	return in
}

// neverBegan gives the hosts back after a command that could not be started.
func (r *run) neverBegan(cause error) int {
	status := command.Status(cause)
	in := labapi.RunFinish{Result: labapi.ResultFailed, ExitCode: &status, NotRunReason: "not-started", Detail: cut(oneLine(cause), maxDetail)}
	if err := r.giveBack(in); err != nil {
		r.Say("%s could not be given back, and will be taken back when the claim ends: %s", hostsText(r.Claimed.Hosts), oneLine(err))
	}
	return status
}

// giveBack tries until the lease is over: after it the servers take the hosts back by
// themselves. Whoever presses Ctrl-C once more does not wait.
func (r *run) giveBack(in labapi.RunFinish) error {
	for said := false; ; said = true {
		ctx, cancel := context.WithTimeout(context.Background(), max(r.lease.Until().Until(), time.Second))
		err := r.handIn(ctx, in)
		cancel()
		if err == nil || !agentclient.Passing(err) && !errors.Is(err, agentclient.ErrUnfinished) || r.lease.Until().Until() <= 0 {
			return err
		}
		if !said {
			r.Say("trying to give %s back: %s", hostsText(r.Claimed.Hosts), oneLine(err))
		}
		select {
		case sig := <-r.Signals:
			switch {
			case !Asks(sig):
			case r.logs == nil:
				return err
			default:
				r.logs = nil // what is left of them is wanted less than the end
			}
		case <-time.After(finishPause):
		}
	}
}

// maxDetail is how many characters a detail may have.
const maxDetail = 500

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most])
	}
	return text
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func names(hosts []labapi.RunHost) []string {
	out := make([]string, len(hosts))
	for i := range hosts {
		out[i] = hosts[i].Hostname
	}
	return out
}

func hostsText(hosts []labapi.RunHost) string { return strings.Join(names(hosts), ", ") }

// The places of a command for names of hosts.
const (
	placeHost  = "{host}"
	placeHosts = "{hosts}"
)

// Replaced puts the names of hosts into a command: {host} is the first one, {hosts} are all
// with blanks between them. An argument that is nothing but {hosts} becomes one for each.
func Replaced(args []string, hosts []labapi.RunHost) (out []string) {
	all := names(hosts)
	replace := strings.NewReplacer(placeHost, all[0], placeHosts, strings.Join(all, " "))
	for _, arg := range args {
		if arg == placeHosts {
			out = append(out, all...)
			continue
		}
		out = append(out, replace.Replace(arg))
	}
	return out
}

// markEnv begins a line of the environment that no other command has, also none of a run with
// the same id in another lab.
const markEnv = "HOSTSCHED_CLAIM="

// environment is this process's, with what a run is told.
func environment(c labapi.Claimed) []string {
	env := os.Environ()
	for name, value := range c.Manifest.Env {
		env = append(env, name+"="+value)
	}
	return append(env,
		"HOSTSCHED_HOST="+c.Hosts[0].Hostname,
		"HOSTSCHED_HOSTS="+strings.Join(names(c.Hosts), " "),
		"HOSTSCHED_EPOCH="+labapi.EpochsText(c.Hosts),
		fmt.Sprintf("HOSTSCHED_JOB=%d", c.Manifest.Job),
		fmt.Sprintf("HOSTSCHED_RUN=%d", c.Run),
	)
}
