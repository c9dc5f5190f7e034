package lab

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Suites lists suites, the newest first: the parents of jobs, and whatever has a minimum. Both
// are found by indexes, so that a lab with many jobs is not read as a whole.
func (l *Lab) Suites(ctx context.Context, before int64, limit int) (page labapi.Page[labapi.Suite], err error) {
	if before == 0 {
		before = 1 << 40
	}
	var ids []int64
	for _, query := range []string{
		"SELECT parent_job_id FROM afe_jobs WHERE parent_job_id < ? GROUP BY parent_job_id ORDER BY parent_job_id DESC LIMIT ?",
		"SELECT job_id FROM afe_job_keyvals WHERE job_id < ? AND `key` = '" + jobspec.MinimumKey + "' GROUP BY job_id ORDER BY job_id DESC LIMIT ?",
	} {
		some, err := sqldb.SelectIDs(ctx, l.db.Pool, query, before, limit+1)
		if err != nil {
			return page, l.explain(err, "list suites")
		}
		ids = append(ids, some...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	slices.Reverse(ids)
	if len(ids) > limit {
		ids = ids[:limit]
		page.After = Cursor(ids[limit-1])
	}
	page.Items, err = l.readSuites(ctx, ids)
	return page, err
}

func (l *Lab) readSuites(ctx context.Context, ids []int64) ([]labapi.Suite, error) {
	suites := []labapi.Suite{}
	if len(ids) == 0 {
		return suites, nil
	}
	query := "SELECT j.id, COALESCE(j.name, ''), COALESCE(j.owner, ''), COALESCE(j.priority, 0), " + l.db.Dialect.Unix("j.created_on") +
		", COALESCE((SELECT MIN(k.value) FROM afe_job_keyvals k WHERE k.job_id = j.id AND k.`key` = '" + jobspec.MinimumKey + "'), '') FROM afe_jobs j WHERE j.id IN " + sqldb.List(ids) + " ORDER BY j.id DESC"
	err := l.each(ctx, "read suites", query, nil, func(scan sqldb.Scanner) error {
		var s labapi.Suite
		var created sql.NullInt64
		var minimum string
		err := scan(&s.ID, &s.Name, &s.Owner, &s.Priority, &created, &minimum)
		s.Created = time.Unix(created.Int64, 0).UTC()
		if n, perr := strconv.Atoi(strings.TrimSpace(minimum)); perr == nil {
			s.Minimum = max(n, 0)
		}
		suites = append(suites, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	counts, err := l.count(ctx, "j.parent_job_id", childrenJoin, "j.parent_job_id IN "+sqldb.List(ids))
	if err != nil {
		return nil, err
	}
	for i := range suites {
		n := counts[suites[i].ID]
		suites[i].Holds, suites[i].Waiting, suites[i].Failed, suites[i].Aborted = n.holds, n.waiting, n.failed, n.aborted
		suites[i].Passed = n.all - n.open - n.failed - n.aborted
	}
	return suites, nil
}

// Suite returns a suite with the ids of its jobs.
func (l *Lab) Suite(ctx context.Context, id int64) (s labapi.Suite, err error) {
	page, err := l.Suites(ctx, id+1, 1)
	if err != nil {
		return s, err
	}
	if len(page.Items) == 0 || page.Items[0].ID != id {
		return s, fmt.Errorf("%w: there is no suite %d", ErrNotFound, id)
	}
	s = page.Items[0]
	s.Jobs, err = l.jobsOf(ctx, id)
	return s, err
}

// jobsOf are the ids of a suite's jobs.
func (l *Lab) jobsOf(ctx context.Context, suite int64) ([]int64, error) {
	jobs, err := sqldb.SelectIDs(ctx, l.db.Pool, "SELECT id FROM afe_jobs WHERE parent_job_id = ? ORDER BY id", suite)
	return jobs, l.explain(err, "read the jobs of a suite")
}
