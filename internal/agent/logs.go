package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/shim"
)

const (
	// flush is how often logs are sent.
	flush = 500 * time.Millisecond
	// chunk is how much of a log is sent in one call.
	chunk = 256 << 10
)

// log is how much of a log the servers have.
type log struct {
	stream string
	file   string
	sent   int64
	// full means that the servers only count the rest.
	full bool
}

func (r *run) newLogs() (out []*log) {
	if r.rec.Done != nil {
		return nil
	}
	for _, stream := range shim.Streams {
		out = append(out, &log{stream: stream, file: r.folder.Stream(stream)})
	}
	return out
}

func (l *log) size() int64 {
	info, err := os.Stat(l.file)
	if err != nil {
		return 0 // it was not begun
	}
	return info.Size()
}

func backlog(logs []*log) (bytes int64) {
	for _, l := range logs {
		if !l.full {
			bytes += max(l.size()-l.sent, 0)
		}
	}
	return bytes
}

func rewind(logs []*log) {
	for _, l := range logs {
		l.sent = 0
	}
}

// sendLogs sends what is new, and tells whether the servers have all of it.
func (r *run) sendLogs(ctx context.Context, logs []*log) bool {
	all := true
	for _, l := range logs {
		all = r.sendLog(ctx, l) && all
	}
	r.mu.Lock()
	r.spooled = backlog(logs)
	r.mu.Unlock()
	return all
}

func (r *run) sendLog(ctx context.Context, l *log) bool {
	for !l.full {
		data, err := l.next()
		if err != nil {
			r.agent.Log.Error("cannot read the log of a run", "run", r.id, "stream", l.stream, "err", err)
			return false
		}
		if len(data) == 0 {
			return true
		}
		if !r.put(ctx, l, data) {
			return false
		}
	}
	return true
}

func (l *log) next() ([]byte, error) {
	file, err := os.Open(l.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.NewSectionReader(file, l.sent, chunk))
	return data, err
}

// put tells whether to go on.
func (r *run) put(ctx context.Context, l *log, data []byte) bool {
	sent := command.Now()
	end, err := r.calls.PutLog(ctx, l.stream, l.sent, data)
	var offset *agentclient.OffsetError
	switch {
	case errors.As(err, &offset):
		moved := offset.Expected != l.sent
		l.sent = offset.Expected
		return moved
	case errors.Is(err, agentclient.ErrLogFull):
		l.full = true
		return true
	case errors.Is(err, agentclient.ErrRefused):
		r.agent.Log.Error("the servers do not take the log of a run", "run", r.id, "stream", l.stream, "err", oneLine(err))
		l.full = true
		return true
	}
	if !r.hear(sent, end.RunAnswer, err) {
		return false
	}
	l.sent = end.End
	return true
}

// ends are the logs that the servers must have. What they did not take is not among them.
func ends(streams []labapi.StreamEnd, logs []*log) []labapi.StreamEnd {
	out := slices.Clone(streams)
	return slices.DeleteFunc(out, func(s labapi.StreamEnd) bool {
		return s.Size == 0 || slices.ContainsFunc(logs, func(l *log) bool { return l.stream == s.Stream && l.full })
	})
}
