package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// ExecAll runs statements one after the other in one round trip, until the first error, and
// returns how many rows each of them affected. The arguments are those of all of them. What
// was done before an error is there until the caller rolls back. The connection is one of
// Leaders, on MySQL or MariaDB.
func ExecAll(ctx context.Context, conn *sql.Conn, statements []string, args []any) (affected []int64, err error) {
	values := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		value, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return nil, err
		}
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: value}
	}
	err = conn.Raw(func(made any) (err error) {
		affected, err = driverExecAll(ctx, made, strings.Join(statements, "; "), values)
		return err
	})
	if err == nil && len(affected) != len(statements) {
		err = fmt.Errorf("%w: it answered %d of %d statements that were sent together", ErrServer, len(affected), len(statements))
	}
	return affected, err
}

func driverExecAll(ctx context.Context, conn any, text string, args []driver.NamedValue) ([]int64, error) {
	execer, ok := conn.(driver.ExecerContext)
	if !ok {
		return nil, fmt.Errorf("the database driver %T cannot run a statement in one step", conn)
	}
	res, err := execer.ExecContext(ctx, text, args)
	if err != nil {
		return nil, err
	}
	all, ok := res.(mysql.Result)
	if !ok {
		return nil, fmt.Errorf("the database driver %T does not count the rows of several statements", conn)
	}
	return all.AllRowsAffected(), nil
}
