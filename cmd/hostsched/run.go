package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/ownrun"
)

// wanted is the flags that say which hosts are wanted, and how much.
type wanted struct {
	labels, hosts   []string
	count, priority int
	suite           int64
	name            string
	waitTimeout     time.Duration
	quiet           bool
}

func (w *wanted) bind(cmd *cobra.Command, conn *connection) {
	f := cmd.Flags()
	f.StringArrayVarP(&w.labels, "label", "l", nil, "a label that the host must carry; say it again for more")
	bind(cmd, &w.count, "count", 0, 1, maxCount, "hosts that are used together; 1 if left out")
	bind(cmd, &w.priority, "priority", 0, -maxPriority, maxPriority, "priority in the queue")
	bind(cmd, &w.waitTimeout, "wait-timeout", 0, 0, maxWaitForJob, "how long to wait for hosts at most; without end if 0")
	f.BoolVarP(&w.quiet, "quiet", "q", false, "do not say why it waits")
	completeLab(cmd, conn, "label", labelsOf)
}

// spec is the job that asks for the hosts.
func (w *wanted) spec(own string) (labapi.JobSpec, error) {
	job := labapi.JobSpec{Name: w.name, Own: own, Labels: w.labels, Hosts: w.hosts, Count: w.count, Priority: w.priority, Suite: w.suite}
	if len(w.hosts) == 0 && len(w.labels) == 0 {
		return job, fmt.Errorf("%w: say which hosts: --label LABEL that they carry, or --host HOST", errUsage)
	}
	return job, jobspec.CheckJob(&job)
}

func ownRunCommand() *cobra.Command {
	var conn connection
	var w wanted
	var timeout time.Duration
	var log bool
	cmd := &cobra.Command{
		Use: "run -l LABEL... -- CMD [ARG...]", Short: "Get a host, run a command with it, and give it back",
		Long: `Get a host that carries all the labels, run a command here with it, and give the host
back. In the command's arguments {host} stands for the host's name; {hosts} for all
names with --count. The command's environment has HOSTSCHED_HOST, HOSTSCHED_HOSTS,
HOSTSCHED_JOB, HOSTSCHED_RUN and HOSTSCHED_EPOCH. What it reads and writes is passed
through as it is.

Ctrl-C asks the command to end, a second one kills it; the host is given back either
way. If the claim of the host cannot be renewed, the command is ended before others
may get the host. Whatever the command leaves behind is ended with it.

If no server answers while it submits or waits, it tries again until --wait-timeout;
without, for 30 seconds while it submits, and for two minutes while it waits. However
often it submits, there is one job.

Exit codes:
  the command's own, or 128 and the number of the signal that ended it
  124  it was not there in time (--wait-timeout), or did not end in time (--timeout)
  125  hostsched itself failed, was used wrongly, or no host can ever run this
  126  the command cannot be executed
  127  there is no such command
The command says with 69 that the host needs repair, and with 75 that the lab failed.`,
		Example: `  hostsched run -l board:eve -- ssh root@{host} uptime
  hostsched run -l board:eve -l pool:ci --timeout 30m -- ./test.sh {host}
  hostsched run -l board:eve --log -- ./test.sh {host}
  hostsched run -l board:eve --count 2 -- ./pair.sh {hosts}`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return asOwn(fmt.Errorf("%w: the command is missing; see '%s --help'", errUsage, cmd.CommandPath()))
			}
			return asOwn(notEmpty(cmd, "CMD", args[0]))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			w.name = firstOf(w.name, nameOf(args[0]))
			return asOwn(runWith(cmd, &conn, &w, timeout, log, args))
		},
	}
	conn.bind(cmd)
	w.bind(cmd, &conn)
	f := cmd.Flags()
	f.StringArrayVar(&w.hosts, "host", nil, "this very host; say it again for more, which are used together")
	bind(cmd, &w.suite, "suite", 0, 1, maxID, "the suite that the run belongs to")
	f.StringVar(&w.name, "name", "", "what the job is called; the command if left out")
	bind(cmd, &timeout, "timeout", 0, 0, jobspec.Longest, "how long the command may take; any time if 0")
	f.BoolVar(&log, "log", false, "also keep what the command writes at the servers, for 'hostsched job logs'; it writes to pipes then")
	// What follows the command is the command's, also if it looks like a flag.
	f.SetInterspersed(false)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return asOwn(flagError(cmd, err)) })
	completeLab(cmd, &conn, "host", hostsOf)
	return cmd
}

// asOwn gives an error the exit code that cannot be the command's.
func asOwn(err error) error {
	var c coded
	if err == nil || errors.As(err, &c) {
		return err
	}
	return coded{command.StatusFailed, err}
}

// nameOf is what a job is called after its command. Arguments may be secrets.
func nameOf(program string) string {
	name := []rune("run " + filepath.Base(program))
	for i, r := range name {
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			name[i] = '_'
		}
	}
	return string(name[:min(len(name), maxName)])
}

