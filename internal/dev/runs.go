package dev

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/internal/simlab"
)

// shownRuns is how many of the latest runs are shown.
const shownRuns = 6

// runCounts are the runs of jobs by what became of them, and the tasks that were run. Runs are
// stopped when their agent ends.
type runCounts struct{ open, passed, failed, stopped, tasks int }

// run is a run of a job with the last line of its log.
type run struct {
	id, job                   int64
	name, host, state, result string
	line                      string
}

// lookAtRuns reads what agents do.
func (d *dev) lookAtRuns(ctx context.Context) (c runCounts, latest []run, err error) {
	if d.opts.Agents == 0 {
		return c, nil, nil
	}
	const stopped = "stop_reason = '" + string(lifecycle.StopAgentStop) + "'"
	err = d.db.SQL().QueryRowContext(ctx, `SELECT COALESCE(SUM(kind = 'job' AND state IN `+lab.OpenRuns+`), 0), COALESCE(SUM(kind = 'job' AND result = 'passed'), 0),
  COALESCE(SUM(kind = 'job' AND (state = 'lost' OR state = 'done' AND result <> 'passed' AND NOT `+stopped+`)), 0),
  COALESCE(SUM(kind = 'job' AND state = 'done' AND result <> 'passed' AND `+stopped+`), 0), COALESCE(SUM(kind NOT IN ('job', 'reserve') AND state = 'done'), 0) FROM hostsched_runs`).Scan(&c.open, &c.passed, &c.failed, &c.stopped, &c.tasks)
	if err != nil {
		return c, nil, fmt.Errorf("count runs: %w", err)
	}
	err = simlab.Each(ctx, d.db.SQL(), fmt.Sprintf(`SELECT r.id, r.job_id, j.name, h.hostname, r.state, r.result,
  COALESCE((SELECT c.data FROM hostsched_log_chunks c WHERE c.run_id = r.id AND c.stream = 'stdout' ORDER BY c.begins DESC LIMIT 1), '')
FROM hostsched_runs r JOIN afe_jobs j ON j.id = r.job_id JOIN hostsched_run_hosts x ON x.run_id = r.id JOIN afe_hosts h ON h.id = x.host_id
WHERE r.kind = 'job' ORDER BY r.id DESC LIMIT %d`, shownRuns), func(rows *sql.Rows) error {
		var r run
		var log []byte
		err := rows.Scan(&r.id, &r.job, &r.name, &r.host, &r.state, &r.result, &log)
		r.line = lastLine(string(log))
		latest = append(latest, r)
		return err
	})
	if err != nil {
		return c, nil, fmt.Errorf("list runs: %w", err)
	}
	return c, latest, nil
}

// colours are what a log says to a terminal; on the screen here it must not.
var colours = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// lastLine is the last line of a log that says anything.
func lastLine(log string) string {
	log = strings.TrimRight(colours.ReplaceAllString(log, ""), "\n ")
	line := strings.TrimSpace(log[strings.LastIndexByte(log, '\n')+1:])
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, line)
}

// outcome is what became of a run, or how far it is.
func (r run) outcome() string {
	if r.result != "" {
		return r.result
	}
	return r.state
}

func (r run) String() string {
	return fmt.Sprintf("job %-5d %-10s on %-20s %-9s %s", r.job, r.name, r.host, r.outcome(), r.line)
}
