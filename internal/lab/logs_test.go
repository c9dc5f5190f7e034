package lab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/blob/memblob"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
)

const logCap = 64 << 20

// addRun enters a run in a state, with nothing that it is for.
func addRun(t *testing.T, db *store.DB, id int64, state string) {
	t.Helper()
	storetest.Exec(t, db, "INSERT INTO hostsched_runs (id, claim_key, kind, state, token_hash, lease_ms, lease_until, claimed) VALUES (?, ?, 'job', ?, ?, 1, 1, 1)", id, fmt.Sprint("key ", id), state, fmt.Sprint("hash ", id))
}

func endRun(t *testing.T, db *store.DB, id int64, state string) {
	t.Helper()
	storetest.Exec(t, db, "UPDATE hostsched_runs SET state = ?, closed = "+db.Dialect.NowMillis+" WHERE id = ?", state, id)
}

// someBytes are not text, and the same for each seed.
func someBytes(seed uint64, n int) []byte {
	out := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = source.Read(out)
	return out
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func readLog(t *testing.T, l *lab.Lab, run int64, stream string, from int64) []byte {
	t.Helper()
	have, err := l.Log(t.Context(), run, stream)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, l.WriteLog(t.Context(), &out, run, stream, from, have.Size))
	return out.Bytes()
}

// TestLogIsWhatWasSent: whatever the parts are, in the database and in the store of files.
func TestLogIsWhatWasSent(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, ctx := lab.New(db, whole()), t.Context()
		files := memblob.OpenBucket(nil)
		defer func() { require.NoError(t, files.Close()) }()
		l.KeepFilesIn(files, "the store")
		addRun(t, db, 1, "running")
		all := someBytes(1, 3<<20)
		at := int64(0)
		for i, n := range []int{1, 65535, 65536, 65537, 1 << 20, 0, 300_000, 1 << 20} {
			part := lab.LogPart{Run: 1, Stream: "output", Offset: at, Data: all[at : at+int64(n)], Cap: logCap}
			end, err := l.AppendLog(ctx, part)
			require.NoError(t, err)
			at += int64(n)
			require.Equal(t, at, end)
			if n == 0 {
				continue
			}
			// The answer was lost: nothing is there twice, and the claimant hears where to go on.
			var offset *lab.LogOffsetError
			_, err = l.AppendLog(ctx, part)
			require.ErrorAs(t, err, &offset, i)
			require.Equal(t, at, offset.Expected)
		}
		require.Equal(t, sumOf(all[:at]), sumOf(readLog(t, l, 1, "output", 0)))
		for _, from := range []int64{1, 65536, 65537, 200_000, at - 1, at} {
			require.Equal(t, sumOf(all[from:at]), sumOf(readLog(t, l, 1, "output", from)), from)
		}

		ends := []labapi.StreamEnd{{Stream: "output", Size: at + 1}, {Stream: "errors", Size: 5}}
		err := l.SealLogs(ctx, 1, ends)
		require.ErrorIs(t, err, lab.ErrLogsMissing)
		require.ErrorContains(t, err, "output has")
		require.ErrorContains(t, err, "errors has none of 5 bytes")
		require.NoError(t, l.SealLogs(ctx, 1, []labapi.StreamEnd{{Stream: "output", Size: at, SHA256: sumOf(all[:at])}, {Stream: "errors"}}))
		require.NoError(t, l.SealLogs(ctx, 1, []labapi.StreamEnd{{Stream: "output", Size: at, SHA256: sumOf(all[:at])}}), "again")
		_, err = l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "output", Offset: at, Data: []byte("late"), Cap: logCap})
		require.ErrorIs(t, err, lab.ErrConflict, "nothing comes after the end")

		moved, err := l.MoveLogs(ctx)
		require.NoError(t, err)
		require.Zero(t, moved, "the run goes on")
		endRun(t, db, 1, "done")
		moved, err = l.MoveLogs(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, moved)
		require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_log_chunks"))
		for _, from := range []int64{0, 65537, at} {
			require.Equal(t, sumOf(all[from:at]), sumOf(readLog(t, l, 1, "output", from)), from)
		}
		logs, err := l.Logs(ctx, 1)
		require.NoError(t, err)
		require.Equal(t, []labapi.Log{{Stream: "output", Size: at, Complete: true, SHA256: sumOf(all[:at])}}, logs)
	})
}

