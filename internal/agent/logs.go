package agent

import (
	"context"
	"errors"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/runlog"
)

func (r *run) newLogs() (out []*runlog.Log) {
	if r.rec.Done != nil {
		return nil
	}
	for _, stream := range runlog.Streams {
		out = append(out, &runlog.Log{Stream: stream, File: r.folder.Stream(stream)})
	}
	return out
}

func backlog(logs []*runlog.Log) (bytes int64) {
	for _, l := range logs {
		bytes += l.Backlog()
	}
	return bytes
}

// sendLogs sends what is new, and tells whether the servers have all of it.
func (r *run) sendLogs(ctx context.Context, logs []*runlog.Log) bool {
	all := true
	for _, l := range logs {
		all = r.sendLog(ctx, l) && all
	}
	r.mu.Lock()
	r.spooled = backlog(logs)
	r.mu.Unlock()
	return all
}

func (r *run) sendLog(ctx context.Context, l *runlog.Log) bool {
	for {
		data, err := l.Next()
		if err != nil {
			r.agent.Log.Error("cannot read the log of a run", "run", r.id, "stream", l.Stream, "err", err)
			return false
		}
		if len(data) == 0 {
			return true
		}
		if !r.put(ctx, l, data) {
			return false
		}
	}
}

// put tells whether to go on.
func (r *run) put(ctx context.Context, l *runlog.Log, data []byte) bool {
	sent := command.Now()
	end, err := r.calls.PutLog(ctx, l.Stream, l.Sent, data)
	if errors.Is(err, agentclient.ErrRefused) {
		r.agent.Log.Error("the servers do not take the log of a run", "run", r.id, "stream", l.Stream, "err", oneLine(err))
	}
	if refused, again := l.Refused(err); refused {
		return again
	}
	if !r.hear(sent, end.RunAnswer, err) {
		return false
	}
	l.Sent = end.End
	return true
}
