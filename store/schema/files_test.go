package schema_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestFilesOfBothDialects: each migration is written in both, and the last one
// stands for the next version.
func TestFilesOfBothDialects(t *testing.T) {
	for _, set := range []string{"lab", "own"} {
		ours, err := filepath.Glob("mysql/" + set + "/*.sql")
		require.NoError(t, err)
		require.NotEmpty(t, ours)
		for i, path := range ours {
			require.FileExists(t, filepath.Join("sqlite", set, filepath.Base(path)))
			require.Regexp(t, fmt.Sprintf("^%05d_", i+1), filepath.Base(path))
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Contains(t, string(text), "\n-- +goose NO TRANSACTION\n-- +goose Up\n", path)
		}
		if set == "own" {
			require.FileExists(t, fmt.Sprintf("mysql/own/%05d_next.sql", len(ours)))
			require.Contains(t, []int{schema.SchemaVersion, schema.SchemaVersion + 1}, len(ours), "the files and SchemaVersion")
		}
	}
}

// TestTablesAreThoseOfTheFiles: the tables that this package looks for are those
// that the files create, and those of the lab are marked as ours. None of their
// keys is lost: each names its columns once in information_schema.STATISTICS.
func TestTablesAreThoseOfTheFiles(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *sqldb.DB) {
		tables, err := schema.Tables(db)
		require.NoError(t, err)
		require.ElementsMatch(t, tableNames(t, db), append(tables, "hostsched_schema", "hostsched_lab_schema"))
		if !isSQLite(db) {
			require.Empty(t, texts(t, db, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME NOT LIKE 'hostsched%' AND TABLE_COMMENT <> 'made by hostsched'"))
			require.Equal(t, 91, storetest.Count(t, db, "SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME NOT LIKE 'hostsched%'"))
		}
	})
}
