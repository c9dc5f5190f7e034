package ownrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runlog"
)

// logs are those of a command that the servers keep, beside passing them through. Every method
// does nothing for nil.
type logs struct {
	dir     string
	outputs []*runlog.Output
	pipes   []*os.File
	sent    []*runlog.Log
	streams []labapi.StreamEnd
	said    atomic.Int64
}

// keepLogs puts pipes between a command and this process's output.
func keepLogs(spec *command.Spec, most int64, mask []string) (*logs, error) {
	dir, err := os.MkdirTemp("", "hostsched-run-")
	if err != nil {
		return nil, fmt.Errorf("keep what the command writes: %w", err)
	}
	l := &logs{dir: dir}
	for i, to := range []**os.File{&spec.Stdout, &spec.Stderr} {
		if *to, err = l.add(runlog.Streams[i], runlog.Options{Mask: mask, Cap: most, Also: *to, Said: &l.said}); err != nil {
			l.started()
			l.remove()
			return nil, err
		}
	}
	// A write to a pipe that nobody reads is to fail, and not to end this process: the command
	// hears of it by a pipe that nobody reads.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return l, nil
}

func (l *logs) add(stream string, options runlog.Options) (*os.File, error) {
	file := filepath.Join(l.dir, stream)
	o, err := runlog.Open(file, stream, options)
	if err != nil {
		return nil, err
	}
	pipe, err := o.Pipe()
	if err != nil {
		return nil, err
	}
	l.outputs, l.pipes, l.sent = append(l.outputs, o), append(l.pipes, pipe), append(l.sent, &runlog.Log{Stream: stream, File: file})
	return pipe, nil
}

// started leaves the pipes to the command alone.
func (l *logs) started() {
	if l == nil {
		return
	}
	for _, pipe := range l.pipes {
		_ = pipe.Close() // it is the command's
	}
}

// endLogs waits until all that the command wrote was passed through, but not until whoever
// does not read it does, if the host or a person waits.
func (r *run) endLogs() {
	if r.logs == nil {
		return
	}
	over, end := context.WithTimeout(context.Background(), r.mustBeOver().Until())
	defer end()
	for _, o := range r.logs.outputs {
		r.passThrough(over, end, o)
		// A full disk is said in the log itself.
		stream, _ := o.End()
		r.logs.streams = append(r.logs.streams, stream)
	}
}

func (r *run) passThrough(over context.Context, end func(), o *runlog.Output) {
	for {
		select {
		case <-o.Done():
			return
		case <-over.Done():
			o.Leave()
			return
		case sig := <-r.Signals:
			if Asks(sig) {
				end()
			}
		}
	}
}

func (l *logs) remove() {
	if l != nil {
		_ = os.RemoveAll(l.dir) // nobody needs it any more
	}
}

// sendLogs sends what the command writes until ctx ends.
func (r *run) sendLogs(ctx context.Context) {
	for r.logs != nil {
		_ = r.sendRest(ctx) // the end of the run sends what is left
		select {
		case <-ctx.Done():
			return
		case <-time.After(runlog.Flush):
		}
	}
}

// sendRest sends all that the servers do not have.
func (r *run) sendRest(ctx context.Context) error {
	if r.logs == nil {
		return nil
	}
	for _, l := range r.logs.sent {
		for {
			data, err := l.Next()
			if err != nil {
				return err
			}
			if len(data) == 0 {
				break
			}
			if err := r.put(ctx, l, data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) put(ctx context.Context, l *runlog.Log, data []byte) error {
	sent := command.Now()
	end, err := r.Calls.PutLog(ctx, l.Stream, l.Sent, data)
	if refused, again := l.Refused(err); refused {
		if again {
			return nil
		}
		return fmt.Errorf("%w: %w", agentclient.ErrUnfinished, err)
	}
	if err != nil {
		return err
	}
	r.lease.Renewed(sent, time.Duration(end.LeaseMillis)*time.Millisecond)
	l.Sent = end.End
	return nil
}

// handIn sends what is left of the logs, and ends the run.
func (r *run) handIn(ctx context.Context, in labapi.RunFinish) error {
	if err := r.sendRest(ctx); err != nil {
		return err
	}
	if r.logs != nil {
		in.Streams = runlog.Ends(r.logs.streams, r.logs.sent)
	}
	_, err := r.Calls.Finish(ctx, in)
	if errors.Is(err, agentclient.ErrUnfinished) && r.logs != nil {
		runlog.Rewind(r.logs.sent)
	}
	return err
}
