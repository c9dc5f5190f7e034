package agent_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMuchOutputIsCutWithAMark(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	m.serve()
	l.offer(job(1, "head -c 1000000000 /dev/zero; echo end >&2"))
	run := l.finished(1)
	require.Equal(t, "passed", run.finish.Result)
	require.LessOrEqual(t, len(run.logs["stdout"]), 1<<20)
	require.Contains(t, string(run.logs["stdout"]), "[hostsched: the log is cut here, after ")
	end := run.finish.Streams[0]
	require.EqualValues(t, len(run.logs["stdout"]), end.Size)
	kept := bytes.Count(run.logs["stdout"], []byte{0})
	require.EqualValues(t, 1000000000, int64(kept)+end.Cut)
	require.Equal(t, "end\n", string(run.logs["stderr"]))
}

// TestTheServersHaveAllOfALogAtTheEnd also if they lost some of it with their database.
func TestTheServersHaveAllOfALogAtTheEnd(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	m.serve()
	l.offer(job(1, "seq 1 100000; echo ready; while ! [ -e go ]; do sleep 0.01; done; exit 0"))
	l.says(1, "ready")
	l.change(func() { l.runs[1].logs["stdout"] = l.runs[1].logs["stdout"][:1000:1000] })
	require.NoError(t, os.WriteFile(filepath.Join(m.folder(1).Work(), "go"), nil, 0o600))
	run := l.finished(1)
	require.Equal(t, 100_001, bytes.Count(run.logs["stdout"], []byte("\n")))
}

func TestSecretsAreMasked(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	masks := filepath.Join(m.dir, "masks")
	require.NoError(t, os.WriteFile(masks, []byte("labpassword\n"), 0o600))
	m.configure("mask_file: " + masks + "\n" + execDriver)
	m.serve()
	o := job(1, `printf 'a %s b' "$KEY"; printf "$KEY" | cut -c1-4 | tr -d '\n'; sleep 0.1; printf "$KEY" | cut -c5-; echo labpassword`)
	o.manifest.Env, o.manifest.Secrets = map[string]string{"KEY": "hunter2hunter2"}, []string{"KEY"}
	l.offer(o)
	require.Equal(t, "a *** b***\n***\n", string(l.finished(1).logs["stdout"]))
}

func TestAFullDiskEndsTheLogAndNotTheRun(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	spool := filepath.Join(m.dir, "spool")
	require.NoError(t, os.Mkdir(spool, 0o711))
	require.NoError(t, syscall.Mount("tmpfs", spool, "tmpfs", 0, "size=80m"), "the test mounts a small disk")
	t.Cleanup(func() {
		m.killAll()
		require.NoError(t, syscall.Unmount(spool, syscall.MNT_DETACH))
	})
	l.logCap = 1 << 30
	m.serve()
	o := job(1, "head -c 200000000 /dev/zero; echo ready >&2; while ! [ -e go ]; do sleep 0.01; done; exit 6")
	o.manifest.LogCap = 1 << 30
	l.offer(o)
	l.until(1, "does not fill the disk", func(r labRun) bool {
		return string(r.logs["stderr"]) == "ready\n" || len(r.logs["stdout"]) > 70_000_000
	})
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Contains(l.syncs[len(l.syncs)-1].Unfit, "is full")
	}, bound, 10*time.Millisecond, "an agent with a full disk takes nothing new")
	// A file with nothing in it needs no room.
	require.NoError(t, os.WriteFile(filepath.Join(m.folder(1).Work(), "go"), nil, 0o600))
	run := l.finished(1)
	require.Equal(t, 6, *run.finish.ExitCode)
	require.Positive(t, run.finish.Streams[0].Cut)
	require.EqualValues(t, len(run.logs["stdout"]), run.finish.Streams[0].Size)
	require.Regexp(t, `\n\[hostsched: the log is cut here, after \d+ bytes\]\n$`, string(run.logs["stdout"][len(run.logs["stdout"])-100:]), "there was no room for the mark when the log was cut")
}