// TestLogThatDiffers is sent again from its beginning.
func TestLogThatDiffers(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, ctx := lab.New(db, whole()), t.Context()
		addRun(t, db, 1, "running")
		_, err := l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "output", Data: []byte("wrong"), Cap: logCap})
		require.NoError(t, err)
		end := []labapi.StreamEnd{{Stream: "output", Size: 5, SHA256: sumOf([]byte("right"))}}
		require.ErrorIs(t, l.SealLogs(ctx, 1, end), lab.ErrLogsMissing)
		_, err = l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "output", Data: []byte("right"), Cap: logCap})
		require.NoError(t, err)
		require.NoError(t, l.SealLogs(ctx, 1, end))
		require.Equal(t, "right", string(readLog(t, l, 1, "output", 0)))
	})
}

// TestLogOverItsCap: what fits is kept, and what does not is counted.
func TestLogOverItsCap(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, ctx := lab.New(db, whole()), t.Context()
		addRun(t, db, 1, "running")
		_, err := l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "output", Data: []byte("12345678"), Cap: 10})
		require.NoError(t, err)
		end, err := l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "output", Offset: 8, Data: []byte("90abc"), Cap: 10})
		require.ErrorIs(t, err, lab.ErrLogFull)
		require.Equal(t, int64(10), end)
		_, err = l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "output", Offset: 10, Data: []byte("d"), Cap: 10})
		require.ErrorIs(t, err, lab.ErrLogFull)
		log, err := l.Log(ctx, 1, "output")
		require.NoError(t, err)
		require.Equal(t, labapi.Log{Stream: "output", Size: 10, Cut: 4}, log)
		// A claimant that did not stop at the cap, and one that did.
		require.NoError(t, l.SealLogs(ctx, 1, []labapi.StreamEnd{{Stream: "output", Size: 1000, Cut: 7, SHA256: sumOf(nil)}}))
		log, err = l.Log(ctx, 1, "output")
		require.NoError(t, err)
		require.Equal(t, int64(997), log.Cut)
		_, err = l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "errors", Data: []byte("0123456789"), Cap: 10})
		require.NoError(t, err)
		require.NoError(t, l.SealLogs(ctx, 1, []labapi.StreamEnd{{Stream: "errors", Size: 10, Cut: 7, SHA256: sumOf([]byte("0123456789"))}}))
		log, err = l.Log(ctx, 1, "errors")
		require.NoError(t, err)
		require.Equal(t, int64(7), log.Cut)
	})
}

// TestBadLogs: names and numbers of logs are bounded.
func TestBadLogs(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, ctx := lab.New(db, whole()), t.Context()
		addRun(t, db, 1, "running")
		for _, name := range []string{"", "Output", "artifact-1", "../x", "out put", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"} {
			_, err := l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: name, Data: []byte("x"), Cap: logCap})
			require.ErrorIs(t, err, lab.ErrInput, name)
		}
		for i := range 17 {
			_, err := l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: string(rune('a' + i)), Data: []byte("x"), Cap: logCap})
			require.Equal(t, i == 16, err != nil, i)
		}
		_, err := l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "a", Offset: 1, Data: make([]byte, 1<<20+1), Cap: logCap})
		require.ErrorIs(t, err, lab.ErrInput)
		_, err = l.Logs(ctx, 99)
		require.ErrorIs(t, err, lab.ErrNotFound)
	})
}

// follow collects what a follower gets, from the beginning, until the log ends.
func follow(ctx context.Context, l *lab.Lab, w *lab.LogWatch, run int64, stream string) (got []byte, over *labapi.LogOver, err error) {
	f, err := w.Begin(ctx, l, run, stream)
	if err != nil {
		return nil, nil, err
	}
	defer w.End(f)
	var before bytes.Buffer
	if err := l.WriteLog(ctx, &before, run, stream, 0, f.From); err != nil {
		return nil, nil, err
	}
	got = before.Bytes()
	for news := range f.Parts {
		if news.Over != nil {
			return got, news.Over, nil
		}
		if news.Part.Offset != int64(len(got)) {
			return got, nil, fmt.Errorf("byte %d comes after %d", news.Part.Offset, len(got))
		}
		got = append(got, news.Part.Data...)
	}
	return got, nil, fmt.Errorf("cut off after %d bytes", len(got))
}

