package runs

import (
	"context"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Stops finds which runs of some agents are to stop. It is for those that wait; Renew says the
// same to those that call.
func (r *Runs) Stops(ctx context.Context, agents []int64) (map[int64][]labapi.Stop, error) {
	stops := map[int64][]labapi.Stop{}
	if len(agents) == 0 {
		return stops, nil
	}
	query := "SELECT r.agent_id, r.id, r.stop_reason FROM hostsched_runs r WHERE r.state IN " + lab.OpenRuns + " AND r.stop_since IS NOT NULL AND r.agent_id IN " + sqldb.List(agents) + " ORDER BY r.id"
	db := r.lab.DB()
	err := sqldb.EachRow(ctx, db.Pool, query, nil, func(scan sqldb.Scanner) error {
		var agent, run int64
		var reason string
		err := scan(&agent, &run, &reason)
		stops[agent] = append(stops[agent], *stopOf(run, reason))
		return err
	})
	return stops, r.lab.Explain(err, "look for runs that are to stop")
}
