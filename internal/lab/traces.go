package lab

import (
	"context"

	"github.com/hostsched/hostsched/internal/traceid"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Traces are the traces of jobs that belong to one.
func (l *Lab) Traces(ctx context.Context, jobs []int64) (map[int64]string, error) {
	traces := map[int64]string{}
	err := l.read(ctx, "read the traces of jobs", func(r *sqldb.Reader) {
		r.RowsOf("SELECT job_id, MAX(value) FROM afe_job_keyvals WHERE `key` = ? AND job_id IN "+sqldb.List(jobs)+" GROUP BY job_id", []any{traceid.Keyval},
			func(v sqldb.Row) { traces[v.Int(0).N] = v.Text(1) })
	})
	return traces, err
}
