package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestHangupReadsTheConfigurationAgain changes a setting that takes effect at once
// and one that does not, makes a mistake, and mends it.
func TestHangupReadsTheConfigurationAgain(t *testing.T) {
	dsn := storetest.SQLiteFile(t)
	storetest.NewLab(t, dsn)
	file := filepath.Join(t.TempDir(), "hostsched.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("placement: {weight: 1}\n")
	s := newReplica(t, dsn, "--config", file)
	s.start(t)
	s.leadsWithin(t, patience)
	says := func(text string) {
		t.Helper()
		s.signal(t, syscall.SIGHUP)
		require.Eventually(t, func() bool { return strings.Contains(s.log(t), text) }, patience, 10*time.Millisecond, "the log says %q", text)
	}
	write("placement: {weight: 3}\n")
	says("placement.weight")
	write("placement: {wait: 3}\n")
	says("the configuration was not read again")
	s.leadsWithin(t, patience)
	s.signal(t, syscall.SIGTERM)
	require.Zero(t, s.exits(t, patience))
}

// TestHangupChangesTheLevelOfTheLog: of all parts of the replica.
func TestHangupChangesTheLevelOfTheLog(t *testing.T) {
	dsn := storetest.SQLiteFile(t)
	db := storetest.NewLab(t, dsn)
	file := filepath.Join(t.TempDir(), "hostsched.yaml")
	write := func(level string) {
		require.NoError(t, os.WriteFile(file, []byte("log: {level: "+level+"}\n"), 0o600))
	}
	write("error")
	s := newReplica(t, dsn, "--config", file)
	s.start(t)
	s.leadsWithin(t, patience)
	require.NotContains(t, s.log(t), "[INFO]")
	write("debug")
	require.Eventually(t, func() bool {
		s.signal(t, syscall.SIGHUP)
		return strings.Contains(s.log(t), "the configuration was read again")
	}, patience, 50*time.Millisecond)
	_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 40, Boards: 2, Suites: 4, Entries: 50})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(s.log(t), "[DEBUG]") && strings.Contains(s.log(t), "assigned=") }, patience, 10*time.Millisecond, "ticks are in the log")
}

// TestPasswordIsChanged changes the password of the database's user while a replica
// leads, and ends its connections.
func TestPasswordIsChanged(t *testing.T) {
	dsn := testserver.Database(t)
	storetest.NewLab(t, dsn)
	user := testserver.User(t, dsn, "rotated", "sesame-one", "ALL")
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("sesame-one\n"), 0o600))
	s := newReplica(t, strings.Replace(user, ":sesame-one@", "@", 1), "--database-password-file", file)
	s.start(t)
	s.leadsWithin(t, patience)

	root := asRoot{testserver.Shared(t)}
	storetest.Exec(t, root, "ALTER USER 'rotated'@'127.0.0.1' IDENTIFIED BY 'sesame-two'")
	for _, id := range sessionsOf(t, root, "rotated") {
		_, _ = root.SQL().Exec(fmt.Sprintf("KILL %d", id)) // it may have ended
	}
	require.Eventually(t, func() bool { return strings.Contains(s.log(t), "Access denied") }, patience, 10*time.Millisecond)
	require.NoError(t, os.WriteFile(file, []byte("sesame-two\n"), 0o600))
	st := s.mustStatus(t)
	require.Eventually(t, func() bool {
		now, ok := s.status()
		return ok && now.Ticks > st.Ticks
	}, backWithin, 10*time.Millisecond, "ticks with the new password")
	require.NotContains(t, s.log(t), "sesame")
}

// sessionsOf lists a user's connections.
func sessionsOf(t *testing.T, root asRoot, user string) (ids []int64) {
	t.Helper()
	require.NoError(t, sqldb.EachRow(t.Context(), root.SQL(), "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = ?", []any{user}, func(scan sqldb.Scanner) error {
		var id int64
		err := scan(&id)
		ids = append(ids, id)
		return err
	}))
	return ids
}
