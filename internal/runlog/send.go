package runlog

import (
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/labapi"
)

const (
	// Chunk is how much of a log is sent in one call.
	Chunk = 256 << 10
	// Flush is how often logs are sent.
	Flush = 500 * time.Millisecond
)

// Log is how much of a log the servers have.
type Log struct {
	Stream string
	// File has all of it.
	File string
	Sent int64
	// Full means that the servers only count the rest.
	Full bool
}

// Backlog is how much the servers do not have.
func (l *Log) Backlog() int64 {
	info, err := os.Stat(l.File)
	if err != nil || l.Full {
		return 0 // it was not begun, or they take no more
	}
	return max(info.Size()-l.Sent, 0)
}

// Next is what to send next, nothing if the servers have all.
func (l *Log) Next() ([]byte, error) {
	if l.Full {
		return nil, nil
	}
	file, err := os.Open(l.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.NewSectionReader(file, l.Sent, Chunk))
}

// Refused tells whether an answer is about the log itself: the servers have more or less of it
// than was thought, or take no more. If again is true, what is next may be sent at once.
func (l *Log) Refused(err error) (refused, again bool) {
	var offset *agentclient.OffsetError
	switch {
	case errors.As(err, &offset):
		moved := offset.Expected != l.Sent
		l.Sent = offset.Expected
		return true, moved
	case errors.Is(err, agentclient.ErrLogFull), errors.Is(err, agentclient.ErrRefused):
		l.Full = true
		return true, true
	}
	return false, false
}

// Rewind sends all logs anew: the servers say how much of them they have.
func Rewind(logs []*Log) {
	for _, l := range logs {
		l.Sent = 0
	}
}

// Ends are the logs that the servers must have. What they did not take is not among them.
func Ends(streams []labapi.StreamEnd, logs []*Log) []labapi.StreamEnd {
	return slices.DeleteFunc(slices.Clone(streams), func(s labapi.StreamEnd) bool {
		return s.Size == 0 || slices.ContainsFunc(logs, func(l *Log) bool { return l.Stream == s.Stream && l.Full })
	})
}
