package schema_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// breaker is a connector whose connection ends after some statements that change
// something. What the last one did stays, but nobody hears of it.
type breaker struct {
	driver.Connector
	left  int
	atEnd func()
}

var errBroken = errors.New("the test broke the connection")

// after makes a migration break after so many statements.
func after(statements int) schema.Options {
	return withBreaker(schema.Options{}, &breaker{left: statements})
}

func withBreaker(opts schema.Options, b *breaker) schema.Options {
	return opts.Through(func(c driver.Connector) driver.Connector {
		b.Connector = c
		return b
	})
}

func (b *breaker) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := b.Connector.Connect(ctx)
	return &breakingConn{Conn: conn, breaker: b}, err
}

type breakingConn struct {
	driver.Conn
	*breaker
	broken bool
}

// begin refuses a statement if none is left.
func (c *breakingConn) begin() error {
	if c.left > 0 {
		return nil
	}
	c.end()
	return errBroken
}

// done counts a statement that was run.
func (c *breakingConn) done(err error) error {
	if err != nil {
		return err
	}
	if c.left--; c.left == 0 {
		c.end()
		return errBroken
	}
	return nil
}

func (c *breakingConn) end() {
	if c.atEnd != nil {
		c.atEnd()
	}
	if !c.broken {
		c.broken = true
		_ = c.Conn.Close() // it is only about ending it
	}
}

func (c *breakingConn) Close() error {
	if c.broken {
		return nil
	}
	return c.Conn.Close()
}

func (c *breakingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	res, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	return res, c.done(err)
}

func (c *breakingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.broken {
		return nil, errBroken
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *breakingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if c.broken {
		return nil, errBroken
	}
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	return &breakingTx{Tx: tx, conn: c}, err
}

func (c *breakingConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type breakingTx struct {
	driver.Tx
	conn *breakingConn
}

func (tx *breakingTx) Commit() error {
	if err := tx.conn.begin(); err != nil {
		return err
	}
	return tx.conn.done(tx.Tx.Commit())
}

func (tx *breakingTx) Rollback() error {
	if tx.conn.broken {
		return nil
	}
	return tx.Tx.Rollback()
}

// TestUpStoppedAnywhere stops Up after every statement. The next Up continues from
// there; sometimes it is Down that does.
func TestUpStoppedAnywhere(t *testing.T) {
	t.Parallel()
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		want := clean(t, dsn)
		db := open(t, dsn)
		lab := stopUp(t, db, want, true)
		own := stopUp(t, db, want, false)
		t.Logf("stopped in %d and %d places", lab, own)
		require.Greater(t, lab+own, 10)
	})
}

// stopUp stops Up in all places until the lab's tables are there or, without lab,
// from there on until nothing is left to be done.
func stopUp(t testing.TB, db *sqldb.DB, want string, lab bool) (places int) {
	t.Helper()
	for k := 0; ; k++ {
		_, err := schema.Up(t.Context(), db, after(k))
		if err == nil {
			return k
		}
		require.ErrorIs(t, err, errBroken, k)
		st, err := schema.ReadStatus(t.Context(), db)
		require.NoError(t, err)
		require.NotEqual(t, schema.LabAutotest, st.Lab, k)
		labDone := lab && st.Lab == schema.LabOurs
		if st.Lab == schema.LabNone || labDone || k%4 > 0 {
			up(t, db)
			requireClean(t, want, db, k)
		}
		require.NoError(t, down(t, db, schema.Options{Lab: lab && !labDone}), k)
		if labDone {
			return k
		}
		if lab {
			requireEmpty(t, db, k)
		}
	}
}

func down(t testing.TB, db *sqldb.DB, opts schema.Options) error {
	t.Helper()
	_, err := schema.Down(t.Context(), db, opts)
	return err
}

