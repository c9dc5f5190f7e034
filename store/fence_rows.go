package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// alikeColumns are those in which the rows of a shard never differ: whatever changes them
// changes the rows of all writers in one statement.
const alikeColumns = "epoch, token, etcd_cluster, cluster_name, holder, taken_at, shard_id, layout, pause_reason, paused_by, paused_at"

// Contradictions says in which columns the rows of a shard differ although they must not,
// each with its values. Only an edit by hand can be the reason. It waits for no lock.
func (db *DB) Contradictions(ctx context.Context, name shard.Name) ([]string, error) {
	columns := strings.Split(alikeColumns, ", ")
	values := make([][]string, len(columns))
	err := sqldb.EachRow(ctx, db.Pool, "SELECT "+alikeColumns+" FROM hostsched_fence WHERE shard = ? ORDER BY lane", []any{name.String()}, func(scan sqldb.Scanner) error {
		row := make([]sql.NullString, len(columns))
		fields := make([]any, len(columns))
		for i := range row {
			fields[i] = &row[i]
		}
		err := scan(fields...)
		for i, v := range row {
			if !slices.Contains(values[i], v.String) {
				values[i] = append(values[i], v.String)
			}
		}
		return err
	})
	var out []string
	for i, v := range values {
		if len(v) > 1 {
			out = append(out, fmt.Sprintf("%s is %q", columns[i], v))
		}
	}
	return out, sqldb.Explain(err, "compare the fence rows of shard "+name.String(), db.Target())
}
