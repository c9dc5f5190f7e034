package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/hostsched/hostsched/store/sqldb"
)

// ErrCopy is a copy that was refused: nothing was written.
var ErrCopy = errors.New("the lab cannot be copied")

// A batch of rows is one statement. More rows save little; more parameters SQLite does not
// take, and more bytes may be more than a server takes in one packet.
const (
	copyRows   = 500
	copyParams = 30_000
	copyBytes  = 1 << 20
)

// copyMark is the fact in a database that has half of a lab. No replica works with it, and
// the next copy begins anew.
const (
	copyMark   = "copy_from"
	factsTable = "hostsched_facts"
)

// CopyOptions choose how a lab is copied.
type CopyOptions struct {
	// Led copies a lab although its history says that somebody leads it.
	Led bool
	// Progress, if set, is told how many rows of a table were copied so far.
	Progress func(table string, rows int64)
}

// Copied is what Copy has copied.
type Copied struct {
	From   string        `json:"from"`
	To     string        `json:"to"`
	Tables []CopiedTable `json:"tables"`
	// Files is how many logs and files of runs lie outside of the database, in the store of
	// files (the setting runs.blobs) of the lab, from where nothing was copied.
	Files int64 `json:"files_not_copied"`
}

// CopiedTable is a table with the number of rows that both databases have.
type CopiedTable struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

// Copy copies a lab of hostsched's own into an empty database, as it is at one moment. All
// rows keep their ids, and ids that were used before are not used again. Fences are copied
// as they are, because the etcd of the lab stays the same, or is adopted: but for the
// sessions of former leaders, which are connections of the other server. A copy that was
// stopped begins anew.
func Copy(ctx context.Context, from, to *sqldb.DB, opts CopyOptions) (Copied, error) {
	out := Copied{From: from.Target(), To: to.Target(), Tables: []CopiedTable{}}
	tables, err := checkCopy(ctx, from, to)
	if err != nil {
		return out, err
	}
	if _, err := Up(ctx, to, Options{}); err != nil {
		return out, err
	}
	c, err := newCopier(ctx, from, to, opts)
	if err != nil {
		return out, err
	}
	if out.Files, err = c.filesElsewhere(ctx); err == nil {
		out.Tables, err = c.run(ctx, tables)
	}
	return out, errors.Join(err, c.close())
}

// checkCopy refuses what makes no copy, before anything is written.
func checkCopy(ctx context.Context, from, to *sqldb.DB) (tables []string, err error) {
	if from.Target() == to.Target() {
		return nil, fmt.Errorf("%w: source and target are both %s", ErrCopy, from.Target())
	}
	st, err := ReadStatus(ctx, from)
	switch {
	case err != nil:
		return nil, err
	case st.Lab == LabAutotest:
		return nil, fmt.Errorf("%w: %s is Autotest's database; only a lab that hostsched created is copied", ErrCopy, from.Target())
	case st.Lab != LabOurs || st.Schema != SchemaVersion:
		return nil, fmt.Errorf("%w: %s has schema version %d and lab tables %q; run 'hostsched migrate up' of this version there first", ErrCopy, from.Target(), st.Schema, st.Lab)
	}
	for _, m := range []set{lab, own} {
		names, err := m.tables(from.Dialect, SchemaVersion)
		if err != nil {
			return nil, err
		}
		tables = append(tables, names...)
	}
	// The facts are about the schema, which the target has by itself.
	tables = slices.DeleteFunc(tables, func(name string) bool { return name == factsTable })
	return tables, requireEmpty(ctx, to, tables)
}

// requireEmpty refuses a target that has rows, unless they are those of a copy that was
// stopped.
func requireEmpty(ctx context.Context, to *sqldb.DB, tables []string) error {
	there, err := tablesThere(ctx, to, append(tables[:len(tables):len(tables)], factsTable))
	if err != nil {
		return err
	}
	if _, marked := there[factsTable]; marked {
		stopped, err := halfCopied(ctx, to)
		if err != nil || stopped != "" {
			return err
		}
	}
	for _, table := range tables {
		if _, made := there[table]; !made {
			continue
		}
		var n int
		if err := to.Pool.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM "+table+" LIMIT 1) first_row").Scan(&n); err != nil {
			return sqldb.Explain(err, "look for rows in table "+table, to.Target())
		}
		if n > 0 {
			return fmt.Errorf("%w: %s is not empty: table %s has rows; name an empty database", ErrCopy, to.Target(), table)
		}
	}
	return nil
}

// halfCopied tells from where a copy into a database was begun that did not end, empty if
// there is none.
func halfCopied(ctx context.Context, db *sqldb.DB) (from string, err error) {
	err = db.Pool.QueryRowContext(ctx, "SELECT value FROM hostsched_facts WHERE name = '"+copyMark+"'").Scan(&from)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return from, sqldb.Explain(err, "look for a copy that was stopped", db.Target())
}

