package schema_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

func TestWrongSchemaVersion(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *sqldb.DB) {
		_, err := db.Pool.Exec("INSERT INTO hostsched_schema (version_id, is_applied) VALUES (99, 1)")
		require.NoError(t, err)
		for _, err := range []error{schema.Check(t.Context(), db, schema.Use{Shared: true}), migrateError(db)} {
			require.ErrorIs(t, err, sqldb.ErrSchema)
			require.ErrorContains(t, err, "99")
			storetest.RequireOneLine(t, err)
		}
		_, err = db.Pool.Exec("DELETE FROM hostsched_schema WHERE version_id > 0")
		require.NoError(t, err)
		require.ErrorIs(t, schema.Check(t.Context(), db, schema.Use{Shared: true}), sqldb.ErrSchema)
	})
}

func migrateError(db *sqldb.DB) error {
	_, err := schema.Up(context.Background(), db, schema.Options{})
	return err
}

func TestMissingTableAndColumn(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *sqldb.DB) {
		_, err := db.Pool.Exec("ALTER TABLE afe_special_tasks RENAME COLUMN requested_by_id TO asked_by")
		require.NoError(t, err)
		err = schema.Check(t.Context(), db, schema.Use{Shared: true})
		require.ErrorIs(t, err, sqldb.ErrSchema)
		require.ErrorContains(t, err, "afe_special_tasks")
		storetest.RequireOneLine(t, err)
		_, err = db.Pool.Exec("DROP TABLE afe_special_tasks")
		require.NoError(t, err)
		err = schema.Check(t.Context(), db, schema.Use{Shared: true})
		require.ErrorIs(t, err, sqldb.ErrSchema)
		require.ErrorContains(t, err, "afe_special_tasks")
	})
}

func TestMissingPrivilege(t *testing.T) {
	dsn := testserver.Database(t)
	up(t, open(t, dsn))
	reader := open(t, testserver.User(t, dsn, "reader", "sesame", "SELECT"))
	err := schema.Check(t.Context(), reader, schema.Use{Shared: true})
	require.ErrorIs(t, err, sqldb.ErrPrivilege)
	require.ErrorContains(t, err, "update table afe_hosts")
	storetest.RequireOneLine(t, err)
}

// unbound makes a lab whose tables can change their engine: without foreign keys
// and guard.
func unbound(t *testing.T) *sqldb.DB {
	t.Helper()
	db := storetest.NewServerLab(t).DB
	require.NoError(t, schema.RemoveGuard(t.Context(), db))
	var drops []string
	require.NoError(t, sqldb.EachRow(t.Context(), db.Pool, "SELECT TABLE_NAME, CONSTRAINT_NAME FROM information_schema.TABLE_CONSTRAINTS WHERE TABLE_SCHEMA = DATABASE() AND CONSTRAINT_TYPE = 'FOREIGN KEY'", nil, func(scan sqldb.Scanner) error {
		var table, key string
		err := scan(&table, &key)
		drops = append(drops, "ALTER TABLE "+table+" DROP FOREIGN KEY "+key)
		return err
	}))
	for _, text := range drops {
		_, err := db.Pool.Exec(text)
		require.NoError(t, err, text)
	}
	return db
}

func TestEnginesWithoutTransactions(t *testing.T) {
	db := unbound(t)
	require.NoError(t, schema.Check(t.Context(), db, schema.Use{Shared: true}))
	for _, table := range []string{
		"afe_hosts", "afe_host_queue_entries", "afe_ineligible_host_queues", "afe_special_tasks", "afe_shards", "afe_shards_labels",
		"hostsched_fence", "hostsched_terms", "hostsched_audit", "hostsched_released_labels", "hostsched_shard_databases", "hostsched_facts",
	} {
		// The keys of MyISAM are shorter, so letters must be, too.
		_, err := db.Pool.Exec("ALTER TABLE " + table + " CONVERT TO CHARACTER SET latin1, ENGINE=MyISAM")
		require.NoError(t, err)
		for _, err := range []error{schema.Check(t.Context(), db, schema.Use{}), migrateError(db)} {
			require.ErrorIs(t, err, sqldb.ErrServer)
			require.ErrorContains(t, err, table+" is MyISAM; InnoDB is needed")
			storetest.RequireOneLine(t, err)
		}
		_, err = db.Pool.Exec("ALTER TABLE " + table + " ENGINE=InnoDB")
		require.NoError(t, err)
	}
	_, err := db.Pool.Exec("ALTER TABLE afe_users CONVERT TO CHARACTER SET latin1, ENGINE=MyISAM")
	require.NoError(t, err)
	require.NoError(t, schema.Check(t.Context(), db, schema.Use{Shared: true}), "a table that is only read")
}