// maxName is how many characters the name of a job may have.
const maxName = 255

func runWith(cmd *cobra.Command, conn *connection, w *wanted, timeout time.Duration, log bool, args []string) error {
	job, err := w.spec(labapi.OwnRun)
	if err != nil {
		return err
	}
	if timeout > 0 {
		// The servers end it if this process cannot.
		job.MaxRuntime = min(timeout+time.Minute, jobspec.Longest).String()
	}
	claims, err := newClaimant(cmd, conn)
	if err != nil {
		return err
	}
	claimed, sent, err := claims.get(cmd, w, job)
	if err != nil {
		return err
	}
	calls, err := claims.calls.Run(claimed.Run, claimed.Token)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	status := ownrun.Run(ownrun.Options{
		Claimed: claimed, Sent: sent, Calls: calls, Args: args, Timeout: timeout, Log: log, Mask: []string{claims.lab.Token()}, Signals: claims.signals, Guard: []string{exe, guardCommandName}, Say: claims.say,
	})
	if status == exitOK {
		return nil
	}
	return coded{code: status}
}

const guardCommandName = "run-guard"

// guardCommand is the process that ends the command of a run if the run's own cannot.
func guardCommand() *cobra.Command {
	return &cobra.Command{
		Use: guardCommandName, Hidden: true, Short: "End the command of a run if its process cannot", Args: noArgs,
		Example: "  'hostsched run' starts it",
		RunE: func(*cobra.Command, []string) error {
			ownrun.Guard(os.Stdin)
			return nil
		},
	}
}

// claimant gets hosts for who calls.
type claimant struct {
	lab     *labclient.Client
	calls   *agentclient.Client
	signals chan os.Signal
	say     func(format string, args ...any)
}

func newClaimant(cmd *cobra.Command, conn *connection) (*claimant, error) {
	cfg, err := conn.config(cmd)
	if err != nil {
		return nil, err
	}
	lab, err := labclient.New(cfg)
	if err != nil {
		return nil, err
	}
	calls, err := agentclient.New(cfg)
	if err != nil {
		return nil, err
	}
	c := &claimant{lab: lab, calls: calls, signals: make(chan os.Signal, 16)}
	c.say = func(format string, args ...any) {
		// If standard error cannot be written, the exit code has to do.
		_ = line(cmd.ErrOrStderr(), "hostsched: %s", fmt.Sprintf(format, args...))
	}
	ownrun.Notify(c.signals)
	return c, nil
}

// get submits a job and waits until its hosts are there.
func (c *claimant) get(cmd *cobra.Command, w *wanted, job labapi.JobSpec) (claimed labapi.Claimed, sent command.Instant, err error) {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	waited := make(chan struct{})
	defer func() { <-waited }()
	ended, end := context.WithCancel(ctx)
	defer end()
	go func() {
		defer close(waited)
		c.interrupt(ended, cancel)
	}()
	if w.waitTimeout > 0 {
		timer := time.AfterFunc(w.waitTimeout, func() { cancel(errWaited) })
		defer timer.Stop()
	}
	for {
		claimed, sent, err = c.once(ctx, w, job)
		if !errors.Is(err, errDeserted) {
			return claimed, sent, c.because(ctx, err)
		}
		c.say("%s; submitting it again", err)
	}
}

// once submits a job and waits for its hosts, as long as the servers have it.
func (c *claimant) once(ctx context.Context, w *wanted, job labapi.JobSpec) (claimed labapi.Claimed, sent command.Instant, err error) {
	submitted, err := c.submit(ctx, w, job)
	if err != nil {
		return claimed, 0, err
	}
	q := queuing{claimant: c, quiet: w.quiet, job: submitted.ID, key: newKey(), patience: cmp.Or(w.waitTimeout, awayFor)}
	claimed, sent, err = q.wait(ctx)
	if err != nil && !errors.Is(err, errDeserted) {
		q.abandon(ctx)
	}
	return claimed, sent, err
}

// errWaited is the end of --wait-timeout.
var errWaited = errors.New("no host was there in time")

// interrupted is the signal that ended the waiting.
type interrupted struct{ number int }

// Error implements error: whoever sent the signal knows it.
func (interrupted) Error() string { return "" }

// interrupt ends the waiting when a signal asks for it, which is lost on nobody: what runs
// later hears only of later ones.
func (c *claimant) interrupt(ended context.Context, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-ended.Done():
			return
		case sig := <-c.signals:
			if ownrun.Asks(sig) {
				cancel(interrupted{signalNumber(sig)})
				return
			}
		}
	}
}

// because is the exit code for the end of the waiting.
func (c *claimant) because(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var sig interrupted
	cause := context.Cause(ctx)
	switch {
	case errors.As(cause, &sig):
		return coded{code: 128 + sig.number}
	case errors.Is(cause, errWaited):
		return coded{command.StatusTimeout, cause}
	}
	return err
}
