package recurring

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// TestFaultsAreSaidOnce: the same fault with other numbers in it is no other fault.
func TestFaultsAreSaidOnce(t *testing.T) {
	var out bytes.Buffer
	l := New(hclog.New(&hclog.LoggerOptions{Output: &out}))
	for token := range 50 {
		l.Warn("cannot take over", "error", fmt.Errorf("token %d, lease %x: refused", token, 0xabcdef0+token))
		l.Error("cannot read", "error", "timeout")
	}
	require.Equal(t, 2, strings.Count(out.String(), "\n"), out.String())
	l.Warn("cannot take over", "error", "access denied")
	require.Equal(t, 3, strings.Count(out.String(), "\n"), "another reason is said at once")
	l.Over()
	l.Warn("cannot take over", "error", "access denied")
	require.Equal(t, 4, strings.Count(out.String(), "\n"), "a fault that comes back is said at once")
}

func TestFaultsThatLastAreSaidEveryMinute(t *testing.T) {
	l := New(hclog.NewNullLogger())
	began, said, total := time.Now(), 0, 0
	for second := range 181 {
		times, due := l.due("fault", began.Add(time.Duration(second)*time.Second))
		total += times
		if due {
			said++
		}
	}
	require.Equal(t, 4, said)
	require.Equal(t, 181, total, "every time is counted")
}

func TestFaultsAreBounded(t *testing.T) {
	l := New(hclog.NewNullLogger())
	for i := range 10 * maxFaults {
		l.Warn(strings.Repeat("x", i))
		require.LessOrEqual(t, len(l.faults), maxFaults)
	}
}