// TestFollowers get all of a log, whenever they begin, also while it is written and moved.
func TestFollowers(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, ctx := lab.New(db, whole()), t.Context()
		files := memblob.OpenBucket(nil)
		defer func() { require.NoError(t, files.Close()) }()
		l.KeepFilesIn(files, "the store")
		addRun(t, db, 1, "running")
		all := someBytes(2, 2<<20)
		w := &lab.LogWatch{Failed: func(err error) { t.Error(err) }}
		defer w.Close()
		var followers sync.WaitGroup
		begin := func() {
			followers.Go(func() {
				got, over, err := follow(ctx, l, w, 1, "output")
				if err != nil || over == nil || over.Size != int64(len(all)) || !slices.Equal(all, got) {
					t.Errorf("%d of %d bytes, end %+v: %v", len(got), len(all), over, err)
				}
			})
		}
		for at := 0; at < len(all); at += 128 << 10 {
			begin()
			_, err := l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "output", Offset: int64(at), Data: all[at : at+128<<10], Cap: logCap})
			require.NoError(t, err)
		}
		require.NoError(t, l.SealLogs(ctx, 1, []labapi.StreamEnd{{Stream: "output", Size: int64(len(all))}}))
		endRun(t, db, 1, "done")
		begin()
		_, err := l.MoveLogs(ctx)
		require.NoError(t, err)
		begin()
		followers.Wait()
	})
}

// TestFollowersOfWhatEnds: a log of which nothing came, a run that was lost, a replica that ends.
func TestFollowersOfWhatEnds(t *testing.T) {
	db := storetest.NewServerLab(t)
	l, ctx := lab.New(db, whole()), t.Context()
	w := &lab.LogWatch{}
	addRun(t, db, 1, "done")
	_, over, err := follow(ctx, l, w, 1, "output")
	require.NoError(t, err)
	require.Equal(t, &labapi.LogOver{}, over)
	addRun(t, db, 2, "lost")
	_, over, err = follow(ctx, l, w, 2, "output")
	require.NoError(t, err)
	require.True(t, over.Lost)
	_, _, err = follow(ctx, l, w, 3, "output")
	require.ErrorIs(t, err, lab.ErrNotFound)

	addRun(t, db, 4, "running")
	f, err := w.Begin(ctx, l, 4, "output")
	require.NoError(t, err)
	time.AfterFunc(10*time.Millisecond, w.Close)
	for range f.Parts {
	}
	_, err = w.Begin(ctx, l, 4, "output")
	require.ErrorIs(t, err, lab.ErrTooMany)
}

// TestFollowerThatNeverReads is cut off, and others get all.
func TestFollowerThatNeverReads(t *testing.T) {
	db := storetest.NewServerLab(t)
	l, ctx := lab.New(db, whole()), t.Context()
	w := &lab.LogWatch{}
	defer w.Close()
	addRun(t, db, 1, "running")
	stuck, err := w.Begin(ctx, l, 1, "output")
	require.NoError(t, err)
	data := make([]byte, 1<<20)
	const parts = 20
	for i := range parts {
		_, err := l.AppendLog(ctx, lab.LogPart{Run: 1, Stream: "output", Offset: int64(i << 20), Data: data, Cap: logCap})
		require.NoError(t, err)
	}
	endRun(t, db, 1, "done")
	got, _, err := follow(ctx, l, w, 1, "output")
	require.NoError(t, err)
	require.Len(t, got, parts<<20)
	n := 0
	for news := range stuck.Parts {
		require.Nil(t, news.Over)
		n += len(news.Part.Data)
	}
	require.Less(t, n, parts<<20)
}

