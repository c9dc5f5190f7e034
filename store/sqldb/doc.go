// Package sqldb is what package store needs of a database, without a table: it
// opens connections with everything set that decides how a statement acts
// (open.go, dsn.go), knows what differs between MySQL, MariaDB and SQLite
// (dialect.go, identity.go), tells errors apart and explains them in one line
// (sqlerrors.go), reads many rows without conversions (rows.go, decode.go), and
// has the pieces that statements are written of (sqltext.go).
//
// Statements are written by hand, one text for all servers wherever possible.
package sqldb
