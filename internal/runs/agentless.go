package runs

import (
	"slices"

	"github.com/hostsched/hostsched/internal/lifecycle"
)

// doneAtOnce counts the special tasks as done that wait on hosts that no agent serves: nobody
// would run them, as nobody runs a task for which an agent has no command.
func (c *change) doneAtOnce() error {
	for {
		id, ok := c.nextAtOnce()
		if !ok {
			return nil
		}
		err := c.apply(lifecycle.TaskStarted{Task: id}, lifecycle.TaskEnded{Task: id, OK: true})
		if err != nil {
			return err
		}
	}
}

// nextAtOnce is the next task of a host that no agent serves and on which nothing goes on.
func (c *change) nextAtOnce() (next lifecycle.TaskID, found bool) {
	for id, t := range c.state.Tasks {
		if t.Complete || !c.canDoAtOnce(id, t) {
			continue
		}
		if !found || c.precedes(id, next) {
			next, found = id, true
		}
	}
	return next, found
}

func (c *change) canDoAtOnce(id lifecycle.TaskID, t lifecycle.Task) bool {
	h, known := c.hosts[t.Host]
	if !known || h.agent != 0 || h.invalid || !h.leased || t.Active || c.state.Hosts[t.Host].Locked {
		return false
	}
	_, err := lifecycle.Next(c.state, lifecycle.TaskStarted{Task: id})
	return err == nil
}

// precedes tells which of two tasks monitor_db would start first.
func (c *change) precedes(a, b lifecycle.TaskID) bool {
	x, y := slices.Index(order, c.state.Tasks[a].Kind), slices.Index(order, c.state.Tasks[b].Kind)
	if x != y {
		return x < y
	}
	return a < b
}
