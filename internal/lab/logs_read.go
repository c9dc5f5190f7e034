package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"

	"gocloud.dev/gcerrors"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// readChunks is how many chunks are read at once.
const readChunks = 16

const streamColumns = "stream, size, cut, sha256"

func scanStream(scan sqldb.Scanner, more ...any) (s labapi.Log, err error) {
	err = scan(append([]any{&s.Stream, &s.Size, &s.Cut, &s.SHA256}, more...)...)
	s.Complete = s.SHA256 != ""
	return s, err
}

// Logs lists the logs of a run.
func (l *Lab) Logs(ctx context.Context, run int64) ([]labapi.Log, error) {
	if err := l.requireRun(ctx, run); err != nil {
		return nil, err
	}
	logs := []labapi.Log{}
	err := l.each(ctx, "list the logs of a run", "SELECT "+streamColumns+" FROM hostsched_logs WHERE run_id = ? AND stream NOT LIKE 'artifact-%' ORDER BY stream", []any{run}, func(scan sqldb.Scanner) error {
		s, err := scanStream(scan)
		logs = append(logs, s)
		return err
	})
	return logs, err
}

func (l *Lab) requireRun(ctx context.Context, run int64) error {
	var n int
	err := l.db.Pool.QueryRowContext(ctx, "SELECT COUNT(*) FROM hostsched_runs WHERE id = ?", run).Scan(&n)
	if err == nil && n == 0 {
		return fmt.Errorf("%w: there is no run %d", ErrNotFound, run)
	}
	return l.explain(err, "look a run up")
}

// Log returns what there is of a log. One of which nothing has come yet is empty.
func (l *Lab) Log(ctx context.Context, run int64, stream string) (labapi.Log, error) {
	if err := l.requireRun(ctx, run); err != nil {
		return labapi.Log{}, err
	}
	s, _, err := l.streamOf(ctx, run, stream)
	return s, err
}

func (l *Lab) streamOf(ctx context.Context, run int64, stream string) (s labapi.Log, place string, err error) {
	row := l.db.Pool.QueryRowContext(ctx, "SELECT "+streamColumns+", place FROM hostsched_logs WHERE run_id = ? AND stream = ?", run, stream)
	s, err = scanStream(row.Scan, &place)
	if errors.Is(err, sql.ErrNoRows) {
		return labapi.Log{Stream: stream}, "", nil
	}
	return s, place, l.explain(err, "look a log up")
}

// WriteLog writes the bytes of a log from one offset up to another, wherever they lie. What
// was deleted meanwhile is missing. Nothing was written if a file that has the first of them
// is missing or cannot be opened.
func (l *Lab) WriteLog(ctx context.Context, to io.Writer, run int64, stream string, from, upTo int64) error {
	for from < upTo {
		n, err := l.writeChunks(ctx, to, run, stream, from, upTo)
		if err == nil && n == 0 {
			return l.writeFile(ctx, to, run, stream, from, upTo)
		}
		if err != nil {
			return err
		}
		from += n
	}
	return nil
}

// writeChunks writes what the next chunks in the database have, nothing if there are none.
func (l *Lab) writeChunks(ctx context.Context, to io.Writer, run int64, stream string, from, upTo int64) (n int64, err error) {
	// What is read is held in memory, so that no connection waits for whoever reads.
	var parts [][]byte
	query := "SELECT begins, data FROM hostsched_log_chunks WHERE run_id = ? AND stream = ? AND begins < ?" +
		" AND begins >= (SELECT COALESCE(MAX(c.begins), 0) FROM hostsched_log_chunks c WHERE c.run_id = ? AND c.stream = ? AND c.begins <= ?) ORDER BY begins LIMIT ?"
	err = l.each(ctx, "read a log", query, []any{run, stream, upTo, run, stream, from, readChunks}, func(scan sqldb.Scanner) error {
		var begins int64
		var data []byte
		if err := scan(&begins, &data); err != nil || begins > from+n {
			return err
		}
		part := data[min(from+n-begins, int64(len(data))):min(upTo-begins, int64(len(data)))]
		parts, n = append(parts, part), n+int64(len(part))
		return nil
	})
	for _, part := range parts {
		if err == nil {
			_, err = to.Write(part)
		}
	}
	return n, err
}

// writeFile writes what lies in the store of files.
func (l *Lab) writeFile(ctx context.Context, to io.Writer, run int64, stream string, from, upTo int64) error {
	s, place, err := l.streamOf(ctx, run, stream)
	if err != nil || place == "" {
		return err
	}
	if l.files == nil {
		return fmt.Errorf("%w: %s of run %d lies in the store of files as %s, and this replica has none; give it the setting runs.blobs of the others", ErrFile, stream, run, place)
	}
	r, err := l.files.NewRangeReader(ctx, place, from, upTo-from, nil)
	if err != nil {
		return l.explainFile(ctx, err, place)
	}
	if r.Size() < upTo {
		err = fmt.Errorf("%w: %s in %s (runs.blobs) has %d bytes, and had %d when it was put there", ErrFileMissing, place, l.filesAt, r.Size(), s.Size)
	} else {
		_, err = io.Copy(to, r)
	}
	return errors.Join(err, r.Close())
}

// IsFileFault tells whether an error is about a file of a run, and not about all of them.
func IsFileFault(err error) bool { return errors.Is(err, ErrFileMissing) || errors.Is(err, ErrFile) }

// explainFile says of which file an error is, and what to do about it.
func (l *Lab) explainFile(ctx context.Context, err error, place string) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("read %s in %s: %w", place, l.filesAt, ctx.Err())
	case gcerrors.Code(err) == gcerrors.NotFound:
		return fmt.Errorf("%w: there is no %s in %s (runs.blobs); if the lab was moved, copy all that its former store of files has", ErrFileMissing, place, l.filesAt)
	}
	return fmt.Errorf("%w: %s in %s (runs.blobs): %w", ErrFile, place, l.filesAt, err)
}