// TestArtifacts: files are kept whole or not at all, below a folder.
func TestArtifacts(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, ctx := lab.New(db, whole()), t.Context()
		addRun(t, db, 1, "running")
		for _, name := range []string{"", ".", "..", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", `a\b`, "c:x", "a\nb", "a\x00b", "\xff", fmt.Sprintf("%0256d", 1)} {
			_, err := l.AppendArtifact(ctx, lab.ArtifactPart{Run: 1, Path: name, SHA256: sumOf(nil)})
			require.ErrorIs(t, err, lab.ErrInput, name)
		}
		data := someBytes(3, 200_000)
		part := lab.ArtifactPart{Run: 1, Path: "logs/été/dmesg.txt", Size: int64(len(data)), SHA256: sumOf(data), Data: data[:150_000]}
		end, err := l.AppendArtifact(ctx, part)
		require.NoError(t, err)
		require.Equal(t, int64(150_000), end)
		_, _, err = l.Artifact(ctx, 1, part.Path)
		require.ErrorIs(t, err, lab.ErrNotFound, "not all of it came")
		var offset *lab.LogOffsetError
		_, err = l.AppendArtifact(ctx, part)
		require.ErrorAs(t, err, &offset)
		require.Equal(t, end, offset.Expected)
		part.Offset, part.Data = end, data[end:]
		_, err = l.AppendArtifact(ctx, part)
		require.NoError(t, err)
		a, stream, err := l.Artifact(ctx, 1, part.Path)
		require.NoError(t, err)
		require.Equal(t, labapi.Artifact{Path: part.Path, Size: part.Size, SHA256: part.SHA256, Complete: true}, a)
		require.Equal(t, sumOf(data), sumOf(readLog(t, l, 1, stream, 0)))

		_, err = l.AppendArtifact(ctx, lab.ArtifactPart{Run: 1, Path: "empty", SHA256: sumOf(nil)})
		require.NoError(t, err)
		_, err = l.AppendArtifact(ctx, lab.ArtifactPart{Run: 1, Path: "bad", Size: 3, SHA256: sumOf(nil), Data: []byte("abc")})
		require.ErrorAs(t, err, &offset, "another sum")
		require.Zero(t, offset.Expected)
		// Another file of the same path takes its place.
		_, err = l.AppendArtifact(ctx, lab.ArtifactPart{Run: 1, Path: part.Path, Size: 3, SHA256: sumOf([]byte("abc")), Data: []byte("abc")})
		require.NoError(t, err)
		_, stream, err = l.Artifact(ctx, 1, part.Path)
		require.NoError(t, err)
		require.Equal(t, "abc", string(readLog(t, l, 1, stream, 0)))
		all, err := l.Artifacts(ctx, 1)
		require.NoError(t, err)
		require.Len(t, all, 3)
		logs, err := l.Logs(ctx, 1)
		require.NoError(t, err)
		require.Empty(t, logs, "they are no logs")
		_, err = l.AppendArtifact(ctx, lab.ArtifactPart{Run: 1, Path: "huge", Size: 1<<30 + 1, SHA256: sumOf(nil)})
		require.ErrorIs(t, err, lab.ErrInput)
		_, err = l.AppendArtifact(ctx, lab.ArtifactPart{Run: 9, Path: "a", SHA256: sumOf(nil)})
		require.ErrorIs(t, err, lab.ErrNotFound)
	})
}

