package agent

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/shim"
)

// claimFile is what the agent must know of a run after it was started again.
const claimFile = "claim.json"

// record is a run in the spool.
type record struct {
	Claimed labapi.Claimed  `json:"claimed"`
	Boot    string          `json:"boot"`
	Sent    command.Instant `json:"sent"`
	// Done is the result of a run that has no shim.
	Done *labapi.RunFinish `json:"done,omitempty"`
}

// spool is the folder with those of all runs.
type spool struct {
	dir  string
	lock *os.File
}

// ErrSpoolUsed means that another agent has the spool.
var ErrSpoolUsed = errors.New("another agent uses this spool")

func openSpool(dir string) (*spool, error) {
	s := &spool{dir: dir}
	if err := os.MkdirAll(s.runs(), 0o711); err != nil {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the spool: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s; end that one, or give each its own", ErrSpoolUsed, dir), lock.Close())
	}
	s.lock = lock
	return s, nil
}

// idFile has what tells a spool from all others.
const idFile = "id"

// identify returns the id that the spool has, or gives it one. With an error it is not kept.
func (s *spool) identify() (id string, err error) {
	fresh := rand.Text()
	text, err := os.ReadFile(filepath.Join(s.dir, idFile))
	if err == nil && len(text) == len(fresh) {
		return string(text), nil
	}
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = shim.Folder(s.dir).WriteFile(idFile, []byte(fresh))
	}
	return fresh, err
}

func (s *spool) close() error { return s.lock.Close() }

func (s *spool) runs() string { return filepath.Join(s.dir, "runs") }

func (s *spool) folder(run int64) string { return filepath.Join(s.runs(), strconv.FormatInt(run, 10)) }

// found are the runs of an earlier agent; strange are folders that no run owns.
func (s *spool) found() (found map[shim.Folder]record, strange []shim.Folder, err error) {
	entries, err := os.ReadDir(s.runs())
	if err != nil {
		return nil, nil, fmt.Errorf("read the spool: %w", err)
	}
	found = map[shim.Folder]record{}
	for _, e := range entries {
		f := shim.Folder(filepath.Join(s.runs(), e.Name()))
		if r, ok := readRecord(f); ok {
			found[f] = r
		} else {
			strange = append(strange, f)
		}
	}
	return found, strange, nil
}

func readRecord(f shim.Folder) (r record, ok bool) {
	text, err := os.ReadFile(f.Path(claimFile))
	return r, err == nil && json.Unmarshal(text, &r) == nil
}

func (r record) write(f shim.Folder) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = f.WriteFile(claimFile, text)
	}
	if err != nil {
		return fmt.Errorf("keep the claim of a run: %w", err)
	}
	return nil
}

// leastFree is how much of the disk must be free before a run is taken up: results of those
// that go on need it.
const leastFree = 64 << 20

// unfit says why the spool takes no new run, empty if it does.
func (s *spool) unfit() string {
	var stat unix.Statfs_t
	if err := unix.Statfs(s.dir, &stat); err != nil {
		return fmt.Sprintf("the spool cannot be used: %s", err)
	}
	if free := stat.Bavail * uint64(stat.Bsize); free < leastFree {
		return fmt.Sprintf("the disk of %s is full: %d MiB are free, %d are needed", s.dir, free>>20, leastFree>>20)
	}
	return ""
}
