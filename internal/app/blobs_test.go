package app

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/storetest"
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

	db := storetest.NewLab(t, storetest.SQLiteFile(t))
	l := lab.New(db, store.Scope{Shard: shard.Master, Shared: true})
	l.KeepFilesIn(files)
	storetest.Exec(t, db, "INSERT INTO hostsched_runs (id, claim_key, kind, state, token_hash, lease_ms, lease_until, claimed, closed) VALUES (1, 'k', 'job', 'done', 't', 1, 1, 1, 1)")
	text := make([]byte, 300_000)
	for i := range text {
		text[i] = byte(i % 251)
	}
	_, err = l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "stdout", Data: text, Cap: 1 << 20})
	require.NoError(t, err)
	moved, err := l.MoveLogs(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_log_chunks"))
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
