package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Logs are judged by what is in them: the work of a job says numbered lines, and keeps on the
// side how many it has said.

// linePause is between two lines of a job.
const linePause = 20 * time.Millisecond

// logLine is a line of a job. A pipe takes lines of this length whole or not at all.
func logLine(run string, n int) string {
	return fmt.Sprintf("%06d of run %s %s\n", n, run, strings.Repeat(".", 150))
}

// speak says lines until the work is over.
func (w *witness) speak(ctx context.Context) error {
	side, err := os.Create(saidFile(w.dir, w.run))
	if err != nil {
		return err
	}
	defer side.Close() //nolint:errcheck // each number is written at once
	over := time.Now().Add(w.hold)
	for n := 1; ctx.Err() == nil && (n <= w.lines || time.Now().Before(over)); n++ {
		if _, err := os.Stdout.WriteString(logLine(w.run, n)); err != nil {
			return err
		}
		if _, err := side.WriteAt(fmt.Appendf(nil, "%06d", n), 0); err != nil {
			return err
		}
		if n > w.lines {
			sleep(ctx, linePause)
		}
	}
	return ctx.Err()
}

func saidFile(dir, run string) string { return filepath.Join(dir, "said-"+run) }

// said is how many lines a job has said, 0 if it never came to that.
func said(dir, run string) int {
	text, _ := os.ReadFile(saidFile(dir, run))
	n, _ := strconv.Atoi(string(text))
	return n
}

// logCut begins the mark of a log for which there was no room.
const logCut = "\n[hostsched: the log is cut here"

// logFault tells what is wrong with the log of a run, nothing if it is as it must be: the lines
// of the run one after the other, and all that were said if the run came to its end with a shim.
func logFault(text, run string, said int, whole bool) string {
	if before, _, cut := strings.Cut(text, logCut); cut {
		text, whole = before, false
	}
	lines := strings.SplitAfter(text, "\n")
	last := len(lines) - 1
	for i, line := range lines {
		want := logLine(run, i+1)
		isPart := i == last && strings.HasPrefix(want, line) && (line == "" || !whole)
		if line != want && !isPart {
			return fmt.Sprintf("line %d is %.40q", i+1, line)
		}
	}
	if whole && last < said {
		return fmt.Sprintf("%d of %d lines are there", last, said)
	}
	return ""
}

// incompleteLogs are the runs of agents' jobs whose logs are not as they must be.
func (c *chaos) incompleteLogs(ctx context.Context) (wrong []string, err error) {
	whole := map[int64]bool{}
	query := "SELECT id, state = 'done' AND (exit_code IS NOT NULL OR exit_signal IS NOT NULL) AND not_run_reason = '' FROM hostsched_runs WHERE kind = 'job' AND agent_id IS NOT NULL"
	err = sqldb.EachRow(ctx, c.db.SQL(), query, nil, func(scan sqldb.Scanner) error {
		var id int64
		var all bool
		err := scan(&id, &all)
		whole[id] = all
		return err
	})
	l := c.runs.lab
	for id, all := range whole {
		if err != nil {
			return nil, err
		}
		var text string
		if text, err = logOf(ctx, l, id); err != nil {
			continue
		}
		run := strconv.FormatInt(id, 10)
		if fault := logFault(text, run, said(c.runs.dir, run), all); fault != "" {
			wrong = append(wrong, fmt.Sprintf("log of run %s: %s", run, fault))
		}
	}
	return wrong, err
}

func logOf(ctx context.Context, l *lab.Lab, run int64) (string, error) {
	const stream = "stdout"
	about, err := l.Log(ctx, run, stream)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	err = l.WriteLog(ctx, &text, run, stream, 0, about.Size)
	return text.String(), err
}
