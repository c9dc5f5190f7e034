package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/store/sqldb"
)

// Who created the tables of the lab.
const (
	LabNone     = "none"
	LabAutotest = "autotest"
	LabOurs     = "ours"
	// LabIncomplete is a lab of ours of which tables are missing, because a
	// migration was stopped.
	LabIncomplete = "incomplete"
)

// Status tells what is there.
type Status struct {
	Server string `json:"server"`
	// Schema is the version of our own tables, 0 if there are none.
	Schema int64 `json:"schema"`
	// Wanted is the version this binary needs.
	Wanted int64 `json:"wanted"`
	// Lab says who created the lab's tables: "ours", "autotest" or "none"; it is
	// "incomplete" if we began to create or to drop them.
	Lab   string `json:"lab"`
	Guard bool   `json:"guard"`
}

// ReadStatus reads what is there. It writes nothing.
func ReadStatus(ctx context.Context, db *sqldb.DB) (Status, error) {
	st := Status{Server: db.Server(), Wanted: SchemaVersion}
	var err error
	if st.Schema, _, err = own.recorded(ctx, db); err != nil {
		return st, err
	}
	if st.Lab, _, err = readLab(ctx, db); err != nil {
		return st, err
	}
	st.Guard, err = HasGuard(ctx, db)
	return st, err
}

// LabIsOurs tells whether hostsched made the tables of the lab.
func LabIsOurs(ctx context.Context, db *sqldb.DB) (bool, error) {
	state, _, err := readLab(ctx, db)
	return state == LabOurs, err
}

// labMark is the comment of the lab's tables that we create on MySQL and
// MariaDB. SQLite needs none: there a file creates all of them or none.
const labMark = "made by hostsched"

// readLab tells who created the tables of the lab, and names those strangers
// that would be taken for ours. The table that records the lab's versions is the
// first that a migration creates and the last that it drops, so it is there as
// long as any table of ours is.
func readLab(ctx context.Context, db *sqldb.DB) (state string, strangers []string, err error) {
	version, begun, err := lab.recorded(ctx, db)
	if err != nil {
		return "", nil, err
	}
	// The lab's tables came all with the first version.
	tables, err := lab.tables(db.Dialect, max(version, 1))
	if err != nil {
		return "", nil, err
	}
	there, err := tablesThere(ctx, db, tables)
	if err != nil {
		return "", nil, err
	}
	for name, comment := range there {
		if !begun || comment != labMark {
			strangers = append(strangers, name)
		}
	}
	slices.Sort(strangers)
	switch {
	case !begun && slices.Contains(strangers, "afe_hosts"):
		return LabAutotest, nil, nil
	case !begun:
		return LabNone, strangers, nil
	case version == 0:
		return LabIncomplete, strangers, nil
	case len(there) < len(tables):
		return LabIncomplete, nil, nil
	}
	return LabOurs, nil, nil
}

// refuseStrangers refuses tables that have the names of the lab's but were
// created by somebody else, before anything is written.
func refuseStrangers(ctx context.Context, db *sqldb.DB) error {
	state, strangers, err := readLab(ctx, db)
	if err != nil || len(strangers) == 0 {
		return err
	}
	names := strings.Join(strangers, ", ")
	if state == LabNone {
		return fmt.Errorf("%w: %s has tables with names of Autotest's, but no afe_hosts: %s; nothing was changed; rename or drop them, or complete Autotest's tables, then try again", sqldb.ErrSchema, db.Target(), names)
	}
	return fmt.Errorf("%w: the lab that hostsched began to create in %s has tables that it did not mark as its own: %s; nothing was changed; rename or drop them, then try again; if an older hostsched began the lab, which has no rows then, create the database anew", sqldb.ErrSchema, db.Target(), names)
}

// tablesThere finds which of the tables exist, with their comments.
func tablesThere(ctx context.Context, db *sqldb.DB, names []string) (map[string]string, error) {
	query := "SELECT TABLE_NAME, TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()"
	if db.Dialect.Server == sqldb.ServerSQLite {
		query = "SELECT name, '' FROM sqlite_master WHERE type IN ('table', 'view')"
	}
	there := make(map[string]string)
	err := sqldb.EachRow(ctx, db.Pool, query, nil, func(scan sqldb.Scanner) error {
		var name, comment string
		err := scan(&name, &comment)
		if slices.Contains(names, name) {
			there[name] = comment
		}
		return err
	})
	return there, sqldb.Explain(err, "look for tables", db.Target())
}