// copier copies over one connection each. The one that reads sees one state; the one that
// writes does not check foreign keys, because rows come in any order.
type copier struct {
	from, to *sqldb.DB
	opts     CopyOptions
	source   *sql.Conn
	pool     *sql.DB
}

func newCopier(ctx context.Context, from, to *sqldb.DB, opts CopyOptions) (*copier, error) {
	connector, err := to.Connector(map[string]string{"foreign_key_checks": "0"})
	if err != nil {
		return nil, err
	}
	c := &copier{from: from, to: to, opts: opts, pool: sql.OpenDB(connector)}
	c.pool.SetMaxOpenConns(1)
	if c.source, err = from.Pool.Conn(ctx); err != nil {
		return nil, errors.Join(sqldb.Explain(err, "connect", from.Target()), c.pool.Close())
	}
	begin := "START TRANSACTION WITH CONSISTENT SNAPSHOT"
	if from.Dialect.Server == sqldb.ServerSQLite {
		begin = "BEGIN"
	}
	if _, err := c.source.ExecContext(ctx, begin); err != nil {
		return nil, errors.Join(sqldb.Explain(err, "begin to read", from.Target()), c.close())
	}
	return c, nil
}

func (c *copier) close() error {
	// The connection must not go back into the pool within a transaction.
	_, err := c.source.ExecContext(context.Background(), "ROLLBACK")
	return errors.Join(err, c.source.Close(), c.pool.Close())
}

func (c *copier) run(ctx context.Context, tables []string) (out []CopiedTable, err error) {
	out = []CopiedTable{}
	if err := c.requireSound(ctx); err != nil {
		return out, err
	}
	if err := c.begin(ctx, tables); err != nil {
		return out, c.stopped(err)
	}
	for _, table := range tables {
		rows, err := c.table(ctx, table)
		if err != nil {
			return out, c.stopped(err)
		}
		out = append(out, CopiedTable{table, rows})
	}
	if err := c.finish(ctx); err != nil {
		return out, c.stopped(err)
	}
	return out, nil
}

// filesElsewhere counts the logs and files of runs of which the database knows only the place.
func (c *copier) filesElsewhere(ctx context.Context) (n int64, err error) {
	err = c.source.QueryRowContext(ctx, "SELECT COUNT(*) FROM hostsched_logs WHERE place <> ''").Scan(&n)
	return n, sqldb.Explain(err, "count logs outside of the database", c.from.Target())
}

// stopped says what to do about a copy that did not end.
func (c *copier) stopped(err error) error {
	return sqldb.Partly(fmt.Errorf("%w; what was copied so far is of no use: run 'hostsched migrate copy' again, it begins anew", err))
}

// requireSound refuses a source that somebody leads, or whose rows another server would
// not take.
func (c *copier) requireSound(ctx context.Context) error {
	var shard, holder string
	err := c.source.QueryRowContext(ctx, "SELECT shard, holder FROM hostsched_terms WHERE ended = 0 ORDER BY id LIMIT 1").Scan(&shard, &holder)
	switch {
	case err == nil && !c.opts.Led:
		return fmt.Errorf("%w: by its history %s leads shard %s in %s; stop the replicas, and say --force if they are stopped", ErrCopy, holder, shard, c.from.Target())
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return sqldb.Explain(err, "look whether somebody leads", c.from.Target())
	}
	if c.from.Dialect.Server != sqldb.ServerSQLite {
		return nil
	}
	var table, parent string
	var row sql.NullInt64
	err = c.source.QueryRowContext(ctx, `SELECT "table", rowid, parent FROM pragma_foreign_key_check`).Scan(&table, &row, &parent)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return sqldb.Explain(err, "check foreign keys", c.from.Target())
	}
	return fmt.Errorf("%w: row %d of table %s in %s names a row of %s that does not exist; delete or correct it first", ErrCopy, row.Int64, table, c.from.Target(), parent)
}

// begin marks the target and empties what a copy that was stopped left there.
func (c *copier) begin(ctx context.Context, tables []string) error {
	source := []rune(c.from.Target())
	mark := c.to.Dialect.InsertIgnore + " hostsched_facts (name, value) VALUES ('" + copyMark + "', ?)"
	if _, err := c.pool.ExecContext(ctx, mark, string(source[:min(len(source), 190)])); err != nil {
		return sqldb.Explain(err, "mark the target", c.to.Target())
	}
	for _, table := range tables {
		if _, err := c.pool.ExecContext(ctx, "DELETE FROM "+table); err != nil {
			return sqldb.Explain(err, "empty table "+table, c.to.Target())
		}
	}
	return nil
}

// finish mends what must differ, and takes the mark away.
func (c *copier) finish(ctx context.Context) error {
	for _, text := range []string{
		"UPDATE hostsched_fence SET session_id = 0, session_peer = ''",
		"DELETE FROM hostsched_facts WHERE name = '" + copyMark + "'",
	} {
		if _, err := c.pool.ExecContext(ctx, text); err != nil {
			return sqldb.Explain(err, "finish the copy", c.to.Target())
		}
	}
	return nil
}
