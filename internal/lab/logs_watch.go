package lab

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

const (
	// followEvery is how often it is looked whether logs have grown that somebody follows.
	followEvery = 100 * time.Millisecond
	// followBuffer is how many parts a follower may be behind before he is cut off.
	followBuffer = 64
	// followBytes is how much of a log is handed on at once.
	followBytes = 256 << 10
)

// LogWatch reads each log that is followed once for all who follow it through this replica.
type LogWatch struct {
	// Failed is told when logs cannot be read; reading goes on.
	Failed func(error)

	mu      sync.Mutex
	streams map[streamKey]*followed
	count   int
	// stop ends the reading; nil while nobody follows.
	stop   context.CancelFunc
	closed bool
}

// followed is a log that somebody follows.
type followed struct {
	at        int64
	followers map[*LogFollower]bool
}

// LogFollower gets what comes to a log after he began.
type LogFollower struct {
	// Parts is closed when the follower was too slow, and after the log's end.
	Parts chan LogNews
	// From is where the first part begins.
	From int64
	key  streamKey
}

// LogNews is more of a log, or its end.
type LogNews struct {
	Part labapi.LogPart
	Over *labapi.LogOver
}

// Begin follows a log until End.
func (w *LogWatch) Begin(ctx context.Context, l *Lab, run int64, stream string) (*LogFollower, error) {
	have, err := l.Log(ctx, run, stream)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.count >= maxWatchers {
		return nil, fmt.Errorf("%w: of logs through this replica; follow it through another one, or read it without", ErrTooMany)
	}
	if w.stop == nil {
		var reading context.Context
		reading, w.stop = context.WithCancel(context.WithoutCancel(ctx))
		w.streams = map[streamKey]*followed{}
		go w.read(reading, l)
	}
	key := streamKey{run, stream}
	s := w.streams[key]
	if s == nil {
		s = &followed{at: have.Size, followers: map[*LogFollower]bool{}}
		w.streams[key] = s
	}
	f := &LogFollower{Parts: make(chan LogNews, followBuffer), From: s.at, key: key}
	s.followers[f] = true
	w.count++
	return f, nil
}

// End removes a follower.
func (w *LogWatch) End(f *LogFollower) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.streams[f.key]
	if s == nil || !s.followers[f] {
		return
	}
	w.remove(s, f)
}

// remove removes a follower. The last one ends the reading.
func (w *LogWatch) remove(s *followed, f *LogFollower) {
	delete(s.followers, f)
	w.count--
	if len(s.followers) == 0 {
		delete(w.streams, f.key)
	}
	if w.count == 0 {
		w.end()
	}
}

func (w *LogWatch) end() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// Close cuts all followers off, and takes no more: the replica is ending.
func (w *LogWatch) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, s := range w.streams {
		for f := range s.followers {
			close(f.Parts)
			w.remove(s, f)
		}
	}
}

// read looks for what came until ctx ends.
func (w *LogWatch) read(ctx context.Context, l *Lab) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		more, err := w.readOnce(ctx, l)
		if err != nil && ctx.Err() == nil && w.Failed != nil {
			w.Failed(err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readOnce hands on what came to each log, and tells whether there is more already.
func (w *LogWatch) readOnce(ctx context.Context, l *Lab) (more bool, err error) {
	at := w.positions()
	if len(at) == 0 {
		return false, ctx.Err()
	}
	now, over, err := l.endsOf(ctx, at)
	if err != nil {
		return false, err
	}
	for key, from := range at {
		have := now[key]
		if have.Size > from {
			upTo := min(have.Size, from+followBytes)
			var data bytes.Buffer
			err := l.WriteLog(ctx, &data, key.run, key.name, from, upTo)
			if IsFileFault(err) {
				// They hear why when they come back; those who follow other logs do not wait.
				w.cutOff(key)
				continue
			}
			if err != nil {
				return false, err
			}
			w.hand(ctx, key, from, data.Bytes())
			more = more || data.Len() > 0 && upTo < have.Size
			continue
		}
		if state := over[key.run]; state != "" {
			w.over(ctx, key, labapi.LogOver{Size: have.Size, Cut: have.Cut, Lost: state == "lost"})
		}
	}
	return more, nil
}

// positions are how far the logs were handed on.
func (w *LogWatch) positions() map[streamKey]int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := make(map[streamKey]int64, len(w.streams))
	for key, s := range w.streams {
		at[key] = s.at
	}
	return at
}

// endsOf reads with one query how long logs are, and how those runs ended that are over.
func (l *Lab) endsOf(ctx context.Context, of map[streamKey]int64) (map[streamKey]labapi.Log, map[int64]string, error) {
	runs := map[int64]bool{}
	var ids []int64
	for key := range of {
		if !runs[key.run] {
			runs[key.run], ids = true, append(ids, key.run)
		}
	}
	logs, over := map[streamKey]labapi.Log{}, map[int64]string{}
	query := "SELECT COALESCE(s.stream, ''), COALESCE(s.size, 0), COALESCE(s.cut, 0), '', r.id, CASE WHEN r.state IN ('done', 'lost') THEN r.state ELSE '' END" +
		" FROM hostsched_runs r LEFT JOIN hostsched_logs s ON s.run_id = r.id WHERE r.id IN " + sqldb.List(ids)
	err := l.each(ctx, "look how long logs are", query, nil, func(scan sqldb.Scanner) error {
		var run int64
		var state string
		s, err := scanStream(scan, &run, &state)
		logs[streamKey{run, s.Stream}], over[run] = s, state
		return err
	})
	return logs, over, err
}

func (w *LogWatch) hand(ctx context.Context, key streamKey, from int64, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.streams[key]
	if ctx.Err() != nil || s == nil || s.at != from {
		return
	}
	s.at = from + int64(len(data))
	for f := range s.followers {
		select {
		case f.Parts <- LogNews{Part: labapi.LogPart{Offset: from, Data: data}}:
		default:
			close(f.Parts)
			w.remove(s, f)
		}
	}
}

// cutOff ends the streams of all who follow a log.
func (w *LogWatch) cutOff(key streamKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.streams[key]
	if s == nil {
		return
	}
	for f := range s.followers {
		close(f.Parts)
		w.remove(s, f)
	}
}

func (w *LogWatch) over(ctx context.Context, key streamKey, end labapi.LogOver) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.streams[key]
	if ctx.Err() != nil || s == nil || s.at < end.Size {
		return
	}
	for f := range s.followers {
		select {
		case f.Parts <- LogNews{Over: &end}:
		default:
		}
		close(f.Parts)
		w.remove(s, f)
	}
}
