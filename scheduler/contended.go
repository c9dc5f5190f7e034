package scheduler

import "slices"

// Contended are the rows that transactions of other clients kept locked when a plan was
// written lately. What needs such a row cannot be written. Therefore the plan leaves
// these hosts as they are, so that entries get others, and these entries wait, so that
// others get the hosts.
type Contended struct {
	Hosts   []HostID
	Entries []EntryID
	// Jobs keep their entries from getting any host, because this is noted in a row that
	// refers to the job. Users keep the entries of their jobs from getting a host, because
	// special tasks refer to them.
	Jobs  []JobID
	Users []UserID
}

// Count is how many rows are contended.
func (c Contended) Count() int { return len(c.Hosts) + len(c.Entries) + len(c.Jobs) + len(c.Users) }

// Equal tells whether the same rows are contended.
func (c Contended) Equal(other Contended) bool {
	return slices.Equal(c.Hosts, other.Hosts) && slices.Equal(c.Entries, other.Entries) &&
		slices.Equal(c.Jobs, other.Jobs) && slices.Equal(c.Users, other.Users)
}

// contended answers which rows of a snapshot are contended.
type contended struct {
	hosts   map[HostID]bool
	entries map[EntryID]bool
	jobs    map[JobID]bool
	users   map[UserID]bool
	// synch are the jobs one of whose entries, or its host, is contended. If the entries of
	// such a job start together, all of them wait, because they are written together.
	synch map[JobID]bool
}

func contendedIn(s *Snapshot) contended {
	c := contended{setOf(s.Contended.Hosts), setOf(s.Contended.Entries), setOf(s.Contended.Jobs), setOf(s.Contended.Users), nil}
	if len(c.hosts)+len(c.entries) == 0 {
		return c
	}
	c.synch = make(map[JobID]bool)
	for i := range s.Entries {
		if e := &s.Entries[i]; c.hosts[e.Host] || c.entries[e.ID] {
			c.synch[e.Job] = true
		}
	}
	for i := range s.Siblings {
		if e := &s.Siblings[i]; c.hosts[e.Host] || c.entries[e.ID] {
			c.synch[e.Job] = true
		}
	}
	return c
}

// setOf returns nil for an empty list, as nearly always.
func setOf[T comparable](list []T) map[T]bool {
	if len(list) == 0 {
		return nil
	}
	set := make(map[T]bool, len(list))
	for _, v := range list {
		set[v] = true
	}
	return set
}

// reason says which contended row keeps an entry from being written, and is nil if none
// does. The owner of the job must be known.
func (c *contended) reason(e *pending) *Reason {
	row := ""
	switch {
	case c.entries[e.entry.ID]:
		row = "its row"
	case e.entry.Host == 0 && c.jobs[e.job.ID]:
		row = "the row of its job"
	case c.users[e.job.user.ID]:
		row = "the row of its owner"
	case e.job.SynchCount > 1 && c.synch[e.job.ID]:
		row = "a row of an entry that starts together with it, or of the host of one,"
	default:
		return nil
	}
	return &Reason{Code: EntryContended, text: row + " is held by another transaction"}
}
