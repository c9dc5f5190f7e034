package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"syscall"

	"github.com/prometheus/procfs"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// evictDead disconnects a predecessor that is known to be dead or to stand still,
// instead of finding out by waiting for its locks. Whoever has its name needs no token for
// that. If it fails, the takeover waits after all, tries again, and says what is wrong.
func (db *DB) evictDead(ctx context.Context, c Claim) {
	if len(c.Deaths) == 0 {
		return
	}
	f, ok, err := db.ReadFence(ctx, c.Shard)
	if err == nil && ok && c.death(f.Holder, f.Token) != "" && (f.Cluster == "" || f.Cluster == c.Cluster) {
		_ = db.evict(ctx, c.Shard)
	}
}

// evictPredecessor disconnects whoever holds a fence row locked and does not continue.
// A claimant that would be refused anyway touches nobody: one that was late may have met
// its own successor, who is well.
func (db *DB) evictPredecessor(ctx context.Context, c Claim) error {
	f, ok, err := db.ReadFence(ctx, c.Shard)
	if err != nil || !ok {
		return err
	}
	if err := c.refusal(f, db.Target()); err != nil {
		return err
	}
	return db.evict(ctx, c.Shard)
}

// evict disconnects the registered writers of a shard.
func (db *DB) evict(ctx context.Context, name shard.Name) error {
	type session struct {
		id           int64
		peer, holder string
	}
	var sessions []session
	err := sqldb.EachRow(ctx, db.Pool, "SELECT session_id, session_peer, holder FROM hostsched_fence WHERE shard = ? AND session_id <> 0", []any{name.String()}, func(scan sqldb.Scanner) error {
		var s session
		err := scan(&s.id, &s.peer, &s.holder)
		sessions = append(sessions, s)
		return err
	})
	if err != nil {
		return sqldb.Explain(err, "look for the predecessor of shard "+name.String(), db.Target())
	}
	for _, s := range sessions {
		if err := db.evictSession(ctx, s.id, s.peer, s.holder); err != nil {
			return err
		}
	}
	return nil
}

func (db *DB) evictSession(ctx context.Context, id int64, peer, holder string) error {
	if db.Dialect.Server == sqldb.ServerSQLite {
		return evictProcess(id, peer)
	}
	// The id alone could have been reused: the peer address, which includes the
	// port, must match too.
	err := db.Pool.QueryRowContext(ctx, "SELECT ID FROM information_schema.PROCESSLIST WHERE ID = ? AND HOST = ?", id, peer).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return sqldb.Explain(err, "look for the predecessor's connection", db.Target())
	}
	_, err = db.Pool.ExecContext(ctx, fmt.Sprintf("KILL CONNECTION %d", id))
	if sqldb.MysqlCode(err) == sqldb.MyNoSuchThread {
		return nil
	}
	return sqldb.Explain(err, fmt.Sprintf("disconnect the paused predecessor %s (connection %d)", holder, id), db.Target())
}

// evictProcess ends a stopped process that holds the write lock of an SQLite
// file; nothing else frees that lock. Only a process on this machine that was
// registered with the same start time, and that is stopped, is touched.
func evictProcess(pid int64, start string) error {
	if start == "" || pid <= 1 || processStart(int(pid)) != start || !processStopped(int(pid)) {
		return nil
	}
	if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the stopped predecessor, process %d, which holds the database locked: %w", pid, err)
	}
	return nil
}

// processStart returns a process's start time in clock ticks since boot, "" if
// it cannot be told.
func processStart(pid int) string {
	stat, err := processStat(pid)
	if err != nil {
		return ""
	}
	return strconv.FormatUint(stat.Starttime, 10)
}

func processStopped(pid int) bool {
	stat, err := processStat(pid)
	return err == nil && stat.State == "T"
}

func processStat(pid int) (procfs.ProcStat, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	return p.Stat()
}
