package runlog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
)

// Streams are the logs of a run.
var Streams = []string{"stdout", "stderr"}

// Options say what is kept of a stream.
type Options struct {
	// Mask are values that the log does not show.
	Mask []string
	// Cap is how many bytes are kept.
	Cap int64
	// Also gets all that is said, as it is; nil for nobody. When it cannot be written, whoever
	// speaks finds that nobody reads any more.
	Also *os.File
	// Said is set to when anything was last said.
	Said *atomic.Int64
}

// Output keeps what commands say on one stream, in a file.
type Output struct {
	also *os.File
	// from is the end of the last pipe that is read.
	from   *os.File
	stream string
	// mu is for a stream that somebody has open yet although the run is over.
	mu   sync.Mutex
	file *os.File
	mask *masker
	// room is how many bytes are kept yet, besides the mark.
	room int64
	// marked means that the log was cut, after which everything is only counted.
	marked bool
	// owed is what is missing of the mark: a full disk had no room for it either.
	owed []byte
	size int64
	cut  int64
	sum  hash.Hash
	// said is when anything was last said, on any stream.
	said *atomic.Int64
	done chan struct{}
}

// markRoom is more than the mark of a log that was cut needs.
const markRoom = 128

// Open makes the file of a log.
func Open(name, stream string, o Options) (*Output, error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the spool of a log: %w", err)
	}
	return &Output{also: o.Also, stream: stream, file: file, mask: newMasker(o.Mask), room: max(o.Cap-markRoom, 0), sum: sha256.New(), said: o.Said}, nil
}

// Pipe returns the end of a pipe that a command may write to. It is read until nobody has it open.
func (o *Output) Pipe() (*os.File, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for a log: %w", err)
	}
	o.from, o.done = from, make(chan struct{})
	go o.copy(from)
	return to, nil
}

func (o *Output) copy(from *os.File) {
	defer close(o.done)
	defer from.Close() //nolint:errcheck // it was only read
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			o.said.Store(int64(command.Now()))
			o.mu.Lock()
			o.keep(o.mask.next(buffer[:n]))
			o.mu.Unlock()
		}
		if err != nil || !o.pass(buffer[:n]) {
			return
		}
	}
}

const (
	// leaveBound is for what is in a pipe already.
	leaveBound = time.Second
	// takeBound is more than somebody needs to take that who reads at all.
	takeBound = 100 * time.Millisecond
)

// Leave keeps what is left in the pipe, when nobody writes any more, also if whoever should get
// what was said before does not take it.
func (o *Output) Leave() {
	select {
	case <-o.done:
		return
	case <-time.After(takeBound):
	}
	_ = o.from.SetReadDeadline(time.Now().Add(leaveBound)) // a pipe has deadlines
	rest, _ := io.ReadAll(o.from)                          // as much as there was
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keep(o.mask.next(rest))
}

// pass passes on what was said, and tells whether anybody took it.
func (o *Output) pass(data []byte) bool {
	if o.also == nil {
		return true
	}
	_, err := o.also.Write(data)
	return err == nil
}

// keep writes what there is room for, on the disk as under the cap, and counts the rest.
func (o *Output) keep(data []byte) {
	fits := data[:min(int64(len(data)), o.room)]
	if o.marked {
		fits = nil
	}
	n := o.write(fits)
	o.room -= int64(n)
	if n == len(data) {
		return
	}
	o.cut += int64(len(data) - n)
	if !o.marked {
		o.marked = true
		o.mark(fmt.Appendf(nil, "\n[hostsched: the log is cut here, after %d bytes]\n", o.size))
	}
}

func (o *Output) mark(text []byte) { o.owed = text[o.write(text):] }

// write returns how much was written: a disk that is full ends the log, and not the run.
func (o *Output) write(data []byte) int {
	n, err := o.file.Write(data)
	if err != nil {
		o.room = 0
	}
	o.sum.Write(data[:n])
	o.size += int64(n)
	return n
}

// Done is closed when nobody has the last pipe open any more.
func (o *Output) Done() <-chan struct{} { return o.done }

// End returns how much of the log there is, once nobody writes any more.
func (o *Output) End() (labapi.StreamEnd, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keep(o.mask.rest())
	o.mark(o.owed)
	err := o.file.Close()
	return labapi.StreamEnd{Stream: o.stream, Size: o.size, SHA256: hex.EncodeToString(o.sum.Sum(nil)), Cut: o.cut}, err
}