// TestDownStoppedAnywhere stops Down after every statement. The next Down continues
// from there; sometimes it is Up, which creates again what is gone.
func TestDownStoppedAnywhere(t *testing.T) {
	t.Parallel()
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		up(t, db)
		want := picture(t, db)
		own := stopDown(t, db, want, schema.Options{})
		require.NoError(t, down(t, db, schema.Options{}))
		lab := stopDown(t, db, want, schema.Options{Lab: true})
		requireEmpty(t, db)
		require.Greater(t, own, 5)
		require.Greater(t, lab, 20)
	})
}

// stopDown stops Down in all places until nothing is left to be dropped. With the
// lab it only stops after hostsched's own tables are gone.
func stopDown(t testing.TB, db *sqldb.DB, want string, opts schema.Options) (places int) {
	t.Helper()
	for k := 0; ; k++ {
		err := down(t, db, withBreaker(opts, &breaker{left: k}))
		if err == nil {
			return k
		}
		require.ErrorIs(t, err, errBroken, k)
		st, err := schema.ReadStatus(t.Context(), db)
		require.NoError(t, err)
		require.NotEqual(t, schema.LabAutotest, st.Lab, k)
		if st.Lab == schema.LabNone { // only the answer to the last statement was lost
			return k
		}
		if k%4 > 0 {
			require.NoError(t, down(t, db, opts), k)
			st, err = schema.ReadStatus(t.Context(), db)
			require.NoError(t, err)
			require.Zero(t, st.Schema, k)
			require.Equal(t, opts.Lab, st.Lab == schema.LabNone, k)
		}
		up(t, db)
		requireClean(t, want, db, k)
		if opts.Lab {
			require.NoError(t, down(t, db, schema.Options{}))
		}
	}
}

// victimEnv and statementsEnv tell a process of this program to migrate a
// database until it kills itself after some statements.
const (
	victimEnv     = "HOSTSCHED_TEST_MIGRATE"
	statementsEnv = "HOSTSCHED_TEST_STATEMENTS"
)

func migrateUntilKilled(dsn string) int {
	statements, err := strconv.Atoi(os.Getenv(statementsEnv))
	if err == nil {
		err = migrateAndDie(dsn, statements)
	}
	fmt.Fprintln(os.Stderr, "still alive:", err)
	return 1
}

func migrateAndDie(dsn string, statements int) error {
	ctx := context.Background()
	db, err := sqldb.Open(ctx, sqldb.Config{DSN: dsn, Create: true})
	if err != nil {
		return err
	}
	die := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	_, err = schema.Up(ctx, db, withBreaker(schema.Options{}, &breaker{left: statements, atEnd: die}))
	return err
}

// victim is a process that migrates and kills itself after some statements.
func victim(dsn string, statements int) *osexec.Cmd {
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+dsn, statementsEnv+"="+strconv.Itoa(statements))
	return cmd
}

// TestUpKilled kills the process of a migrator, again and again.
func TestUpKilled(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		want := clean(t, dsn)
		for _, statements := range []int{1, 2, 5, 15, 30} {
			out, err := victim(dsn, statements).CombinedOutput()
			var ended *osexec.ExitError
			require.ErrorAs(t, err, &ended, string(out))
			require.Equal(t, syscall.SIGKILL, ended.Sys().(syscall.WaitStatus).Signal(), string(out))
		}
		db := open(t, dsn)
		up(t, db)
		requireClean(t, want, db)
	})
}

// TestUpKilledInAStatement: a server continues with the statement of a migrator that
// was killed. The next migrator waits for its end.
func TestUpKilledInAStatement(t *testing.T) {
	dsn := testserver.Database(t)
	db := open(t, dsn)
	require.NoError(t, schema.UpTo(t.Context(), db, 2))
	end := useTable(t, db, "hostsched_fence")
	cmd := victim(dsn, 1000)
	exit, err := child.Start(cmd)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return storetest.Count(t, db, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for table metadata lock' AND DB = DATABASE()") > 0
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	<-exit.Done()

	result := make(chan error)
	go func() {
		_, err := schema.Up(context.Background(), db, schema.Options{})
		result <- err
	}()
	end()
	require.NoError(t, <-result)
	requireClean(t, clean(t, dsn), db)
}
