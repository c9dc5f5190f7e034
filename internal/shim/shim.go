package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/runlog"
)

// Reasons for which a run ends, as labapi.RunFinish has them.
const (
	StopHard   = "timeout"
	StopOutput = "timeout-output"
	StopLease  = "lease-lost"
	StopAgent  = "agent-stop"
)

// NotStarted says that a step could not be begun.
const NotStarted = "not-started"

// look is how often the control and the clock are looked at. Timers stand still while the
// machine sleeps.
const look = 50 * time.Millisecond

// drainBound is how long the logs may be read after all processes have ended.
const drainBound = 5 * time.Second

type shim struct {
	folder  Folder
	spec    Spec
	outputs []*runlog.Output
	// said is when anything was last said, an Instant.
	said   atomic.Int64
	began  command.Instant
	attr   syscall.SysProcAttr
	result Result
	// control is the last one that was read.
	control Control
	signals chan os.Signal
	// killAt is when a step that was asked to end is killed, 0 if it was not asked.
	killAt command.Instant
}

// Run is the whole life of a shim. It returns when the result is written.
func Run(path string) error {
	f := Folder(path)
	lock, err := f.TryLock()
	if err != nil {
		return fmt.Errorf("lock the folder of the run: %w", err)
	}
	if lock == nil {
		return errors.New("another process runs this run, or has ended it")
	}
	// The lock ends with this process.
	defer lock.Close() //nolint:errcheck // nothing was written to it
	spec, ok := f.Spec()
	if !ok {
		return fmt.Errorf("%s says not what to run", f.path(specFile))
	}
	if _, over := f.Result(); over {
		return nil
	}
	s := &shim{folder: f, spec: spec, signals: make(chan os.Signal, 1)}
	signal.Notify(s.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := s.note(Began{Shim: os.Getpid()}); err != nil {
		return err
	}
	s.run()
	return s.finish()
}

// note says who runs the run, so that others can end it.
func (s *shim) note(b Began) error {
	text, err := json.Marshal(b)
	if err == nil {
		err = s.folder.WriteFile(beganFile, text)
	}
	if err != nil {
		return fmt.Errorf("note that a step begins: %w", err)
	}
	return nil
}

func (s *shim) run() {
	if err := s.prepare(); err != nil {
		s.neverBegan("", err)
		return
	}
	s.began = command.Now()
	for _, step := range s.spec.Steps {
		if !s.runStep(step) {
			return
		}
	}
}

func (s *shim) prepare() error {
	s.readControl()
	boot, err := BootID()
	switch {
	case err != nil:
		return err
	case s.control.Boot != boot || s.control.Ask.Until() <= 0:
		return errors.New("the lease was over before the run began")
	}
	if err := command.Adopt(); err != nil {
		return err
	}
	for _, stream := range runlog.Streams {
		o, err := runlog.Open(s.folder.Stream(stream), stream, runlog.Options{Mask: s.spec.Mask, Cap: s.spec.LogCap, Said: &s.said})
		if err != nil {
			return err
		}
		s.outputs = append(s.outputs, o)
	}
	// The file stays open as long as steps are started.
	_, err = openCgroup(s.spec.Cgroup, &s.attr)
	return err
}

// readControl keeps the last one if the agent is about to write another.
func (s *shim) readControl() {
	if c, ok := s.folder.Control(); ok {
		s.control = c
	}
}

func (s *shim) neverBegan(step string, err error) {
	status := command.Status(err)
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	s.result = Result{Step: step, ExitCode: &status, NotRunReason: NotStarted, Detail: text}
}

// runStep tells whether the next step may run.
func (s *shim) runStep(step Step) bool {
	p, err := s.start(step)
	if err != nil {
		s.neverBegan(step.Name, err)
		return false
	}
	s.result.Step = step.Name
	if err := s.note(Began{Shim: os.Getpid(), Group: p.Pid(), Step: step.Name}); err != nil {
		s.result.Detail = err.Error() // it runs nevertheless; the mark finds it
	}
	s.folder.ring()
	s.watch(p)
	s.drain()
	s.take(p.Exit())
	return s.result.StopReason == "" && s.result.ExitCode != nil && *s.result.ExitCode == 0
}

func (s *shim) start(step Step) (p *command.Process, err error) {
	attr := s.attr
	if u := s.spec.User; u != nil && !step.Own {
		attr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	spec := command.Spec{Args: step.Args, Env: append(s.spec.Env, s.spec.Mark), Dir: s.folder.Work(), Attr: &attr, Adopted: true}
	if spec.Stdout, err = s.outputs[0].Pipe(); err != nil {
		return nil, err
	}
	defer spec.Stdout.Close() //nolint:errcheck // it is the step's
	if spec.Stderr, err = s.outputs[1].Pipe(); err != nil {
		return nil, err
	}
	defer spec.Stderr.Close() //nolint:errcheck // it is the step's
	s.said.Store(int64(command.Now()))
	return command.Start(spec)
}

// watch returns when a step has ended.
func (s *shim) watch(p *command.Process) {
	clock := time.NewTicker(look)
	defer clock.Stop()
	for {
		select {
		case <-p.Done():
			return
		case <-s.signals:
			s.stop(p, StopAgent, s.spec.Grace)
		case <-clock.C:
			s.lookAtClock(p)
		}
	}
}

func (s *shim) lookAtClock(p *command.Process) {
	s.readControl()
	c, now := s.control, command.Now()
	said := command.Instant(s.said.Load())
	switch {
	case c.Stop != "":
		s.stop(p, c.Stop, c.Grace)
	case now >= c.Ask:
		s.stop(p, StopLease, c.Kill.Until())
	case s.spec.Hard > 0 && now >= s.began.Add(s.spec.Hard):
		s.stop(p, StopHard, s.spec.Grace)
	case s.spec.Output > 0 && now >= said.Add(s.spec.Output):
		s.stop(p, StopOutput, s.spec.Grace)
	}
	if now >= c.Kill || s.killAt != 0 && now >= s.killAt {
		p.Kill()
		// Also what ignores its group, and holds the step's end up.
		if s.spec.Cgroup != "" {
			killCgroup(s.spec.Cgroup)
		}
	}
}

// stop asks a step to end, once.
func (s *shim) stop(p *command.Process, why string, grace time.Duration) {
	if s.killAt != 0 {
		return
	}
	s.result.StopReason, s.killAt = why, command.Now().Add(grace)
	p.Signal(syscall.SIGTERM)
	p.Signal(syscall.SIGCONT)
}

// drain waits until the logs are read.
func (s *shim) drain() {
	bound := time.After(drainBound)
	for _, o := range s.outputs {
		select {
		case <-o.Done():
		case <-bound: // a process that cannot be killed has it open yet
			return
		}
	}
}

func (s *shim) take(exit command.Exit) {
	s.result.ExitCode, s.result.Signal = nil, nil
	if exit.Signal != 0 {
		number := int(exit.Signal)
		s.result.Signal = &number
	} else {
		s.result.ExitCode = &exit.Code
	}
	if exit.Left {
		s.result.Detail = "processes of the run cannot be killed; they may use the hosts yet"
	}
}

// finish writes the result, when nothing of the run is left.
func (s *shim) finish() error {
	for end := time.Now().Add(killBound); killCgroup(s.spec.Cgroup); time.Sleep(killPause) {
		if time.Now().After(end) {
			s.result.Detail = "processes of the run cannot be killed; they may use the hosts yet"
			break
		}
	}
	// Its room is for the marks of logs that were cut, and for the result.
	spooled := os.Remove(s.folder.path(reserveFile))
	for _, o := range s.outputs {
		stream, err := o.End()
		spooled = errors.Join(spooled, err)
		s.result.Streams = append(s.result.Streams, stream)
	}
	text, err := json.Marshal(s.result)
	if err != nil {
		return err
	}
	if err := s.folder.WriteFile(resultFile, text); err != nil {
		return errors.Join(fmt.Errorf("write the result of the run: %w", err), spooled)
	}
	s.folder.ring()
	return spooled
}
