package schema

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/hostsched/hostsched/store/sqldb"
)

// Options choose what a migration does beyond the default.
type Options struct {
	// Guard installs the unique index that allows one active, incomplete entry
	// per host. On a database we create it is always installed.
	Guard bool
	// Lab makes Down also drop the lab's tables, if we created them.
	Lab bool

	// through lets tests of this package stop a migration at any statement.
	through func(driver.Connector) driver.Connector
}

// wantsGuard: a lab of our own always gets the guard, Autotest's on request.
func (o Options) wantsGuard(lab string) bool { return o.Guard || lab != LabAutotest }

// Up brings the schema up to SchemaVersion. In a database that already has
// Autotest's tables it only adds our own. It continues where an Up or a Down that
// was stopped has left off.
func Up(ctx context.Context, db *sqldb.DB, opts Options) (Status, error) {
	return migrate(ctx, db, opts, (*session).up)
}

// Down removes the guard and our own tables and, if asked to, the lab's
// tables that we created. It never touches Autotest's own. It continues where an
// Up or a Down that was stopped has left off.
func Down(ctx context.Context, db *sqldb.DB, opts Options) (Status, error) {
	return migrate(ctx, db, opts, (*session).down)
}

func migrate(ctx context.Context, db *sqldb.DB, opts Options, work func(*session, context.Context, Options) error) (Status, error) {
	err := withSession(ctx, db, opts.through, func(s *session) error { return work(s, ctx, opts) })
	if err != nil {
		return Status{}, err
	}
	return ReadStatus(ctx, db)
}

func (s *session) up(ctx context.Context, opts Options) error {
	st, err := ReadStatus(ctx, s.db)
	if err != nil {
		return err
	}
	if st.Schema > SchemaVersion {
		return fmt.Errorf("%w: %s has schema version %d, this binary knows up to %d; use a newer hostsched", sqldb.ErrSchema, s.db.Target(), st.Schema, SchemaVersion)
	}
	if err := refuseStrangers(ctx, s.db); err != nil {
		return err
	}
	if err := checkServer(ctx, s.db, s.pool); err != nil {
		return err
	}
	if err := s.create(ctx, st, opts); err != nil {
		return s.partly(s.withRemainder(ctx, err, opts))
	}
	return nil
}

// partly marks an error after which something is, or may be, written.
func (s *session) partly(err error) error {
	if s.wrote || sqldb.IsConnection(err) {
		return sqldb.Partly(err)
	}
	return err
}

func (s *session) create(ctx context.Context, st Status, opts Options) error {
	if st.Lab != LabAutotest {
		if err := s.runUp(ctx, lab); err != nil {
			return err
		}
	}
	if err := s.runUp(ctx, own); err != nil {
		return err
	}
	if st.Guard || !opts.wantsGuard(st.Lab) {
		return nil
	}
	return s.installGuard(ctx)
}

// statusTimeout bounds the look at what a migration that was stopped left.
const statusTimeout = 2 * time.Second

// withRemainder adds to the error of an Up what is left to be done.
func (s *session) withRemainder(ctx context.Context, err error, opts Options) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusTimeout)
	defer cancel()
	st, statusErr := ReadStatus(ctx, s.db)
	if statusErr != nil {
		return fmt.Errorf("%w; run 'hostsched migrate up' again, it continues from here", err)
	}
	var left []string
	if st.Lab == LabNone || st.Lab == LabIncomplete {
		left = append(left, "the lab's tables")
	}
	if st.Schema < SchemaVersion {
		left = append(left, fmt.Sprintf("hostsched's tables from version %d to %d", st.Schema, SchemaVersion))
	}
	if !st.Guard && opts.wantsGuard(st.Lab) {
		left = append(left, "the guard")
	}
	if len(left) == 0 { // only an answer was lost
		left = append(left, "nothing")
	}
	return fmt.Errorf("%w; still to be done: %s; run 'hostsched migrate up' again, it continues from here", err, strings.Join(left, ", "))
}

func (s *session) down(ctx context.Context, opts Options) error {
	st, err := ReadStatus(ctx, s.db)
	if err != nil {
		return err
	}
	if opts.Lab {
		if st.Lab == LabAutotest {
			return fmt.Errorf("%w: the lab tables of %s are not ours (%s); nothing was dropped", sqldb.ErrServer, s.db.Target(), st.Lab)
		}
		if err := refuseStrangers(ctx, s.db); err != nil {
			return err
		}
	}
	if err := s.drop(ctx, opts); err != nil {
		return s.partly(fmt.Errorf("%w; run 'hostsched migrate down' again, it continues from here", err))
	}
	return nil
}

func (s *session) drop(ctx context.Context, opts Options) error {
	if err := s.removeGuard(ctx); err != nil {
		return err
	}
	if err := s.runDown(ctx, own); err != nil {
		return err
	}
	if !opts.Lab {
		return nil
	}
	return s.runDown(ctx, lab)
}
