package schema

import (
	"context"
	"database/sql/driver"

	"github.com/pressly/goose/v3"

	"github.com/hostsched/hostsched/store/sqldb"
)

// UpTo creates the lab's tables and our own as of a former version.
func UpTo(ctx context.Context, db *sqldb.DB, version int64) error {
	return withSession(ctx, db, nil, func(s *session) error {
		if err := s.runUp(ctx, lab); err != nil {
			return err
		}
		if err := s.beginRecord(ctx, own); err != nil {
			return err
		}
		return s.runFiles(ctx, own, func(p *goose.Provider) error { _, err := p.UpTo(ctx, version); return err })
	})
}

// Through lets a migration connect through a connector of a test.
func (o Options) Through(wrap func(driver.Connector) driver.Connector) Options {
	o.through = wrap
	return o
}

// Tables are those that the files of both sets create.
func Tables(db *sqldb.DB) ([]string, error) {
	all, err := lab.tables(db.Dialect, SchemaVersion)
	if err != nil {
		return nil, err
	}
	ours, err := own.tables(db.Dialect, SchemaVersion)
	return append(all, ours...), err
}
