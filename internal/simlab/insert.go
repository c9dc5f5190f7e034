package simlab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// Execer is a pool, a connection or a transaction.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Queryer is a pool, a connection or a transaction.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Each runs a query and hands every row to a function.
func Each(ctx context.Context, db Queryer, query string, row func(*sql.Rows) error) (err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// insertParams bounds the parameters of one INSERT; SQLite allows 32,766.
const insertParams = 8000

// Insert writes rows into a table, many per statement.
func Insert(ctx context.Context, db Execer, table, columns string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	width := len(rows[0])
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", width), ", ") + ")"
	for begin := 0; begin < len(rows); begin += insertParams / width {
		part := rows[begin:min(len(rows), begin+insertParams/width)]
		args := make([]any, 0, len(part)*width)
		for _, r := range part {
			args = append(args, r...)
		}
		text := "INSERT INTO " + table + " (" + columns + ") VALUES " + strings.TrimSuffix(strings.Repeat(row+", ", len(part)), ", ")
		if _, err := db.ExecContext(ctx, text, args...); err != nil {
			return fmt.Errorf("insert %d rows into %s: %w", len(part), table, err)
		}
	}
	return nil
}

// Column lists for rows of the AFE tables, with every column that has no
// default.
const (
	UserColumns  = "id, login, reboot_before, reboot_after"
	LabelColumns = "id, name, invalid, only_if_needed, platform"
	HostColumns  = "id, hostname, status, locked, invalid, leased, dirty, protection, shard_id"
	JobColumns   = "id, owner, name, priority, parent_job_id, synch_count, run_verify, run_reset, reboot_before, shard_id, created_on, timeout, email_list, reboot_after, max_runtime_hrs, max_runtime_mins, timeout_mins"
	EntryColumns = "id, job_id, host_id, meta_host, status, active, complete, aborted, deleted, execution_subdir"
	TaskColumns  = "host_id, task, queue_entry_id, requested_by_id, is_active, is_complete, time_requested"
)

// TimeFormat is how times are written into datetime columns.
const TimeFormat = "2006-01-02 15:04:05"

// JobTail are the values of the JobColumns after created_on.
func JobTail(createdOn string) []any { return []any{createdOn, 24, "", 0, 24, 1440, 1440} }

// Hostnames are the names of all hosts, by their ids.
func Hostnames(ctx context.Context, db Queryer) (names []string, err error) {
	err = Each(ctx, db, "SELECT hostname FROM afe_hosts ORDER BY id", func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	})
	return names, err
}

// InTx does something in one transaction, or not at all.
func InTx(ctx context.Context, db *sql.DB, work func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
