package lab

import (
	"context"
	"database/sql"
	"sync/atomic"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// DB is the database of the lab, for packages that do more of its work.
func (l *Lab) DB() *store.DB { return l.db }

// Change runs a transaction as all changes here are: again if it was the victim of a deadlock
// or waited too long for a row. work may run more than once and must not keep anything of a
// run that failed.
func (l *Lab) Change(ctx context.Context, what string, work func(*sql.Tx) error) error {
	return l.change(ctx, what, work)
}

// Note writes events in the transaction that they tell of.
func (l *Lab) Note(ctx context.Context, tx sqldb.Querier, events ...Event) error {
	return l.note(ctx, tx, events...)
}

// Explain leaves what we said ourselves alone, and says what to do about a driver's error.
func (l *Lab) Explain(err error, what string) error { return l.explain(err, what) }

// system is the id of the system's user, 0 until somebody asked for it.
type system struct{ id atomic.Int64 }

// SystemUser is the user in whose name Autotest, and we, do what nobody asked for. It is
// entered if it is not there.
func (l *Lab) SystemUser(ctx context.Context) (int64, error) {
	if id := l.system.id.Load(); id != 0 {
		return id, nil
	}
	var id int64
	err := l.change(ctx, "enter user "+autotestSystem, func(tx *sql.Tx) (err error) {
		id, _, err = l.ensureUser(ctx, tx, autotestSystem)
		return err
	})
	if err == nil {
		l.system.id.Store(id)
	}
	return id, err
}

// LabelsOf are the names of the labels that hosts carry.
func (l *Lab) LabelsOf(ctx context.Context, hosts []int64) (map[int64][]string, error) {
	labels := map[int64][]string{}
	err := l.each(ctx, "read the labels of hosts", l.carried(" AND x.host_id IN "+sqldb.List(hosts))+" ORDER BY 2", nil, func(scan sqldb.Scanner) error {
		var host int64
		var name string
		err := scan(&host, &name)
		labels[host] = append(labels[host], name)
		return err
	})
	return labels, err
}

// SpecOf is what was submitted of a job with the values of its secrets, nil if it did not come
// through the API.
func (l *Lab) SpecOf(ctx context.Context, job int64) (*labapi.JobSpec, error) {
	return l.spec(ctx, job)
}
