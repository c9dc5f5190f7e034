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
