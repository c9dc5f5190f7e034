package cluster

import (
	"context"
	"time"

	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/store"
)

const (
	clockInterval = time.Minute
	clockTimeout  = 5 * time.Second
)

// watchClock says in the log that the clocks of the database and of this machine are
// apart. Nothing depends on that but people who compare times.
func (c *Controller) watchClock(ctx context.Context) {
	again := time.NewTicker(clockInterval)
	defer again.Stop()
	faults := recurring.New(c.log)
	for {
		bound, cancel := context.WithTimeout(ctx, clockTimeout)
		ahead, err := c.db.Main.ClockAhead(bound)
		cancel()
		// That the database does not answer is said elsewhere.
		if skew := store.Skew("the database", ahead); err == nil && skew != "" {
			faults.Warn("clocks are apart; set them with NTP", "reason", skew)
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}
