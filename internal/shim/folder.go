package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
)

// Folder is the folder of a run. All of it is the agent's, but for Work.
type Folder string

// The files of a folder.
const (
	specFile    = "spec.json"
	controlFile = "control"
	lockFile    = "lock"
	bellFile    = "bell"
	beganFile   = "began.json"
	resultFile  = "result.json"
	reserveFile = "reserve"
	shimLog     = "shim.log"
	workFolder  = "work"
)

// reserveSize is kept free for the result of a run whose logs fill the disk.
const reserveSize = 64 << 10

// Spec says what a shim runs.
type Spec struct {
	Steps []Step   `json:"steps"`
	Env   []string `json:"env"`
	// User runs the steps, the agent's own if nil.
	User *User `json:"user,omitempty"`
	// Mask are values that logs do not show.
	Mask   []string `json:"mask,omitempty"`
	LogCap int64    `json:"log_cap"`
	// Hard is how long all steps may take, Output how long they may say nothing; 0 for any
	// time.
	Hard   time.Duration `json:"hard,omitempty"`
	Output time.Duration `json:"output,omitempty"`
	Grace  time.Duration `json:"grace"`
	// Cgroup is the folder of the run's own cgroup, empty for none.
	Cgroup string `json:"cgroup,omitempty"`
	// Mark is a line of the environment that nothing but this run has.
	Mark string `json:"mark"`
}

// Step is one command. The next one runs only if it succeeds.
type Step struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	// Own means that it runs as the agent's own user, because it needs the agent's keys.
	Own bool `json:"own,omitempty"`
}

// User is whom the steps belong to.
type User struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// Began is what the shim wrote when it began a step.
type Began struct {
	Shim  int    `json:"shim"`
	Group int    `json:"group,omitempty"`
	Step  string `json:"step,omitempty"`
}

// Result is how a run ended.
type Result struct {
	// Step is the one that was last begun.
	Step         string             `json:"step,omitempty"`
	ExitCode     *int               `json:"exit_code,omitempty"`
	Signal       *int               `json:"signal,omitempty"`
	StopReason   string             `json:"stop_reason,omitempty"`
	NotRunReason string             `json:"not_run_reason,omitempty"`
	Detail       string             `json:"detail,omitempty"`
	Streams      []labapi.StreamEnd `json:"streams,omitempty"`
}

func (f Folder) path(name string) string { return filepath.Join(string(f), name) }

// Path is that of a file which the shim does not know, in the agent's part of the folder.
func (f Folder) Path(name string) string { return f.path(name) }

// Work is the folder that the run's commands begin in. It is theirs.
func (f Folder) Work() string { return f.path(workFolder) }

// Stream is the file of a log.
func (f Folder) Stream(name string) string { return f.path(name) }

// Create makes the folder, with nobody in it.
func Create(path string, spec Spec, control Control) (Folder, error) {
	f := Folder(path)
	// Other users may go through it to their part, and see nothing on the way.
	if err := os.Mkdir(path, 0o711); err != nil {
		return f, err
	}
	text, err := json.Marshal(spec)
	if err == nil {
		err = f.WriteFile(specFile, text)
	}
	err = errors.Join(err, os.Mkdir(f.Work(), 0o700), unix.Mkfifo(f.path(bellFile), 0o600))
	if err == nil {
		err = os.WriteFile(f.path(reserveFile), make([]byte, reserveSize), 0o600)
	}
	if err == nil && spec.User != nil {
		err = os.Chown(f.Work(), int(spec.User.UID), int(spec.User.GID))
	}
	if err == nil {
		err = f.SetControl(control)
	}
	if err != nil {
		return f, errors.Join(fmt.Errorf("make the folder of a run: %w", err), f.Remove())
	}
	return f, nil
}

// WriteFile writes a file so that it is there as a whole or not at all, whenever the machine
// fails.
func (f Folder) WriteFile(name string, text []byte) error {
	temporary := f.path(name + ".new")
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, f.path(name)); err != nil {
		return err
	}
	dir, err := os.Open(string(f))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// read reads a file of WriteFile; ok is false if there is none.
func read[T any](f Folder, name string) (out T, ok bool) {
	text, err := os.ReadFile(f.path(name))
	return out, err == nil && json.Unmarshal(text, &out) == nil
}

// Spec is what the shim runs.
func (f Folder) Spec() (Spec, bool) { return read[Spec](f, specFile) }

