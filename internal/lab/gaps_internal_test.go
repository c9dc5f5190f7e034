package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhichIDsFollow(t *testing.T) {
	for _, c := range []struct {
		before, after, by int64
		want              bool
	}{
		{7, 8, 1, true}, {7, 9, 1, false}, {7, 10, 3, true}, {7, 8, 3, true}, {7, 9, 3, false}, {7, 13, 3, false},
		{0, 1, 1, true}, {0, 2, 1, false}, {0, 2, 3, true}, {0, 4, 3, false},
	} {
		require.Equal(t, c.want, follows(c.before, c.after, c.by), "%+v", c)
	}
}

// TestGapsBySeveralClocks: a gap is passed over after a second if it is old by the database's
// clock, and after ten whatever that clock says: one that is behind must not hide what comes
// late, and one that is ahead must not keep everything back.
func TestGapsBySeveralClocks(t *testing.T) {
	var k known
	begin := time.Now()
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	k.note(12, at(0))
	k.note(12, at(1))
	k.note(15, at(5))
	require.Zero(t, k.settled(at(0.9), 15, true), "old by a clock that is behind")
	require.Equal(t, int64(15), k.settled(at(0.9), 15, false), "who asks once goes by that clock")
	require.Equal(t, int64(12), k.settled(at(1), 15, true))
	require.Equal(t, int64(12), k.settled(at(1), 12, true))
	for _, watching := range []bool{true, false} {
		require.Zero(t, k.settled(at(9), 0, watching), "new by a clock that is ahead")
		require.Equal(t, int64(12), k.settled(at(10), 0, watching))
		require.Equal(t, int64(15), k.settled(at(15), 0, watching))
	}
	k.note(18, at(16))
	require.Equal(t, []mark{{15, at(5)}, {18, at(16)}}, k.marks, "what is older tells no more")
	k.note(16, at(17))
	require.Equal(t, int64(18), k.before(at(26), gapLasts), "who read at the same time may have seen less")
	k.note(3, at(17))
	require.Equal(t, []mark{{3, at(17)}}, k.marks, "a journal that begins anew")
}
