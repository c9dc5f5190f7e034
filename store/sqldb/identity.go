package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// serverIdentity are the variables that together tell one server from another.
// Each server has those that it knows: MySQL has an id of its own, and so have
// later versions of MariaDB; of others the machine, the port and the data folder
// are known.
const serverIdentity = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid', 'hostname', 'port', 'socket', 'datadir')"

// serverState are those of serverIdentity, and what else must be asked again when
// it changes.
const serverState = unbounded + "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid', 'server_id', 'hostname', 'port', 'socket', 'datadir', " +
	"'version', 'read_only', 'super_read_only', 'innodb_read_only', 'time_zone', 'system_time_zone')"

// stateOfWrites is what decides whether the server takes our changes.
const stateOfWrites = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'super_read_only', 'innodb_read_only', 'log_bin', 'binlog_format')"

// CheckWrites refuses a server that must not or cannot take our changes, before
// anything is written. A server that says that it is read-only may be the standby of
// another, so it is not written to even by a user who could do so.
func (db *DB) CheckWrites(ctx context.Context, q Querier) error {
	if db.target.mysql == nil {
		return nil
	}
	state := map[string]string{}
	err := EachRow(ctx, q, stateOfWrites, nil, func(scan Scanner) error {
		var name, value string
		err := scan(&name, &value)
		state[strings.ToLower(name)] = strings.ToUpper(value)
		return err
	})
	if err != nil {
		return Explain(err, "ask whether the server can be written to", db.target.name)
	}
	for _, name := range []string{"read_only", "super_read_only", "innodb_read_only"} {
		if value := state[name]; value != "" && value != "OFF" && value != "0" {
			return fmt.Errorf("%w: %s is read-only (%s is %s); use a server that may be written to", ErrServer, db.target.name, name, value)
		}
	}
	if state["log_bin"] == "ON" && state["binlog_format"] == "STATEMENT" {
		return fmt.Errorf("%w: %s has binlog_format STATEMENT, with which it refuses our transactions; set binlog_format to ROW or MIXED", ErrServer, db.target.name)
	}
	return nil
}

// Identity returns a text that is the same for two DSNs if they lead to the same
// database, however they are written: with a name or an address, by a link or a
// path.
func (db *DB) Identity(ctx context.Context) (string, error) {
	if db.target.mysql == nil {
		return db.fileIdentity()
	}
	var schema sql.NullString
	if err := db.Pool.QueryRowContext(ctx, "SELECT DATABASE()").Scan(&schema); err != nil {
		return "", Explain(err, "ask which database this is", db.target.name)
	}
	parts := []string{"mysql"}
	err := EachRow(ctx, db.Pool, serverIdentity, nil, func(scan Scanner) error {
		var name, value string
		err := scan(&name, &value)
		parts = append(parts, name+"="+value)
		return err
	})
	return strings.Join(append(parts, "schema="+schema.String), " "), Explain(err, "ask which server this is", db.target.name)
}

// fileIdentity names the file itself, because a file has many paths.
func (db *DB) fileIdentity() (string, error) {
	info, err := os.Stat(db.target.path)
	if err != nil {
		return "", fmt.Errorf("%w: look for the file of %s: %w", ErrUnreachable, db.target.name, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("%w: the system does not tell which file %s is", ErrServer, db.target.name)
	}
	return fmt.Sprintf("sqlite file %d on device %d", st.Ino, st.Dev), nil
}
