package app

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// TestLogsInABucket over the protocol of S3: they are moved there, read in parts, and deleted
// by age.
func TestLogsInABucket(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "who")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "sesame")
	backend := s3mem.New()
	require.NoError(t, backend.CreateBucket("logs"))
	server := httptest.NewServer(gofakes3.New(backend).Server())
	defer server.Close()
	ctx := t.Context()
	files, err := openBucket(ctx, "s3://logs?region=us-east-1&use_path_style=true&endpoint="+server.URL)
	require.NoError(t, err)
	defer func() { require.NoError(t, files.Close()) }()

	l, text := labWithLog(t)
	l.KeepFilesIn(files, "the store")
	moved, err := l.MoveLogs(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	require.Zero(t, storetest.Count(t, l.DB(), "SELECT COUNT(*) FROM hostsched_log_chunks"))
	for _, part := range [][2]int64{{0, 300_000}, {100_000, 100_010}, {299_999, 300_000}} {
		w := httptest.NewRecorder()
		require.NoError(t, l.WriteLog(ctx, w, 1, "stdout", part[0], part[1]), fmt.Sprint(part))
		require.Equal(t, text[part[0]:part[1]], w.Body.Bytes(), fmt.Sprint(part))
	}
	pruned, err := l.PruneRuns(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, 1, pruned)
	left, err := files.List(nil).Next(ctx)
	require.Error(t, err, "%+v", left)
}

// TestFolderOfLogsIsFull: a log for which the folder has no room stays in the database, whole,
// and is moved once there is room.
func TestFolderOfLogsIsFull(t *testing.T) {
	disk := testserver.NewDisk(t, 8)
	ctx := t.Context()
	files, err := openBucket(ctx, filepath.Join(disk.Dir, "blobs"))
	require.NoError(t, err)
	defer func() { require.NoError(t, files.Close()) }()
	l, text := labWithLog(t)
	l.KeepFilesIn(files, "the store")
	disk.Fill(t)
	whole := func() {
		w := httptest.NewRecorder()
		require.NoError(t, l.WriteLog(ctx, w, 1, "stdout", 0, int64(len(text))))
		require.Equal(t, text, w.Body.Bytes())
	}
	for range 2 {
		_, err = l.MoveLogs(ctx)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorContains(t, err, "move log stdout of run 1 to the store of files")
		whole()
		left, err := filepath.Glob(filepath.Join(disk.Dir, "blobs", "runs", "*", "*"))
		require.NoError(t, err)
		require.Empty(t, left, "what was not written whole is not left behind")
	}
	disk.Free(t)
	moved, err := l.MoveLogs(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	require.Zero(t, storetest.Count(t, l.DB(), "SELECT COUNT(*) FROM hostsched_log_chunks"))
	whole()
}

// labWithLog is a lab with a run that is over, and its log.
func labWithLog(t *testing.T) (*lab.Lab, []byte) {
	t.Helper()
	db := storetest.NewLab(t, storetest.SQLiteFile(t))
	l := lab.New(db, store.Scope{Shard: shard.Master, Shared: true})
	storetest.Exec(t, db, "INSERT INTO hostsched_runs (id, claim_key, kind, state, token_hash, lease_ms, lease_until, claimed, closed) VALUES (1, 'k', 'job', 'done', 't', 1, 1, 1, 1)")
	text := make([]byte, 300_000)
	for i := range text {
		text[i] = byte(i % 251)
	}
	_, err := l.AppendLog(t.Context(), lab.LogPart{Run: 1, Stream: "stdout", Data: text, Cap: 1 << 20})
	require.NoError(t, err)
	return l, text
}
