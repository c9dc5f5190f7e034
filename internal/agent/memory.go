package agent

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// restEvery is how often an agent that only waits gives memory back. What waiting touches now
// and then adds up slowly.
const restEvery = 10 * time.Minute

// rest gives memory back when an agent that did something waits again. How much it needs to wait
// is a small part of what starting and runs need.
func (a *Agent) rest(waits bool) {
	if !waits {
		a.rested = time.Time{}
		return
	}
	if time.Since(a.rested) < restEvery {
		return
	}
	a.rested = time.Now()
	debug.FreeOSMemory()
	if err := unmapProgram(); err != nil {
		a.Log.Info("keeps memory that it does not need", "err", err)
	}
}

// unmapProgram gives back the pages of this program's file. An agent is a small part of a large
// program, and starting it has touched nearly all pages of it; those that are needed again are
// the file's, unchanged.
func unmapProgram() (err error) {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var from, to uintptr // what is mapped of the program, read-only
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		var begin, end uintptr
		var rights string
		if n, _ := fmt.Sscanf(line, "%x-%x %4s", &begin, &end, &rights); n == 3 {
			from, to = begin, end
			if !strings.HasSuffix(line, " "+program) || strings.Contains(rights, "w") {
				to = from
			}
		}
		// Anonymous pages were written to before they became read-only: there is no other copy.
		if from < to && strings.HasPrefix(line, "Anonymous:") && strings.TrimSpace(strings.TrimPrefix(line, "Anonymous:")) == "0 kB" {
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
				return fmt.Errorf("give back what is mapped of %s: %w", program, errno)
			}
		}
	}
	return lines.Err()
}
