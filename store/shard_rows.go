package store

import (
	"context"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// shardRows is the query for the rows of afe_shards. The database itself says which names
// are the same: by the collation of afe_shards, and by that of hostsched's own tables, where
// a shard has its fence. Autotest made the former, so the two may differ.
func shardRows(d sqldb.Dialect) string {
	own := d.OwnText("s.hostname")
	return "SELECT s.id, s.hostname, MIN(s.id) OVER (PARTITION BY s.hostname), MIN(s.id) OVER (PARTITION BY " + own + "), " +
		"CASE WHEN s.hostname = '" + shard.Master.String() + "' OR " + own + " = '" + shard.Master.String() + "' THEN 1 ELSE 0 END FROM afe_shards s ORDER BY s.id"
}

// ShardRows reads the rows of afe_shards in the order of their ids, as shard.Unserved wants
// them.
func ShardRows(ctx context.Context, q sqldb.Querier, d sqldb.Dialect) (rows []shard.Row, err error) {
	err = sqldb.EachRow(ctx, q, shardRows(d), nil, func(scan sqldb.Scanner) error {
		var r shard.Row
		var name []byte // it may be NULL in a table that somebody made by hand
		err := scan(&r.ID, &name, &r.Same[0], &r.Same[1], &r.Master)
		r.Name = shard.Name(name)
		rows = append(rows, r)
		return err
	})
	return rows, err
}

// readShardRows is ShardRows for a reader.
func readShardRows(r *sqldb.Reader) (rows []shard.Row) {
	r.Rows(shardRows(r.Dialect), func(v sqldb.Row) {
		rows = append(rows, shard.Row{
			ID: shard.ID(v.Int(0).N), Name: shard.Name(v.Text(1)),
			Same:   [2]shard.ID{shard.ID(v.Int(2).N), shard.ID(v.Int(3).N)},
			Master: v.Int(4).N != 0,
		})
	})
	return rows
}
