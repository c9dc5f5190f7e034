package store_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// spellings are names of which some databases take some for the same.
var spellings = []string{"alice", "ALICE", "alice ", "alic\u00e9", "ali\u00e7e", "\u0430lice", "\u212aim", "kim", "stra\u00dfe", "strasse", "", "alice\x00", "alice'\\"}

// collations are those of a table on a server, "" for the one that the migration gave it.
func collations(db *store.DB) []string {
	if db.Dialect.Server == sqldb.ServerSQLite {
		return []string{""}
	}
	all := []string{"", "utf8mb4 COLLATE utf8mb4_general_ci", "utf8mb4 COLLATE utf8mb4_unicode_ci", "utf8mb4 COLLATE utf8mb4_bin", "latin1 COLLATE latin1_swedish_ci"}
	if db.Dialect.Server == sqldb.ServerMySQL {
		all = append(all, "utf8mb4 COLLATE utf8mb4_0900_as_cs")
	}
	return all
}

// convert gives a table a collation.
func convert(t *testing.T, db *store.DB, table, collation string) {
	t.Helper()
	if collation != "" {
		storetest.Exec(t, db, "ALTER TABLE "+table+" CONVERT TO CHARACTER SET "+collation)
	}
}

// rowNamed is the row that a statement of another client finds by a name, 0 for none. Servers
// refuse to look for what the character set of the column lacks.
func rowNamed(db *store.DB, table, column, name string) int64 {
	var id int64
	if err := db.SQL().QueryRow("SELECT MIN(id) FROM "+table+" WHERE "+column+" = ?", name).Scan(&id); err != nil {
		return 0
	}
	return id
}

// TestOwnersAreWhoTheDatabaseSays: a job is the user's whose login the database takes for its
// owner, and the plan gives it the hosts of that user.
func TestOwnersAreWhoTheDatabaseSays(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		snapshots := db.Snapshots(storetest.WholeLab)
		read := func() *scheduler.Snapshot {
			s, _, err := snapshots.Next(t.Context())
			require.NoError(t, err)
			return s
		}
		var jobs []scheduler.JobID
		for _, job := range read().Jobs[:len(spellings)] {
			storetest.Exec(t, db, "UPDATE afe_jobs SET owner = ? WHERE id = ?", spellings[len(jobs)], int64(job.ID))
			jobs = append(jobs, job.ID)
		}
		users := func(s *scheduler.Snapshot) (of []scheduler.UserID) {
			for i, id := range jobs {
				at := slices.IndexFunc(s.Jobs, func(j scheduler.Job) bool { return j.ID == id })
				require.Equal(t, spellings[i], s.Jobs[at].Owner)
				of = append(of, s.Jobs[at].User)
			}
			return of
		}
		for _, collation := range collations(db) {
			convert(t, db, "afe_users", collation)
			snapshots = db.Snapshots(storetest.WholeLab)
			before := read()
			var want []scheduler.UserID
			for _, owner := range spellings {
				want = append(want, scheduler.UserID(rowNamed(db, "afe_users", "login", owner)))
			}
			require.Equal(t, want, users(before), collation)
			require.Equal(t, before.Jobs[0].User != 0, !unknownOwner(before, jobs[0]), collation)

			// Nothing but the users table changes: who owns a job follows.
			storetest.Exec(t, db, "UPDATE afe_users SET login = 'somebody' WHERE login = 'alice'")
			require.Zero(t, users(read())[0], collation)
			storetest.Exec(t, db, "UPDATE afe_users SET login = 'alice' WHERE login = 'somebody'")
			require.Equal(t, want, users(read()), collation)
			storetest.Exec(t, db, "INSERT INTO afe_users (login, reboot_before, reboot_after) VALUES ('kim', 0, 0)")
			require.NotZero(t, users(read())[slices.Index(spellings, "kim")], collation)
			storetest.Exec(t, db, "DELETE FROM afe_users WHERE login = 'kim'")
			require.Equal(t, want, users(read()), collation)
		}
	})
}

// unknownOwner tells whether the plan says that the owner of a job is no user.
func unknownOwner(s *scheduler.Snapshot, job scheduler.JobID) bool {
	return slices.ContainsFunc(scheduler.MakePlan(s).Waiting, func(w scheduler.Waiting) bool {
		return w.Job == job && w.Reason.Code == scheduler.UnknownOwner
	})
}

// TestReplacedLabelsAreWhatTheDatabaseSays: a replaced label counts as the static label of
// which the database says that it has the same name.
func TestReplacedLabelsAreWhatTheDatabaseSays(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		scope := storetest.WholeLab
		scope.Rules.RespectStaticLabels = true
		for i, name := range []string{"ALICE", "kim", "strasse"} {
			storetest.Exec(t, db, "INSERT INTO afe_static_labels (id, name, invalid, only_if_needed, platform) VALUES (?, ?, 0, 0, 0)", 500+i, name)
		}
		first, err := db.Snapshot(t.Context(), scope)
		require.NoError(t, err)
		var labels []scheduler.LabelID
		for _, l := range first.Labels {
			labels = append(labels, l.ID)
		}
		labels = labels[:min(len(labels), len(spellings))]
		for _, l := range labels {
			storetest.Exec(t, db, "INSERT INTO afe_replaced_labels (label_id) VALUES (?)", int64(l))
		}
		for _, collation := range collations(db) {
			convert(t, db, "afe_static_labels", collation)
			for i, l := range labels {
				// One after the other, because some are the same as far as afe_labels goes.
				storetest.Exec(t, db, "UPDATE afe_labels SET name = ? WHERE id = ?", spellings[i], int64(l))
				s, err := db.Snapshot(t.Context(), scope)
				require.NoError(t, err)
				want := rowNamed(db, "afe_static_labels", "name", spellings[i])
				require.Contains(t, s.ReplacedLabels, scheduler.ReplacedLabel{ID: l, Static: scheduler.LabelID(want)}, "%q under %s", spellings[i], collation)
				storetest.Exec(t, db, "UPDATE afe_labels SET name = ? WHERE id = ?", "former-"+spellings[i]+string(rune('a'+i)), int64(l))
			}
		}
	})
}
