package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// mysqlPool opens a pool of connections with session variables.
func (db *DB) mysqlPool(variables ...map[string]string) (*sql.DB, error) {
	c, err := db.mysqlConnector(variables...)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// mysqlConnector makes connections with session variables, of which the later
// win. Nothing that decides how a statement acts is left to the DSN.
func (db *DB) mysqlConnector(variables ...map[string]string) (driver.Connector, error) {
	ours := map[string]string{}
	for _, v := range variables {
		maps.Copy(ours, v)
	}
	cfg := db.target.mysql.Clone()
	if cfg.Params == nil {
		cfg.Params = make(map[string]string)
	}
	// Names of variables do not depend on case, so another spelling of one of
	// ours would act beside it.
	maps.DeleteFunc(cfg.Params, func(name, _ string) bool {
		_, set := ours[strings.ToLower(name)]
		return set
	})
	maps.Copy(cfg.Params, ours)
	// The collation only matters for texts that are compared with each other and
	// with no column. It is one that all servers have.
	if err := cfg.Apply(mysql.Charset(AnyText, AnyText+"_general_ci"), mysql.BeforeConnect(db.freshSecrets)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDSN, db.target.name, err)
	}
	// Affected rows must count rows found, or a re-check that changes nothing
	// would look like a conflict.
	cfg.ClientFoundRows = true
	// One round trip per statement.
	cfg.InterpolateParams = true
	cfg.ParseTime = false
	cfg.MultiStatements = false
	// Lost connections come back as errors; the driver need not log them, too.
	cfg.Logger = &mysql.NopLogger{}
	cfg.Timeout = orDefault(cfg.Timeout, connectTimeout)
	cfg.DialFunc = dial
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: the options do not fit together", ErrDSN, db.target.name)
	}
	return connector{c, db}, nil
}

// freshSecrets gives a new connection the password and the certificates that count now.
func (db *DB) freshSecrets(_ context.Context, cfg *mysql.Config) error {
	return errors.Join(db.freshPassword(cfg), db.freshTLS(cfg))
}

// freshTLS gives a new connection the certificates that count now.
func (db *DB) freshTLS(cfg *mysql.Config) error {
	if db.Config.TLS == nil || cfg.Net != "tcp" {
		return nil
	}
	ours, err := db.Config.TLS()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAccess, err)
	}
	// The driver has made one of what the DSN says.
	if ours = ours.Clone(); cfg.TLS != nil {
		ours.InsecureSkipVerify = cfg.TLS.InsecureSkipVerify
	}
	if ours.ServerName, _, err = net.SplitHostPort(cfg.Addr); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDSN, db.target.name, err)
	}
	cfg.TLS = ours
	return nil
}

// freshPassword gives a new connection the password that counts now: a password
// may be changed while we run.
func (db *DB) freshPassword(cfg *mysql.Config) error {
	if db.Config.Password == nil {
		return nil
	}
	password, err := db.Config.Password()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAccess, err)
	}
	if password != "" {
		cfg.Passwd = password
	}
	return nil
}

// connector makes connections that are given up when the address of the database
// leads to another server.
type connector struct {
	driver.Connector
	db *DB
}

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	link := &conn{eras: &c.db.eras, era: c.db.eras.now()}
	made, err := c.Connector.Connect(context.WithValue(ctx, dialledFor{}, link))
	if err != nil {
		if errors.Is(meanings[MysqlCode(err)].class, ErrAccess) && c.db.Config.PasswordAdvice != "" {
			err = fmt.Errorf("%w; %s", err, c.db.Config.PasswordAdvice)
		}
		return nil, err
	}
	driven, ok := made.(driverConn)
	if !ok {
		return nil, fmt.Errorf("%w: the driver's connection %T lacks methods", ErrServer, made)
	}
	link.driverConn = driven
	c.db.eras.add(link)
	return link, nil
}

// dialledFor is the key of the connection for which a socket is opened.
type dialledFor struct{}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	socket, err := d.DialContext(ctx, network, address)
	if link, ok := ctx.Value(dialledFor{}).(*conn); ok && err == nil {
		link.socket = socket
	}
	return socket, err
}
