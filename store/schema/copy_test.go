package schema_test

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// onEachPair runs a test for each pair of kinds of database, with a lab in the first one.
func onEachPair(t *testing.T, test func(t *testing.T, from, to *store.DB)) {
	t.Helper()
	for _, a := range storetest.Databases(t) {
		for _, b := range storetest.Databases(t) {
			t.Run(a.Name+" to "+b.Name, func(t *testing.T) {
				from := storetest.NewLab(t, a.DSN(t))
				fillForCopy(t, from)
				test(t, from, storetest.Open(t, b.DSN(t)))
			})
		}
	}
}

// fillForCopy makes a lab with what is easily lost on the way.
func fillForCopy(t *testing.T, db *store.DB) {
	t.Helper()
	storetest.FillShardedLab(t, db)
	for _, text := range []string{
		"UPDATE afe_hosts SET locked = 1, lock_reason = 'o''clock \\ % ? ü 漢字', lock_time = '2026-07-01 12:00:00', locked_by_id = 1 WHERE id = 7",
		"UPDATE afe_hosts SET lock_reason = '' WHERE id = 8",
		"INSERT INTO hostsched_events (id, at, kind, who) VALUES (899, 1, 'host.locked', 'eve'), (900, 2, 'host.locked', 'eve')",
		"DELETE FROM hostsched_events",
		"INSERT INTO hostsched_tokens (token_hash, login, name, created, created_by) VALUES ('ab', 'eve', 'ci', 1, 'eve')",
		"UPDATE hostsched_fence SET epoch = 7, token = 99, etcd_cluster = 'c1', session_id = 42, session_peer = 'p' WHERE shard = 'master'",
	} {
		if db.Dialect.Server != sqldb.ServerSQLite {
			text = strings.ReplaceAll(text, `\`, `\\`)
		}
		storetest.Exec(t, db, text)
	}
}

// instant is a time of a lab as seconds, which do not depend on the zone of its server.
func instant(t *testing.T, db *store.DB) int {
	return storetest.Count(t, db, "SELECT "+db.Dialect.Unix("lock_time")+" FROM afe_hosts WHERE id = 7")
}

var timeText = regexp.MustCompile(`^\d{4}-\d\d-\d\d`)

// contents are the rows of a table as texts, but for times, which are in the zone of the
// server, and what differs on purpose.
func contents(t *testing.T, db *store.DB, table string) (out []string) {
	t.Helper()
	query := "SELECT * FROM " + table
	if table == "hostsched_fence" {
		query += " WHERE lane = 0"
	}
	rows, err := db.SQL().Query(query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	names, err := rows.Columns()
	require.NoError(t, err)
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		targets := make([]any, len(names))
		for i := range values {
			targets[i] = &values[i]
		}
		require.NoError(t, rows.Scan(targets...))
		row := map[string]string{}
		for i, name := range names {
			ours := strings.HasPrefix(name, "session_") || name == "hostsched_active_host"
			if !ours && values[i].Valid && !timeText.MatchString(values[i].String) {
				row[name] = values[i].String
			}
		}
		out = append(out, fmt.Sprint(row))
	}
	require.NoError(t, rows.Err())
	slices.Sort(out)
	return out
}

func copyLab(ctx context.Context, from, to *store.DB, opts schema.CopyOptions) (schema.Copied, error) {
	return schema.Copy(ctx, from.DB, to.DB, opts)
}

func TestCopy(t *testing.T) {
	onEachPair(t, func(t *testing.T, from, to *store.DB) {
		copied, err := copyLab(t.Context(), from, to, schema.CopyOptions{})
		require.NoError(t, err)
		rows := map[string]int64{}
		for _, x := range copied.Tables {
			rows[x.Name] = x.Rows
			require.EqualValues(t, x.Rows, storetest.Count(t, to, "SELECT COUNT(*) FROM "+x.Name), x.Name)
			require.Equal(t, contents(t, from, x.Name), contents(t, to, x.Name), x.Name)
		}
		require.EqualValues(t, 60, rows["afe_hosts"])
		require.Positive(t, rows["afe_host_queue_entries"])
		require.Equal(t, instant(t, from), instant(t, to), "a time is the same moment in both zones")
		var reason string
		require.NoError(t, to.SQL().QueryRow("SELECT lock_reason FROM afe_hosts WHERE id = 7").Scan(&reason))
		require.Equal(t, `o'clock \ % ? ü 漢字`, reason)
		require.Equal(t, 1, storetest.Count(t, to, "SELECT COUNT(*) FROM afe_hosts WHERE id = 8 AND lock_reason = ''"))
		require.Equal(t, 1, storetest.Count(t, to, "SELECT COUNT(*) FROM afe_hosts WHERE id = 9 AND lock_reason IS NULL"))
		require.Equal(t, 1, storetest.Count(t, to, "SELECT COUNT(*) FROM hostsched_fence WHERE shard = 'master' AND epoch = 7 AND token = 99 AND etcd_cluster = 'c1' AND session_id = 0 AND session_peer = ''"))
		storetest.Exec(t, to, "INSERT INTO hostsched_events (at, kind, who) VALUES (3, 'host.locked', 'eve')")
		require.Equal(t, 901, storetest.Count(t, to, "SELECT MAX(id) FROM hostsched_events"), "ids of deleted rows do not come again")
		require.NoError(t, schema.Check(t.Context(), to.DB, schema.Use{Shared: true}))
		st, err := schema.ReadStatus(t.Context(), to.DB)
		require.NoError(t, err)
		require.True(t, st.Guard)

		_, err = copyLab(t.Context(), from, to, schema.CopyOptions{})
		require.ErrorIs(t, err, schema.ErrCopy, "the target is not empty now")
		_, err = copyLab(t.Context(), to, to, schema.CopyOptions{})
		require.ErrorIs(t, err, schema.ErrCopy)
	})
}

// TestCopyStoppedAnywhere: what is left is no lab that anybody works with, and the next copy
// is whole.
func TestCopyStoppedAnywhere(t *testing.T) {
	onEachPair(t, func(t *testing.T, from, to *store.DB) {
		for _, at := range []string{"afe_labels", "afe_host_queue_entries", "hostsched_tokens"} {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := copyLab(ctx, from, to, schema.CopyOptions{Progress: func(table string, _ int64) {
				if table == at {
					cancel()
				}
			}})
			cancel()
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, sqldb.ErrPartly)
			require.ErrorContains(t, err, "it begins anew")
			require.ErrorIs(t, schema.Check(t.Context(), to.DB, schema.Use{}), sqldb.ErrSchema)
		}
		copied, err := copyLab(t.Context(), from, to, schema.CopyOptions{})
		require.NoError(t, err)
		for _, x := range copied.Tables {
			require.Equal(t, contents(t, from, x.Name), contents(t, to, x.Name), x.Name)
		}
		require.NoError(t, schema.Check(t.Context(), to.DB, schema.Use{}))
	})
}

