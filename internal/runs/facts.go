package runs

import (
	"context"
	"database/sql"
	"errors"
	"strconv"

	"github.com/hostsched/hostsched/store/sqldb"
)

// Facts of hostsched_facts, times in milliseconds by the database's clock.
const (
	// factAlive is when a server last swept.
	factAlive = "alive_at"
	// factNoLoss is before when no run is given up, because no server was there.
	factNoLoss = "no_loss_before"
	// factRechecked is when hosts that could not be repaired were last verified again.
	factRechecked = "rechecked_at"
)

const (
	// mostAliveEvery is how often at least a sweep notes that servers are there, and
	// mostAwayAfter how long nothing is noted at most until they count as away.
	mostAliveEvery = 5_000
	mostAwayAfter  = 30_000
)

// aliveEvery and awayAfter are shorter where leases are: as long as a run is given up only
// after its lease and lifecycle.LossGrace, no servers that were away for so long that it
// could not be renewed count as having been there.
func (r *Runs) aliveEvery() int64 { return min(r.Lease.Milliseconds()/4, mostAliveEvery) }

func (r *Runs) awayAfter() int64 { return min(r.Lease.Milliseconds(), mostAwayAfter) }

// noteAlive notes that servers are there. If none was for a while, claimants could not renew
// their leases: nothing is given up then for one full lease.
func (r *Runs) noteAlive(ctx context.Context) error {
	db := r.lab.DB()
	var alive, now int64
	err := db.Pool.QueryRowContext(ctx, "SELECT COALESCE(MAX(value), '0'), "+db.Dialect.NowMillis+" FROM hostsched_facts WHERE name = '"+factAlive+"'").Scan(&alive, &now)
	if err != nil || now-alive < r.aliveEvery() {
		return r.lab.Explain(err, "read when servers were there last")
	}
	return r.lab.Change(ctx, "note that servers are there", func(tx *sql.Tx) error {
		alive, err := factIn(ctx, tx, factAlive, db.Dialect.ForUpdate)
		if err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, "SELECT "+db.Dialect.NowMillis).Scan(&now); err != nil {
			return err
		}
		if alive != 0 && now-alive > r.awayAfter() {
			if err := r.setFact(ctx, tx, factNoLoss, now+r.Lease.Milliseconds()); err != nil {
				return err
			}
		}
		return r.setFact(ctx, tx, factAlive, max(alive, now))
	})
}

// factIn reads a fact that is a number, 0 if it is not there.
func factIn(ctx context.Context, tx sqldb.Querier, name, lock string) (int64, error) {
	var text string
	err := tx.QueryRowContext(ctx, "SELECT value FROM hostsched_facts WHERE name = ?"+lock, name).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

func (r *Runs) setFact(ctx context.Context, tx sqldb.Querier, name string, value int64) error {
	text := strconv.FormatInt(value, 10)
	if _, err := tx.ExecContext(ctx, r.lab.DB().Dialect.InsertIgnore+" hostsched_facts (name, value) VALUES (?, ?)", name, text); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "UPDATE hostsched_facts SET value = ? WHERE name = ?", text, name)
	return err
}
