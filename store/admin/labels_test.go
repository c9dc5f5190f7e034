package admin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

var errStop = errors.New("stopped here")

// moveSteps returns the names of all steps of moving a label.
func moveSteps(t *testing.T, lab *admin.Lab) (steps []string) {
	lab.FailAtStep(func(name string) error {
		steps = append(steps, name)
		return nil
	})
	defer lab.FailAtStep(nil)
	_, err := lab.AssignLabel(t.Context(), "board:b00", "b", "me", "all steps")
	require.NoError(t, err)
	_, err = lab.AssignLabel(t.Context(), "board:b00", "a", "me", "and back")
	require.NoError(t, err)
	require.Greater(t, len(steps), 8)
	return steps[:len(steps)/2]
}

// requireMoved: the label has one owner, want, and every host of it has one;
// then the next leaders of both shards carry the move on.
func requireMoved(t *testing.T, db *store.DB, want int, token int64) {
	t.Helper()
	require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_shards_labels s JOIN afe_labels l ON l.id = s.label_id WHERE l.name = 'board:b00'"))
	require.Equal(t, want, storetest.Count(t, db, "SELECT s.shard_id FROM afe_shards_labels s JOIN afe_labels l ON l.id = s.label_id WHERE l.name = 'board:b00'"))
	runTicks(t, db, []shard.Name{shard.Master, "a", "b"}, token)
	require.Zero(t, storetest.Count(t, db, fmt.Sprintf("SELECT COUNT(*) FROM afe_hosts h JOIN afe_hosts_labels l ON l.host_id = h.id JOIN afe_labels n ON n.id = l.label_id WHERE n.name = 'board:b00' AND h.leased = 0 AND COALESCE(h.shard_id, 0) <> %d", want)))
	require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM (SELECT host_id FROM afe_host_queue_entries WHERE active = 1 GROUP BY host_id HAVING COUNT(*) > 1) d"))
}

// TestMovingALabelFailsAtEveryStep: wherever it stops, nothing has happened, or,
// after the commit, everything.
func TestMovingALabelFailsAtEveryStep(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		token, lab := int64(1), admin.New(db)
		for _, stop := range moveSteps(t, lab) {
			lab.FailAtStep(func(name string) error {
				if name == stop {
					return errStop
				}
				return nil
			})
			_, err := lab.AssignLabel(t.Context(), "board:b00", "b", "me", "stops at "+stop)
			require.ErrorIs(t, err, errStop, stop)
			lab.FailAtStep(nil)
			want := 1
			if stop == "commit" {
				want = 2
			}
			requireMoved(t, db, want, token)
			require.Equal(t, want-1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_audit WHERE detail LIKE '%stops at "+stop+"'"))
			token += 3
		}
	})
}

const (
	// moverEnv makes this binary move a label and hang at a step.
	moverEnv = "HOSTSCHED_TEST_MOVER"
	// moverDSNEnv is where it does.
	moverDSNEnv = "HOSTSCHED_TEST_MOVER_DSN"
)

// moveAndHang is the process that the next test kills.
func moveAndHang(dsn, stop string) int {
	db, err := store.Open(context.Background(), sqldb.Config{DSN: dsn, TxTimeout: storetest.TxTimeout})
	if err != nil {
		fmt.Println(err)
		return 3
	}
	lab := admin.New(db)
	lab.FailAtStep(func(name string) error {
		if name != stop {
			return nil
		}
		fmt.Println("here")
		_, err := os.Stdin.Read(make([]byte, 1)) // until it is killed
		return err
	})
	_, err = lab.AssignLabel(context.Background(), "board:b00", "b", "me", "killed")
	fmt.Println(err)
	return 1
}

// TestMovingALabelIsKilledAtEveryStep: as above, with SIGKILL of a process.
func TestMovingALabelIsKilledAtEveryStep(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		db := storetest.NewLab(t, dsn)
		storetest.FillShardedLab(t, db)
		token := int64(1)
		for _, stop := range moveSteps(t, admin.New(db)) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), moverEnv+"="+stop, moverDSNEnv+"="+dsn)
			stdin, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "here\n", line)
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
			_ = stdin.Close() // the process is gone
			want := 1
			if stop == "commit" {
				want = 2
			}
			requireMoved(t, db, want, token)
			token += 3
		}
	})
}
