package store

import (
	"context"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/store/sqldb"
)

// maxSkew is how far clocks may be apart without a warning. Decisions do not depend on
// them, but people compare times.
const maxSkew = 3 * time.Second

// ClockAhead returns how far the database's clock is ahead of this machine's.
func (db *DB) ClockAhead(ctx context.Context) (time.Duration, error) {
	var theirs int64
	asked := time.Now()
	if err := db.Pool.QueryRowContext(ctx, "SELECT "+db.Dialect.NowMillis).Scan(&theirs); err != nil {
		return 0, sqldb.Explain(err, "read the clock", db.Target())
	}
	ours := asked.Add(time.Since(asked) / 2)
	return time.UnixMilli(theirs).Sub(ours), nil
}

// Skew says that somebody's clock is too far from this machine's; it is empty if it is
// not.
func Skew(whose string, ahead time.Duration) string {
	switch {
	case ahead > maxSkew:
		return fmt.Sprintf("the clock of %s is %v ahead of this machine's", whose, ahead.Round(time.Second))
	case ahead < -maxSkew:
		return fmt.Sprintf("the clock of %s is %v behind this machine's", whose, -ahead.Round(time.Second))
	}
	return ""
}