// Began tells whether a step was begun, and which one is last.
func (f Folder) Began() (Began, bool) { return read[Began](f, beganFile) }

// Result is how the run ended, if it did.
func (f Folder) Result() (Result, bool) { return read[Result](f, resultFile) }

// Start starts a shim in a session of its own, by the arguments that make this program one.
func (f Folder) Start(program []string) error {
	log, err := os.OpenFile(f.path(shimLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(program[0], append(program[1:], string(f))...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	if closing := log.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("start the process that runs a run: %w", err)
	}
	// How it ends is in its result; here it is only reaped.
	go func() { _ = cmd.Wait() }()
	return nil
}

// Lock is held by a shim as long as it lives. Whoever gets it knows that there is no shim.
type Lock struct{ file *os.File }

// wholeFile is a lock of the open file, which is asked for without taking it: a shim that is
// about to begin must not find somebody who only looks.
func wholeFile() *unix.Flock_t { return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart} }

// TryLock returns nil if a shim lives.
func (f Folder) TryLock() (*Lock, error) {
	file, err := f.openLock()
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, wholeFile())
	if err == nil {
		return &Lock{file}, nil
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = nil
	}
	return nil, errors.Join(err, file.Close())
}

func (f Folder) openLock() (*os.File, error) {
	return os.OpenFile(f.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
}

// Alive tells whether a shim lives.
func (f Folder) Alive() (bool, error) {
	file, err := f.openLock()
	if err != nil {
		return false, err
	}
	lock := wholeFile()
	err = unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, lock)
	return lock.Type != unix.F_UNLCK, errors.Join(err, file.Close())
}

// Close gives the lock back.
func (l *Lock) Close() error {
	if l == nil {
		return nil
	}
	return l.file.Close()
}

// Bell is how the shim tells that a step began, or all ended.
func (f Folder) Bell() (*os.File, error) {
	// With both ends open it neither waits for the shim nor ends with it.
	return os.OpenFile(f.path(bellFile), os.O_RDWR|unix.O_NONBLOCK, 0)
}

// ring loses nothing if nobody listens: the files say everything.
func (f Folder) ring() {
	if bell, err := f.Bell(); err == nil {
		_, _ = bell.Write([]byte{'.'})
		_ = bell.Close()
	}
}

// killBound is how long killing may take, killPause is between two looks.
const (
	killBound = 10 * time.Second
	killPause = 5 * time.Millisecond
)

// Kill ends the shim and all processes of the run, and tells whether nothing is left. No shim
// begins after it.
func (f Folder) Kill() (empty bool) {
	var lock *Lock
	defer func() { _ = lock.Close() }() // nothing was written to it
	spec, _ := f.Spec()
	for end := time.Now().Add(killBound); time.Now().Before(end); time.Sleep(killPause) {
		if lock == nil {
			lock = f.killShim()
		}
		if lock != nil && !f.killSteps(spec) {
			// A shim that comes late finds nothing to do.
			err := os.Remove(f.path(specFile))
			return err == nil || errors.Is(err, fs.ErrNotExist)
		}
	}
	return false
}

// killShim returns the lock of a shim that is gone.
func (f Folder) killShim() *Lock {
	began, known := f.Began()
	var shim *os.Process
	if known {
		// The handle is of this very process, whoever gets its number later; and as long as
		// somebody has the lock, it is the shim.
		shim, _ = os.FindProcess(began.Shim)
	}
	lock, err := f.TryLock()
	if err != nil || lock != nil {
		return lock
	}
	if shim != nil {
		_ = shim.Kill()
	}
	return nil
}

// killSteps kills what a shim has left behind, and tells whether there was anything.
func (f Folder) killSteps(spec Spec) bool {
	left := killCgroup(spec.Cgroup)
	began, known := f.Began()
	if !known || spec.Mark == "" {
		return left
	}
	group := 0 // none
	if f.holds(began.Group, spec.Mark) {
		group = began.Group
	}
	return command.KillMarked(group, spec.Mark) || left
}

// holds tells whether the leader of a group belongs to the run yet: its number may be that of
// another group by now.
func (f Folder) holds(group int, mark string) bool {
	return group > 1 && command.Marked(group, mark)
}

// Remove removes the folder.
func (f Folder) Remove() error {
	err := os.RemoveAll(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// BootID differs after each start of the machine.
func BootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("ask when the machine was started: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