// TestOldRunsArePruned with all that they left, wherever it lies, and no others.
func TestOldRunsArePruned(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, ctx := lab.New(db, whole()), t.Context()
		files := memblob.OpenBucket(nil)
		defer func() { require.NoError(t, files.Close()) }()
		l.KeepFilesIn(files, "the store")
		for run := int64(1); run <= 3; run++ {
			addRun(t, db, run, "running")
			_, err := l.AppendLog(ctx, lab.LogPart{Run: run, Stream: "output", Data: []byte("hello"), Cap: logCap})
			require.NoError(t, err)
			_, err = l.AppendArtifact(ctx, lab.ArtifactPart{Run: run, Path: "a", Size: 1, SHA256: sumOf([]byte("a")), Data: []byte("a")})
			require.NoError(t, err)
			require.NoError(t, l.EnterResults(ctx, db.SQL(), run, []labapi.TestResult{{Name: "t", Status: "passed"}}))
		}
		endRun(t, db, 1, "done")
		endRun(t, db, 2, "lost")
		_, err := l.MoveLogs(ctx)
		require.NoError(t, err)
		pruned, err := l.PruneRuns(ctx, 1)
		require.NoError(t, err)
		require.Zero(t, pruned)
		storetest.Exec(t, db, "UPDATE hostsched_runs SET closed = closed - 86500000 WHERE id < 3")
		_, err = l.PruneRuns(ctx, 0)
		require.NoError(t, err)
		_, err = l.PruneRuns(ctx, 1)
		require.NoError(t, err)
		for _, table := range []string{"hostsched_logs", "hostsched_artifacts", "hostsched_results", "hostsched_log_chunks"} {
			require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM "+table+" WHERE run_id < 3"), table)
			require.NotZero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM "+table+" WHERE run_id = 3"), table)
		}
		left, err := files.List(nil).Next(ctx)
		require.Error(t, err, "%+v", left)

		for i, table := range []string{"hostsched_logs", "hostsched_artifacts", "hostsched_results"} {
			run := int64(4 + i)
			addRun(t, db, run, "done")
			storetest.Exec(t, db, "UPDATE hostsched_runs SET closed = 1 WHERE id = ?", run)
			storetest.Exec(t, db, "UPDATE "+table+" SET run_id = ? WHERE run_id = 3", run)
			pruned, err := l.PruneRuns(ctx, 1)
			require.NoError(t, err)
			require.Equal(t, 1, pruned, "a run that left only rows of %s", table)
			require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM "+table))
		}
		logs, err := l.Logs(ctx, 1)
		require.NoError(t, err)
		require.Empty(t, logs)
	})
}

// TestResults are kept once, page by page, whatever their texts are.
func TestResults(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, ctx := lab.New(db, whole()), t.Context()
		addRun(t, db, 1, "running")
		tests := []labapi.TestResult{{Name: "a", Status: "passed", Millis: 5}, {Name: "été \xff", Status: "failed", Message: string(make([]byte, 3000))}, {Name: "c", Status: "skipped"}}
		for range 2 {
			require.NoError(t, l.EnterResults(ctx, db.SQL(), 1, tests))
		}
		page, err := l.Results(ctx, 1, "", 0, 2)
		require.NoError(t, err)
		require.Len(t, page.Items, 2)
		require.Equal(t, tests[0], page.Items[0])
		require.Equal(t, "été \uFFFD", page.Items[1].Name)
		after, err := lab.ParseCursor(page.After)
		require.NoError(t, err)
		page, err = l.Results(ctx, 1, "", after, 2)
		require.NoError(t, err)
		require.Equal(t, []labapi.TestResult{tests[2]}, page.Items)
		require.Empty(t, page.After)
	})
}

// TestFollowersOfAMissingFile are cut off, and those of other logs get all.
func TestFollowersOfAMissingFile(t *testing.T) {
	db := storetest.NewServerLab(t)
	l, ctx := lab.New(db, whole()), t.Context()
	files := memblob.OpenBucket(nil)
	defer func() { require.NoError(t, files.Close()) }()
	l.KeepFilesIn(files, "the store")
	w := &lab.LogWatch{Failed: func(err error) { t.Error(err) }}
	defer w.Close()
	addRun(t, db, 1, "running")
	addRun(t, db, 2, "running")
	cutOff, err := w.Begin(ctx, l, 1, "output")
	require.NoError(t, err)
	other, err := w.Begin(ctx, l, 2, "output")
	require.NoError(t, err)
	// The file of a run that is over is lost before its followers got all.
	storetest.Exec(t, db, "INSERT INTO hostsched_logs (run_id, stream, size, place) VALUES (1, 'output', 5, 'runs/1/output')")
	for range cutOff.Parts {
		t.Fatal("there is nothing to get")
	}
	_, err = l.AppendLog(ctx, lab.LogPart{Run: 2, Stream: "output", Data: []byte("hello"), Cap: logCap})
	require.NoError(t, err)
	require.Equal(t, "hello", string((<-other.Parts).Part.Data))
	w.End(other)
	require.ErrorIs(t, l.WriteLog(ctx, io.Discard, 1, "output", 0, 5), lab.ErrFileMissing)
	require.ErrorIs(t, lab.New(db, whole()).WriteLog(ctx, io.Discard, 1, "output", 0, 5), lab.ErrFile, "a replica without a store of files")
}
