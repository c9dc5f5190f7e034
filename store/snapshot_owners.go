package store

import (
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// owners knows which users own the jobs that were read.
type owners struct {
	texts sqldb.Interned
	// users are by the owner of a job, 0 for an owner who is no user.
	users map[string]scheduler.UserID
	// unknown are the owners that the database has not been asked about.
	unknown []string
}

// of decodes the owner of a job. The user is 0 until the database was asked.
func (o *owners) of(v sqldb.Row, column int) (string, scheduler.UserID) {
	owner := o.texts.Text(v, column)
	user, known := o.users[owner]
	if !known {
		o.users[owner] = 0
		o.unknown = append(o.unknown, owner)
	}
	return owner, user
}

// forget leaves only the owners of these jobs, as unknown ones.
func (o *owners) forget(jobs []scheduler.Job) {
	*o = owners{texts: make(sqldb.Interned), users: make(map[string]scheduler.UserID, len(o.users))}
	last := ""
	for i := range jobs {
		owner := jobs[i].Owner
		if i > 0 && owner == last {
			continue // neighbours mostly have the same
		}
		last = owner
		if _, known := o.users[owner]; !known {
			o.texts[owner], o.users[owner] = owner, 0
			o.unknown = append(o.unknown, owner)
		}
	}
}

// findOwners finds out who owns the jobs whose owners are new, or all jobs if there may be
// other users, and tells whether any job is somebody else's than before. The database is
// asked about each owner once and not about each job: many jobs have one owner.
func (lab *labRows) findOwners(r *sqldb.Reader, stale func(tables ...string) bool) (changed bool) {
	jobs, o := lab.snapshot.Jobs, &lab.jobs.owners
	if stale("afe_users") {
		o.forget(jobs)
	}
	if len(o.unknown) == 0 {
		return false
	}
	for owner, id := range RowsNamed(r, "afe_users", "login", "", o.unknown) {
		o.users[owner] = scheduler.UserID(id)
	}
	o.unknown = nil
	for i := range jobs {
		if user := o.users[jobs[i].Owner]; user != jobs[i].User {
			jobs[i].User, changed = user, true
		}
	}
	return changed
}