// TestCopyIsRefused: nothing is written.
func TestCopyIsRefused(t *testing.T) {
	from, to := storetest.NewLab(t, storetest.SQLiteFile(t)), storetest.Open(t, storetest.SQLiteFile(t))
	storetest.FillLab(t, from)
	empty := storetest.Open(t, storetest.SQLiteFile(t))
	_, err := copyLab(t.Context(), empty, to, schema.CopyOptions{})
	require.ErrorIs(t, err, schema.ErrCopy)
	require.ErrorContains(t, err, "migrate up")
	storetest.Exec(t, from, "INSERT INTO hostsched_terms (shard, epoch, token, holder, began, ended, planned, cause, ticks, assignments) VALUES ('master', 1, 1, 'lab-1', 1, 0, 0, '', 0, 0)")
	_, err = copyLab(t.Context(), from, to, schema.CopyOptions{})
	require.ErrorIs(t, err, schema.ErrCopy)
	require.ErrorContains(t, err, "lab-1 leads shard master")
	storetest.Exec(t, from, "INSERT INTO afe_hosts_labels (host_id, label_id) VALUES (4711, 1)")
	_, err = copyLab(t.Context(), from, to, schema.CopyOptions{Led: true})
	require.ErrorIs(t, err, schema.ErrCopy)
	require.ErrorContains(t, err, "that does not exist")
	require.Zero(t, storetest.Count(t, to, "SELECT COUNT(*) FROM afe_hosts"))
}

// TestCopyIntoAnotherZone: the server of the target keeps its times in a zone of its own.
func TestCopyIntoAnotherZone(t *testing.T) {
	server := testserver.StartAnother(t, "--default-time-zone=+05:30")
	dsn, err := server.Create("zone")
	require.NoError(t, err)
	from, to := storetest.NewLab(t, storetest.SQLiteFile(t)), storetest.Open(t, dsn)
	fillForCopy(t, from)
	_, err = copyLab(t.Context(), from, to, schema.CopyOptions{})
	require.NoError(t, err)
	require.Equal(t, instant(t, from), instant(t, to))
	back := storetest.Open(t, storetest.SQLiteFile(t))
	_, err = copyLab(t.Context(), to, back, schema.CopyOptions{})
	require.NoError(t, err)
	require.Equal(t, instant(t, from), instant(t, back))
}

// TestCopyOfALargeLab: more rows than a batch has.
func TestCopyOfALargeLab(t *testing.T) {
	from, to := storetest.NewLab(t, storetest.SQLiteFile(t)), storetest.NewLab(t, testserver.Database(t))
	var rows []string
	for i := range 12_345 {
		rows = append(rows, fmt.Sprintf("(%d, 'host.assigned', 'hostsched', '%s')", i, strings.Repeat("x", 200)))
	}
	storetest.Exec(t, from, "INSERT INTO hostsched_events (at, kind, who, reason) VALUES "+strings.Join(rows, ", "))
	copied, err := copyLab(t.Context(), from, to, schema.CopyOptions{})
	require.NoError(t, err)
	for _, x := range copied.Tables {
		if x.Name == "hostsched_events" {
			require.EqualValues(t, len(rows), x.Rows)
		}
	}
}
