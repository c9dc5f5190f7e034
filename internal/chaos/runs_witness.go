package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// witness is what every job and task does in the lab of -runs: it stands for the work on a
// host. As long as it lives it keeps a lock on a file for each of its hosts, so that two that
// work on one host meet there, and it notes that it began. Whatever should not be it writes
// to a file of its own.
type witness struct {
	dir string
	// hold is how long it works, fence that it ends what is left of others first.
	hold  time.Duration
	fence bool
	// tries is how often its job may be begun.
	tries int
	// lines is how many lines it says at once.
	lines int

	run    string
	kind   string
	hosts  []string
	epochs []int64
	job    string
}

// The files in a witness's folder.
const (
	beganFile = "began"
	wrongFile = "wrong"
)

// kindJob is the kind of a run of a job; of a special task it is that of the task. Runs of
// people say no kind.
const kindJob = "job"

// fromEnvironment reads what the claimant says of the run.
func (w *witness) fromEnvironment(env func(string) string) error {
	w.run, w.job, w.kind, w.hosts = env("HOSTSCHED_RUN"), env("HOSTSCHED_JOB"), env("HOSTSCHED_KIND"), strings.Fields(env("HOSTSCHED_HOSTS"))
	for _, text := range strings.Fields(env("HOSTSCHED_EPOCH")) {
		epoch, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("HOSTSCHED_EPOCH: %w", err)
		}
		w.epochs = append(w.epochs, epoch)
	}
	if w.run == "" || len(w.hosts) == 0 || len(w.hosts) != len(w.epochs) {
		return fmt.Errorf("run %q has %d hosts and %d epochs", w.run, len(w.hosts), len(w.epochs))
	}
	return nil
}

// work locks the hosts, says so, and works until its time is over or ctx ends.
func (w *witness) work(ctx context.Context) error {
	for i, host := range w.hosts {
		f, err := w.lock(host, w.epochs[i])
		if err != nil {
			return errors.Join(err, w.note(wrongFile, "run %s, epoch %d of %s: %v", w.run, w.epochs[i], host, err))
		}
		defer func() { _ = f.Close() }() // only now: its lock ends with it
	}
	if w.kind != "" && w.kind != kindJob {
		sleep(ctx, w.hold)
		return ctx.Err()
	}
	if err := w.note(beganFile, "%s %s %d", w.job, w.run, max(w.tries, 1)); err != nil {
		return err
	}
	if w.kind == kindJob {
		return w.speak(ctx)
	}
	fmt.Printf("run %s of job %s on %v\n", w.run, w.job, w.hosts)
	sleep(ctx, w.hold)
	return ctx.Err()
}

// wasThere ends what is noted of a run that comes after one of a later epoch.
const wasThere = "was there before"

// lock takes the file of a host, which says who had it last.
func (w *witness) lock(host string, epoch int64) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(w.dir, "host-"+host), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := w.exclude(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	var former, pid int64
	var run string
	// A run may have several steps on a host, one after the other.
	if _, err := fmt.Fscan(f, &former, &pid, &run); err == nil && (former > epoch || former == epoch && run != w.run) {
		return nil, errors.Join(fmt.Errorf("epoch %d was there before", former), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%d %d %s\n", epoch, os.Getpid(), w.run), 0)
	return f, err
}

// exclude makes sure that nobody else works on a host. A fence ends whoever is stopped and
// did not notice that its time is over; one that runs on is wrong also then.
func (w *witness) exclude(f *os.File) error {
	if err := tryLock(f); err == nil {
		return nil
	}
	var epoch int64
	var pid int
	if _, err := fmt.Fscan(f, &epoch, &pid); err != nil {
		return fmt.Errorf("somebody works there who does not say who: %w", err)
	}
	if !w.fence || !stopped(pid) {
		return fmt.Errorf("process %d of epoch %d works there", pid, epoch)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	const bound = 5 * time.Second
	for end := time.Now().Add(bound); ; time.Sleep(time.Millisecond) {
		if err := tryLock(f); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func tryLock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a descriptor is an int
}

// stopped tells whether a process does not run at this moment, because of SIGSTOP.
func stopped(pid int) bool {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return false
	}
	stat, err := p.Stat()
	return err == nil && stat.State == "T"
}

// note appends a line to a file. Lines of several processes do not mix.
func (w *witness) note(file, format string, args ...any) error {
	f, err := os.OpenFile(filepath.Join(w.dir, file), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, format+"\n", args...)
	return errors.Join(err, f.Close())
}

// linesOf reads what witnesses noted.
func linesOf(dir, file string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n"), err
}

// begunTwice are jobs whose work was begun more often than they may be.
func begunTwice(began []string) (twice []string) {
	times := map[string]int{}
	for _, line := range began {
		var job, run string
		var tries int
		if _, err := fmt.Sscan(line, &job, &run, &tries); err != nil {
			continue // half a line, of a process that was killed
		}
		if times[job]++; times[job] == tries+1 {
			twice = append(twice, job)
		}
	}
	return twice
}
