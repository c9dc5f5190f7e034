// Package schema creates, changes, checks and removes hostsched's tables.
//
// There are two sets of migrations, each with a table in which goose records the
// versions: own (hostsched_schema) are hostsched's tables, which every database
// gets, and lab (hostsched_lab_schema) are Autotest's tables, which only a
// database without Autotest gets. Beside them is the guard, a unique index over
// the active entries of a host. copy.go and copy_table.go copy a lab into another database.
//
// # How to add a migration
//
//  1. Write own/0000N_WHAT.sql in both dialects: sqlite/ is for SQLite, and mysql/
//     is for MySQL and MariaDB alike. N is one more than the last; a version is
//     the number in its file's name.
//  2. In version.go raise SchemaVersion to N, and the pattern of the files to
//     embed. (00006_next.sql moves up by one: it stands for the version after
//     the last in the test of rolling upgrades, see version_next.go.)
//  3. Name new columns in check.go if replicas use them, and tell in hostsched_facts
//     (UPDATE ... WHERE name = 'oldest') the lowest version whose binaries can
//     continue with the changed tables. Replicas of the version before do continue
//     during a rolling upgrade.
//  4. Run the tests of this package on all servers: 'go test ./store/schema' and
//     'HOSTSCHED_TEST_DATABASE=mysql go test ./store/schema'.
//
// # Rules for statements
//
// A migrator may be killed at any time, also between a statement and the record of
// its version. The next one runs the whole file again, and the result must be that
// of a single run. TestUpStoppedAnywhere and TestDownStoppedAnywhere break the
// connection after every statement there is and compare all columns and keys; so
// a new file needs no test of its own for this. What makes it come true:
//
//   - In sqlite/ a file is one transaction. SQLite has no way to add a column only
//     where it is missing, so a table is rebuilt with all its columns; see
//     00002_shards.sql, which also keeps the values of columns that are there.
//   - In mysql/ each statement commits by itself, so files begin with
//     "+goose NO TRANSACTION", and each statement is safe to repeat: CREATE TABLE
//     IF NOT EXISTS with all keys inside, an ALTER TABLE made up only where
//     information_schema says that it is needed (see 00002_shards.sql), INSERT
//     IGNORE, an UPDATE to a constant. The ALTER TABLE changes everything that
//     belongs together at once.
//   - Down parts are DROP TABLE IF EXISTS, and nothing for columns: versions are
//     only undone all together, and columns go with their tables.
//   - Write "CREATE TABLE IF NOT EXISTS name" at the beginning of a line. That is
//     how this package knows which tables should be there. A table that is missing
//     although its version is recorded makes Up run all files again.
//   - A table of the lab has the comment 'made by hostsched' in mysql/. In a lab
//     whose first migration was stopped this tells our tables from those that
//     somebody else put there since; strangers are refused by name and never
//     dropped.
//
// # What stops a migration
//
// A migration has one connection, and the lock that keeps migrators apart belongs
// to it (on SQLite it is a locked file beside the database). It waits three
// seconds for a table that others use, because everybody else who wants the table
// waits behind it meanwhile; then it gives up with [ErrInUse] and says who uses the
// table. Whatever stopped it, Up and Down continue from what is there.
package schema
