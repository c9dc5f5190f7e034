package store

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// moves hands unused hosts over to other shards. One that came into use
// meanwhile stays and moves later.
func (a *applier) moves(ctx context.Context, moves []scheduler.Move) error {
	byTarget := make(map[scheduler.ShardID][]scheduler.Move)
	for _, m := range moves {
		byTarget[m.To] = append(byTarget[m.To], m)
	}
	for _, to := range slices.Sorted(maps.Keys(byTarget)) {
		for chunk := range chunks(&a.l.chunkSizer, byTarget[to]) {
			host := func(m scheduler.Move) int64 { return int64(m.Host) }
			if err := writeHosts(ctx, a, chunk, host, func(chunk []scheduler.Move) error { return a.moveChunk(ctx, chunk, to) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *applier) moveChunk(ctx context.Context, chunk []scheduler.Move, to scheduler.ShardID) error {
	target := "NULL"
	if to != 0 {
		target = strconv.FormatInt(int64(to), 10)
	}
	ids := sqldb.IDsOf(chunk, func(m scheduler.Move) int64 { return int64(m.Host) })
	var kept []scheduler.Move
	err := a.writeOnce(ctx, "hand hosts over to another shard", func(ctx context.Context, tx sqldb.Querier) error {
		_, err := tx.ExecContext(ctx, "UPDATE afe_hosts SET shard_id = "+target+" WHERE leased = 0"+a.owner()+unused(ids))
		if err != nil {
			return err
		}
		left := make(map[scheduler.HostID]bool)
		err = sqldb.EachID(ctx, tx, "SELECT id FROM afe_hosts WHERE id IN "+sqldb.List(ids)+a.owner(), func(id int64) { left[scheduler.HostID(id)] = true })
		kept = kept[:0]
		for _, m := range chunk {
			if !left[m.Host] {
				kept = append(kept, m)
			}
		}
		if err != nil {
			return err
		}
		return a.l.noteHosts(ctx, tx, eventMoved, "to shard "+strconv.FormatInt(int64(to), 10)+", by its labels", sqldb.IDsOf(kept, func(m scheduler.Move) int64 { return int64(m.Host) }))
	})
	if err == nil {
		a.res.Applied.Moves = append(a.res.Applied.Moves, kept...)
	}
	return err
}
