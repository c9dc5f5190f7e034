package runs

import (
	"context"
	"database/sql"
	"time"

	"github.com/hostsched/hostsched/store/sqldb"
)

// Ended is what became of a run that is closed.
type Ended struct {
	ID, Job               int64
	Kind, Result, Agent   string
	Hosts                 []string
	Claimed, Ended, Close time.Time
}

// Ended reads runs that are closed. One whose command did not end was over when it was closed.
func (r *Runs) Ended(ctx context.Context, ids []int64) (all []Ended, err error) {
	db := r.lab.DB()
	at := map[int64]int{}
	err = sqldb.EachRow(ctx, db.Pool, "SELECT r.id, COALESCE(r.job_id, 0), r.kind, CASE WHEN r.state = 'lost' THEN 'lost' ELSE r.result END, COALESCE(a.name, r.login), r.claimed, r.ended, COALESCE(r.closed, r.claimed)"+
		" FROM hostsched_runs r LEFT JOIN hostsched_agents a ON a.id = r.agent_id WHERE r.id IN "+sqldb.List(ids), nil, func(scan sqldb.Scanner) error {
		var e Ended
		var claimed, closed int64
		var ended sql.NullInt64
		err := scan(&e.ID, &e.Job, &e.Kind, &e.Result, &e.Agent, &claimed, &ended, &closed)
		e.Claimed, e.Close, e.Ended = time.UnixMilli(claimed), time.UnixMilli(closed), time.UnixMilli(closed)
		if ended.Valid {
			e.Ended = time.UnixMilli(ended.Int64)
		}
		at[e.ID] = len(all)
		all = append(all, e)
		return err
	})
	if err == nil {
		err = sqldb.EachRow(ctx, db.Pool, "SELECT x.run_id, COALESCE(h.hostname, '') FROM hostsched_run_hosts x JOIN afe_hosts h ON h.id = x.host_id WHERE x.run_id IN "+sqldb.List(ids)+" ORDER BY x.host_id", nil, func(scan sqldb.Scanner) error {
			var run int64
			var host string
			err := scan(&run, &host)
			if i, ok := at[run]; ok {
				all[i].Hosts = append(all[i].Hosts, host)
			}
			return err
		})
	}
	return all, r.lab.Explain(err, "read runs that are over")
}
