package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// formerStatements are those of versions 2 and 3 as former binaries ran them, one
// by one and without a transaction, on every kind of server.
func formerStatements(db *sqldb.DB) []string {
	key, lane := "INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY", ", DROP PRIMARY KEY, ADD PRIMARY KEY (shard, lane)"
	if isSQLite(db) {
		key, lane = "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", ""
	}
	return []string{
		"ALTER TABLE hostsched_fence ADD COLUMN shard_id BIGINT NOT NULL DEFAULT 0",
		"ALTER TABLE hostsched_fence ADD COLUMN layout BIGINT NOT NULL DEFAULT 0",
		"ALTER TABLE hostsched_fence ADD COLUMN pause_reason VARCHAR(500) NOT NULL DEFAULT ''",
		"ALTER TABLE hostsched_fence ADD COLUMN paused_by VARCHAR(190) NOT NULL DEFAULT ''",
		"ALTER TABLE hostsched_fence ADD COLUMN paused_at BIGINT NOT NULL DEFAULT 0",
		"CREATE TABLE hostsched_shard_databases (shard_id BIGINT NOT NULL PRIMARY KEY, dsn VARCHAR(1024) NOT NULL)",
		"CREATE TABLE hostsched_released_labels (label_id BIGINT NOT NULL PRIMARY KEY, shard_id BIGINT NOT NULL)",
		"CREATE TABLE hostsched_terms (id " + key + ", shard VARCHAR(190) NOT NULL, epoch BIGINT NOT NULL, token BIGINT NOT NULL, holder VARCHAR(190) NOT NULL, began BIGINT NOT NULL, ended BIGINT NOT NULL, planned INTEGER NOT NULL, cause TEXT NOT NULL, ticks BIGINT NOT NULL, assignments BIGINT NOT NULL)",
		"CREATE INDEX hostsched_terms_shard ON hostsched_terms (shard, ended)",
		"CREATE TABLE hostsched_facts (name VARCHAR(64) NOT NULL PRIMARY KEY, value VARCHAR(190) NOT NULL)",
		"INSERT INTO hostsched_facts (name, value) VALUES ('oldest', '2')",
		"INSERT INTO hostsched_schema (version_id, is_applied) VALUES (2, 1)",
		"ALTER TABLE hostsched_fence ADD COLUMN lane INTEGER NOT NULL DEFAULT 0" + lane,
		"UPDATE hostsched_facts SET value = '3' WHERE name = 'oldest'",
	}
}

// TestUpFinishesWhatAFormerBinaryBegan: former binaries ran versions 2 and 3 as
// statements that could not be repeated. Where one was stopped, Up continues, and
// the fence keeps its rows.
func TestUpFinishesWhatAFormerBinaryBegan(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		up(t, db)
		want := columnsAndKeys(t, db)
		for k := range formerStatements(db) {
			_, err := schema.Down(t.Context(), db, schema.Options{})
			require.NoError(t, err)
			require.NoError(t, schema.UpTo(t.Context(), db, 1))
			storetest.Exec(t, db, "INSERT INTO hostsched_fence (shard, epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer) VALUES ('master', 7, 9, 'test', 'former', CURRENT_TIMESTAMP, 5, '', 0, '')")
			for _, text := range formerStatements(db)[:k+1] {
				storetest.Exec(t, db, text)
			}
			if k >= 1 {
				storetest.Exec(t, db, "UPDATE hostsched_fence SET layout = 3")
			}
			require.EqualValues(t, schema.SchemaVersion, up(t, db).Schema, k)
			require.Equal(t, want, columnsAndKeys(t, db), k)
			require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_fence WHERE epoch = 7 AND lane = 0"), k)
			if k >= 1 {
				require.Equal(t, 3, storetest.Count(t, db, "SELECT layout FROM hostsched_fence"), k)
			}
		}
	})
}

// TestUpCreatesWhatWasDropped: a table that somebody dropped by hand comes back,
// and the others keep their rows.
func TestUpCreatesWhatWasDropped(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *sqldb.DB) {
		want := columnsAndKeys(t, db)
		storetest.Exec(t, db, "INSERT INTO hostsched_fence (shard, epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer, pause_reason) VALUES ('master', 7, 9, 'test', 'former', CURRENT_TIMESTAMP, 5, '', 0, '', 'lunch')")
		storetest.Exec(t, db, "DROP TABLE hostsched_facts")
		storetest.Exec(t, db, "DROP TABLE afe_special_tasks")
		st, err := schema.ReadStatus(t.Context(), db)
		require.NoError(t, err)
		require.Equal(t, schema.LabIncomplete, st.Lab)
		require.Equal(t, schema.LabOurs, up(t, db).Lab)
		require.Equal(t, want, columnsAndKeys(t, db))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_fence WHERE pause_reason = 'lunch'"))
		require.NoError(t, schema.Check(t.Context(), db, schema.Use{Shared: true}))
	})
}

// TestStrangersInAnEmptyDatabase: a table with a name of Autotest's is named and
// refused before anything is written.
func TestStrangersInAnEmptyDatabase(t *testing.T) {
	for _, name := range []string{"afe_labels", "afe_special_tasks", "afe_static_hosts_labels", "servers"} {
		t.Run(name, func(t *testing.T) {
			storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
				db := open(t, dsn)
				storetest.Exec(t, db, "CREATE TABLE "+name+" (x INT)")
				requireRefused(t, db, name)
				storetest.Exec(t, db, "DROP TABLE "+name)
				requireEmpty(t, db)
				up(t, db)
				requireClean(t, clean(t, dsn), db)
			})
		})
	}
}

