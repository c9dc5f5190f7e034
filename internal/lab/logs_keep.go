package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/hostsched/hostsched/store/sqldb"
)

const (
	// keepBatch is how many streams are moved, and pruneRuns how many runs are pruned, in one
	// go.
	keepBatch = 100
	pruneRuns = 200
	// dropChunks is how many chunks are deleted at once.
	dropChunks = 256
)

// KeepFilesIn makes a store of files the place of complete logs and artifacts, and says where
// people find it. It is said before anybody uses the lab.
func (l *Lab) KeepFilesIn(files *blob.Bucket, at string) { l.files, l.filesAt = files, at }

// streamKey names a stream of a run.
type streamKey struct {
	run  int64
	name string
}

// MoveLogs moves streams of runs that are over to the store of files, and returns how many.
// Two who do it at the same time write the same.
func (l *Lab) MoveLogs(ctx context.Context) (moved int, err error) {
	if l.files == nil {
		return 0, nil
	}
	var due []streamKey
	err = l.each(ctx, "look for logs to move", "SELECT s.run_id, s.stream FROM hostsched_logs s JOIN hostsched_runs r ON r.id = s.run_id WHERE s.place = '' AND r.state IN ('done', 'lost') ORDER BY s.run_id LIMIT ?", []any{keepBatch}, func(scan sqldb.Scanner) error {
		var k streamKey
		err := scan(&k.run, &k.name)
		due = append(due, k)
		return err
	})
	for _, k := range due {
		if err == nil {
			err = l.moveStream(ctx, k)
		}
		if err == nil {
			moved++
		}
	}
	return moved, err
}

func (l *Lab) moveStream(ctx context.Context, k streamKey) error {
	s, place, err := l.streamOf(ctx, k.run, k.name)
	if err != nil || place != "" {
		return err
	}
	place = fmt.Sprintf("runs/%d/%s", k.run, k.name)
	if err := l.writeBlob(ctx, place, k, s.Size); err != nil {
		return fmt.Errorf("move log %s of run %d to the store of files: %w", k.name, k.run, err)
	}
	_, err = l.db.Pool.ExecContext(ctx, "UPDATE hostsched_logs SET place = ? WHERE run_id = ? AND stream = ? AND place = '' AND size = ?", place, k.run, k.name, s.Size)
	if err != nil {
		return l.explain(err, "note where a log lies")
	}
	return l.dropChunks(ctx, k)
}

func (l *Lab) writeBlob(ctx context.Context, place string, k streamKey, size int64) error {
	// A writer whose context ends leaves nothing behind.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := l.files.NewWriter(ctx, place, &blob.WriterOptions{ContentType: "application/octet-stream"})
	if err != nil {
		return err
	}
	n := &counter{to: w}
	err = l.WriteLog(ctx, n, k.run, k.name, 0, size)
	if err == nil && n.n != size {
		err = fmt.Errorf("it has %d of %d bytes", n.n, size)
	}
	if err != nil {
		cancel()
	}
	return errors.Join(err, w.Close())
}

// counter counts what is written.
type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}

// dropChunks deletes the chunks of a stream, some at a time.
func (l *Lab) dropChunks(ctx context.Context, k streamKey) error {
	for {
		var last sql.NullInt64
		err := l.db.Pool.QueryRowContext(ctx, "SELECT MAX(begins) FROM (SELECT begins FROM hostsched_log_chunks WHERE run_id = ? AND stream = ? ORDER BY begins LIMIT ?) first", k.run, k.name, dropChunks).Scan(&last)
		if err == nil && last.Valid {
			_, err = l.db.Pool.ExecContext(ctx, "DELETE FROM hostsched_log_chunks WHERE run_id = ? AND stream = ? AND begins <= ?", k.run, k.name, last.Int64)
		}
		if err != nil || !last.Valid {
			return l.explain(err, "delete chunks of a log")
		}
	}
}

// leftByRuns are the tables of what runs leave, besides the chunks of streams.
var leftByRuns = []string{"hostsched_logs", "hostsched_artifacts", "hostsched_results"}

// PruneRuns deletes logs, artifacts and results of runs that were over more than so many days
// ago, with their files, and returns of how many runs. The runs themselves stay.
func (l *Lab) PruneRuns(ctx context.Context, days int) (pruned int, err error) {
	if days == 0 {
		return 0, nil
	}
	// Ids of runs rise with time, so the oldest are at the beginning.
	var first []string
	for _, table := range leftByRuns {
		first = append(first, fmt.Sprintf("SELECT run_id FROM (SELECT DISTINCT run_id FROM %s ORDER BY run_id LIMIT %d) %s", table, pruneRuns, table))
	}
	old, err := sqldb.SelectIDs(ctx, l.db.Pool, "SELECT r.id FROM ("+strings.Join(first, " UNION ")+") left_by JOIN hostsched_runs r ON r.id = left_by.run_id WHERE r.closed < "+l.db.Dialect.NowMillis+" - ? * 86400000 ORDER BY r.id", days)
	if err != nil {
		return 0, l.explain(err, "look for old runs")
	}
	for _, run := range old {
		if err := l.pruneRun(ctx, run); err != nil {
			return pruned, err
		}
		pruned++
	}
	return pruned, nil
}

func (l *Lab) pruneRun(ctx context.Context, run int64) error {
	var streams []streamKey
	var places []string
	err := l.each(ctx, "look for the logs of an old run", "SELECT stream, place FROM hostsched_logs WHERE run_id = ?", []any{run}, func(scan sqldb.Scanner) error {
		k := streamKey{run: run}
		var place string
		err := scan(&k.name, &place)
		streams, places = append(streams, k), append(places, place)
		return err
	})
	if err != nil {
		return err
	}
	for i, k := range streams {
		if err := l.dropFile(ctx, places[i]); err != nil {
			return err
		}
		if err := l.dropChunks(ctx, k); err != nil {
			return err
		}
	}
	for _, table := range leftByRuns {
		if _, err := l.db.Pool.ExecContext(ctx, "DELETE FROM "+table+" WHERE run_id = ?", run); err != nil {
			return l.explain(err, "delete what an old run left")
		}
	}
	return nil
}

func (l *Lab) dropFile(ctx context.Context, place string) error {
	if place == "" || l.files == nil {
		return nil
	}
	err := l.files.Delete(ctx, place)
	if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return fmt.Errorf("delete %s from the store of files: %w", place, err)
	}
	return nil
}
