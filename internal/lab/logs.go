package lab

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"regexp"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Bounds of logs.
const (
	// logChunk is how many bytes a row has at most.
	logChunk = 64 << 10
	// maxLogPart is how many bytes are appended in one transaction.
	maxLogPart = 1 << 20
	// maxStreams is how many logs a run may have.
	maxStreams = 16
	// logWriters is how many appends a replica does at the same time, so that logs leave
	// connections to everybody else.
	logWriters = 4
)

// Errors of logs that claimants tell apart, beside LogOffsetError.
var (
	// ErrLogFull means that a log has as many bytes as are kept.
	ErrLogFull = errors.New("the log is full")
	// ErrLogsMissing means that parts of a run's logs have not come.
	ErrLogsMissing = errors.New("parts of the logs are missing")
)

// LogOffsetError means that a log goes on elsewhere.
type LogOffsetError struct{ Given, Expected int64 }

// Error implements error.
func (e *LogOffsetError) Error() string {
	return fmt.Sprintf("the log goes on at byte %d, and not at %d; send it from there", e.Expected, e.Given)
}

// Unwrap makes it one of the conflicts.
func (e *LogOffsetError) Unwrap() error { return ErrConflict }

// LogPart is what comes next of a log. Of a log at most Cap bytes are kept.
type LogPart struct {
	Run    int64
	Stream string
	Offset int64
	Data   []byte
	Cap    int64
}

var streamPattern = regexp.MustCompile(`^[a-z]{1,32}$`)

// AppendLog appends to a log, and returns where it ends now. It fails with a LogOffsetError
// unless the part begins where the log ends, and with ErrLogFull if not all of it fits: what
// does is kept then.
func (l *Lab) AppendLog(ctx context.Context, p LogPart) (end int64, err error) {
	if !streamPattern.MatchString(p.Stream) {
		return 0, fmt.Errorf("%w: %q is no name of a log: up to 32 lower case letters", ErrInput, shortened(p.Stream))
	}
	return l.appendStream(ctx, p)
}

func (l *Lab) appendStream(ctx context.Context, p LogPart) (end int64, err error) {
	if len(p.Data) > maxLogPart {
		return 0, fmt.Errorf("%w: %d bytes at once; send at most %d", ErrInput, len(p.Data), maxLogPart)
	}
	select {
	case l.logWriters <- struct{}{}:
		defer func() { <-l.logWriters }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	var full error
	err = l.change(ctx, "append to a log", func(tx *sql.Tx) error {
		s, err := l.lockStream(ctx, tx, p.Run, p.Stream)
		if err != nil {
			return err
		}
		end, full = s.size, nil
		if p.Offset != s.size || s.sum != "" && len(p.Data) > 0 {
			return &LogOffsetError{p.Offset, s.size}
		}
		kept := p.Data
		if room := max(0, p.Cap-s.size); int64(len(kept)) > room {
			kept = kept[:room]
			full = fmt.Errorf("%w: %d bytes are kept; count the rest", ErrLogFull, p.Cap)
		}
		end += int64(len(kept))
		return s.write(ctx, tx, kept, int64(len(p.Data)-len(kept)))
	})
	if err != nil {
		return 0, err
	}
	return end, full
}

// stream is a row of hostsched_logs that is locked.
type stream struct {
	run       int64
	name      string
	size, cut int64
	sum       string
	hash      hash.Hash
}

// lockStream locks the row of a stream, which it makes if there is none.
func (l *Lab) lockStream(ctx context.Context, tx *sql.Tx, run int64, name string) (stream, error) {
	s, err := l.readStream(ctx, tx, run, name)
	if !errors.Is(err, sql.ErrNoRows) {
		return s, err
	}
	var have int
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM hostsched_logs WHERE run_id = ? AND stream NOT LIKE 'artifact-%'", run).Scan(&have); err != nil {
		return s, err
	}
	if have >= maxStreams {
		return s, fmt.Errorf("%w: run %d has %d logs; there can be no more", ErrInput, run, have)
	}
	if _, err := tx.ExecContext(ctx, l.db.Dialect.InsertIgnore+" hostsched_logs (run_id, stream) VALUES (?, ?)", run, name); err != nil {
		return s, err
	}
	return l.readStream(ctx, tx, run, name)
}

