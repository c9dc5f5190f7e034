package app

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // s3://

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/lab"
)

// Bounds of looking after logs.
const (
	moveLogsEvery  = 2 * time.Second
	pruneRunsEvery = time.Hour
	blobsTimeout   = time.Minute
)

// openBlobs gives a lab the place where logs and files of runs lie that are over.
func (a *App) openBlobs(ctx context.Context, at *lab.Lab) error {
	where := a.cfg.Runs.Blobs
	if where == "" {
		return nil
	}
	files, err := openBucket(ctx, where)
	if err != nil {
		return fmt.Errorf("%w: runs.blobs is %q: %w", config.ErrConfig, where, err)
	}
	a.closers = append(a.closers, files.Close)
	at.KeepFilesIn(files, whereabouts(where))
	return nil
}

// whereabouts is how people find a store of files, from any folder that they are in.
func whereabouts(where string) string {
	if bucket, _, _ := strings.Cut(where, "?"); strings.Contains(where, "://") {
		return bucket
	}
	if absolute, err := filepath.Abs(where); err == nil {
		return absolute
	}
	return where
}

func openBucket(ctx context.Context, where string) (*blob.Bucket, error) {
	if strings.Contains(where, "://") {
		return blob.OpenBucket(ctx, where)
	}
	// Files are written beside their place, because a temporary folder may be on another disk.
	return fileblob.OpenBucket(where, &fileblob.Options{CreateDir: true, DirFileMode: folderMode, NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
}

// openLogKeeping moves logs and deletes old ones as long as this replica leads any shard.
func (a *App) openLogKeeping() {
	var pruned time.Time
	a.inBackground(background{
		name: workLogs, fault: "cannot move logs of runs that are over, or delete old ones; they stay where they are", pause: always(moveLogsEvery),
		work: func(ctx context.Context) error { return a.keepLogs(ctx, &pruned) },
	})
}

func (a *App) keepLogs(ctx context.Context, pruned *time.Time) error {
	at, r := a.lab.Load(), a.runs.Load()
	if at == nil || r == nil || r.Off || !a.leadsAny() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, blobsTimeout)
	defer cancel()
	if _, err := at.MoveLogs(ctx); err != nil || time.Since(*pruned) < pruneRunsEvery {
		return err
	}
	n, err := at.PruneRuns(ctx, a.cfg.Runs.KeepDays)
	if n > 0 {
		a.log.Info("deleted what old runs left", "runs", n)
	}
	if err == nil {
		*pruned = time.Now()
	}
	return err
}
