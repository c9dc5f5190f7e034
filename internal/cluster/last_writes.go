package cluster

import (
	"maps"
	"strings"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

const (
	// toldGiven is how many of its latest assignments a leader that ended tells the others,
	// of up to toldShards shards: a value in etcd has little room.
	toldGiven  = 200
	toldShards = 50
	// toldCause is how many bytes of the cause it tells them.
	toldCause = 300
)

// noteLastWrites tells the others what a term of this process left in the database, so that
// its successor notices if the database has lost it.
func (c *Controller) noteLastWrites(name shard.Name, last store.LastWrites) {
	c.mu.Lock()
	c.lastWrites = maps.Clone(c.lastWrites) // the former map is being announced, perhaps
	if c.lastWrites == nil {
		c.lastWrites = map[shard.Name]election.LastWrites{}
	}
	told := election.LastWrites{Epoch: last.Epoch, Writes: last.Writes, Cause: strings.ToValidUTF8(last.Cause[:min(len(last.Cause), toldCause)], "")}
	if len(c.lastWrites) < toldShards {
		for _, g := range last.Given[max(0, len(last.Given)-toldGiven):] {
			told.Given = append(told.Given, [3]int64{int64(g.Entry), int64(g.Job), int64(g.Host)})
		}
	}
	c.lastWrites[name] = told
	c.mu.Unlock()
	c.announce()
}

// forgetLastWrites forgets those after which another term has begun, which compared. It needs
// the lock.
func (c *Controller) forgetLastWrites(v election.View) {
	over := func(name shard.Name, last election.LastWrites) bool {
		candidates := v.Shards[name].Candidates
		return len(candidates) > 0 && candidates[0].Epoch > last.Epoch
	}
	for name, last := range c.lastWrites {
		if over(name, last) {
			c.lastWrites = maps.Clone(c.lastWrites)
			delete(c.lastWrites, name)
		}
	}
}

// formerTerms are the last writes of terms of a shard that any other replica has told of.
func (c *Controller) formerTerms(name shard.Name) (out []store.LastWrites) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		last, known := m.LastWrites[name]
		if !known || m.Holder == c.cfg.Replica.Holder {
			continue
		}
		former := store.LastWrites{Epoch: last.Epoch, Holder: m.Holder, Writes: last.Writes, Cause: last.Cause}
		for _, g := range last.Given {
			former.Given = append(former.Given, store.Given{Entry: scheduler.EntryID(g[0]), Job: scheduler.JobID(g[1]), Host: scheduler.HostID(g[2])})
		}
		out = append(out, former)
	}
	return out
}