func (l *Lab) readStream(ctx context.Context, tx *sql.Tx, run int64, name string) (stream, error) {
	s := stream{run: run, name: name, hash: sha256.New()}
	var state []byte
	err := tx.QueryRowContext(ctx, "SELECT size, cut, sha256, hashing FROM hostsched_logs WHERE run_id = ? AND stream = ?"+l.db.Dialect.ForUpdate, run, name).Scan(&s.size, &s.cut, &s.sum, &state)
	if err != nil || state == nil {
		return s, err
	}
	if err := s.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		return s, fmt.Errorf("the sum of log %s of run %d: %w", name, run, err)
	}
	return s, nil
}

// write appends to a stream, and counts what was over the cap.
func (s *stream) write(ctx context.Context, tx *sql.Tx, data []byte, over int64) error {
	_, _ = s.hash.Write(data) // it never fails
	var rows [][]any
	for at := s.size; len(data) > 0; {
		n := min(len(data), logChunk)
		rows = append(rows, []any{s.run, s.name, at, data[:n]})
		at, data = at+int64(n), data[n:]
		s.size = at
	}
	if err := insert(ctx, tx, "INSERT INTO", "hostsched_log_chunks (run_id, stream, begins, data)", "(?, ?, ?, ?)", rows); err != nil {
		return err
	}
	state, err := s.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE hostsched_logs SET size = ?, cut = ?, hashing = ? WHERE run_id = ? AND stream = ?", s.size, s.cut+over, state, s.run, s.name)
	return err
}

// seal notes that a stream is complete.
func (s *stream) seal(ctx context.Context, tx *sql.Tx) error {
	s.sum = hex.EncodeToString(s.hash.Sum(nil))
	_, err := tx.ExecContext(ctx, "UPDATE hostsched_logs SET sha256 = ?, cut = ?, hashing = NULL WHERE run_id = ? AND stream = ?", s.sum, s.cut, s.run, s.name)
	return err
}

// SealLogs takes it that the logs of a run are complete, or fails with ErrLogsMissing. A log
// that has another sum than its claimant's is thrown away: it has to be sent again.
func (l *Lab) SealLogs(ctx context.Context, run int64, ends []labapi.StreamEnd) error {
	var missing []error
	err := l.change(ctx, fmt.Sprintf("complete the logs of run %d", run), func(tx *sql.Tx) error {
		missing = nil
		for _, end := range ends {
			if end.Size == 0 && end.Cut == 0 {
				continue
			}
			lacks, err := l.sealStream(ctx, tx, run, end)
			if err != nil {
				return err
			}
			if lacks != "" {
				missing = append(missing, fmt.Errorf("%w: %s %s", ErrLogsMissing, end.Stream, lacks))
			}
		}
		return nil
	})
	return errors.Join(err, errors.Join(missing...))
}

// sealStream completes a stream, or says what it lacks.
func (l *Lab) sealStream(ctx context.Context, tx *sql.Tx, run int64, end labapi.StreamEnd) (lacks string, err error) {
	s, err := l.readStream(ctx, tx, run, end.Stream)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Sprintf("has none of %d bytes", end.Size), nil
	}
	if err != nil || s.sum != "" {
		return "", err
	}
	// A claimant that counts on although the log is full has not cut its own.
	over := s.cut > 0 && end.Size > s.size
	switch {
	case over:
		s.cut = end.Cut + end.Size - s.size
	case s.size != end.Size:
		return fmt.Sprintf("has %d of %d bytes", s.size, end.Size), nil
	default:
		s.cut = end.Cut
	}
	if sum := hex.EncodeToString(s.hash.Sum(nil)); !over && end.SHA256 != "" && sum != end.SHA256 {
		return "differs", dropStream(ctx, tx, run, end.Stream)
	}
	return "", s.seal(ctx, tx)
}

func dropStream(ctx context.Context, tx sqldb.Querier, run int64, name string) error {
	for _, table := range []string{"hostsched_log_chunks", "hostsched_logs"} {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE run_id = ? AND stream = ?", run, name); err != nil {
			return err
		}
	}
	return nil
}