func requireRefused(t testing.TB, db *sqldb.DB, name string) {
	t.Helper()
	_, err := schema.Up(t.Context(), db, schema.Options{})
	require.ErrorIs(t, err, sqldb.ErrSchema)
	require.ErrorContains(t, err, name)
	storetest.RequireOneLine(t, err)
}

// TestStrangersInAHalfMadeLab: a table that somebody else created after Up was
// stopped is named, refused and never dropped.
func TestStrangersInAHalfMadeLab(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		_, err := schema.Up(t.Context(), db, after(4))
		require.ErrorIs(t, err, errBroken)
		require.ErrorContains(t, err, fmt.Sprintf("still to be done: the lab's tables, hostsched's tables from version 0 to %d, the guard", schema.SchemaVersion))
		storetest.RequireOneLine(t, err)
		storetest.Exec(t, db, "CREATE TABLE afe_special_tasks (x INT)")
		st, err := schema.ReadStatus(t.Context(), db)
		require.NoError(t, err)
		require.Equal(t, schema.LabIncomplete, st.Lab)

		requireRefused(t, db, "its own: afe_special_tasks;")
		_, err = schema.Down(t.Context(), db, schema.Options{Lab: true})
		require.ErrorContains(t, err, "its own: afe_special_tasks;")
		storetest.Exec(t, db, "DROP TABLE afe_special_tasks")
		up(t, db)
		requireClean(t, clean(t, dsn), db)
	})
}

// TestUpWithoutIndexPrivilege: CREATE and ALTER are enough.
func TestUpWithoutIndexPrivilege(t *testing.T) {
	dsn := testserver.Database(t)
	db := open(t, testserver.User(t, dsn, "poor", "sesame", "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, REFERENCES"))
	up(t, db)
	requireClean(t, clean(t, dsn), open(t, dsn))
	_, err := schema.Down(t.Context(), db, schema.Options{Lab: true})
	require.NoError(t, err)
	requireEmpty(t, open(t, dsn))
}

// TestUpAfterAGrant: what a missing privilege stopped continues once it is there.
func TestUpAfterAGrant(t *testing.T) {
	dsn := testserver.Database(t)
	db := open(t, testserver.User(t, dsn, "poorer", "sesame", "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES"))
	_, err := schema.Up(t.Context(), db, schema.Options{})
	require.ErrorIs(t, err, sqldb.ErrPrivilege)
	require.ErrorContains(t, err, "00002_shards.sql")
	require.ErrorContains(t, err, fmt.Sprintf("still to be done: hostsched's tables from version 1 to %d, the guard", schema.SchemaVersion))
	storetest.RequireOneLine(t, err)
	_, err = testserver.Shared(t).Admin().Exec("GRANT ALTER ON " + db.Database() + ".* TO poorer@127.0.0.1")
	require.NoError(t, err)
	again := open(t, testserver.Shared(t).DSN(db.Database(), "poorer", "sesame"))
	up(t, again)
	requireClean(t, clean(t, dsn), open(t, dsn))
}

// TestLongDatabaseName: the name of the migrators' lock has the database's name in it,
// and MySQL refuses names of locks with more than 64 characters.
func TestLongDatabaseName(t *testing.T) {
	server := testserver.Shared(t)
	for _, name := range []string{strings.Repeat("n", 60), strings.Repeat("ä", 60)} {
		dsn, err := server.Create("`" + name + "`")
		require.NoError(t, err)
		t.Cleanup(func() {
			_, err := server.Admin().Exec("DROP DATABASE `" + name + "`")
			require.NoError(t, err)
		})
		db := open(t, strings.ReplaceAll(dsn, "`", ""))
		require.Equal(t, name, db.Database())
		up(t, db)
		requireClean(t, clean(t, dsn), db)
	}
}

// TestServerSettings: what the server does by default makes no difference.
func TestServerSettings(t *testing.T) {
	for name, value := range map[string]string{"innodb_default_row_format": "compact", "autocommit": "0"} {
		t.Run(name, func(t *testing.T) {
			want := clean(t, testserver.Database(t))
			admin := testserver.Shared(t).Admin()
			var before string
			require.NoError(t, admin.QueryRow("SELECT @@GLOBAL."+name).Scan(&before))
			_, err := admin.Exec("SET GLOBAL " + name + " = " + value)
			require.NoError(t, err)
			t.Cleanup(func() {
				_, err := admin.Exec("SET GLOBAL " + name + " = " + before)
				require.NoError(t, err)
			})
			db := open(t, testserver.Database(t))
			up(t, db)
			requireClean(t, want, db)
			requireLasts(t, db)
		})
	}
}

// TestAutocommitInTheDSN: nobody can turn it off.
func TestAutocommitInTheDSN(t *testing.T) {
	dsn := testserver.Database(t)
	db := open(t, dsn+"?autocommit=0")
	up(t, db)
	requireClean(t, clean(t, dsn), open(t, dsn))
	requireLasts(t, db)
}

// requireLasts: other sessions see what was written outside a transaction.
func requireLasts(t *testing.T, db *sqldb.DB) {
	t.Helper()
	storetest.Exec(t, db, "INSERT INTO hostsched_audit (at, who, action, subject, detail) VALUES (CURRENT_TIMESTAMP, 'me', 'server add', 'x', '')")
	var n int
	err := testserver.Shared(t).Admin().QueryRow(fmt.Sprintf("SELECT COUNT(*) FROM %s.hostsched_audit", db.Database())).Scan(&n)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
