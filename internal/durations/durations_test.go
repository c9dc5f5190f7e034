package durations_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/durations"
)

func TestParse(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"50ms": 50 * time.Millisecond, "1h30m": 90 * time.Minute, "-1s": -time.Second, "0": 0, "0d": 0, "2d": 2 * day, "30d": 30 * day, "1d12h": 36 * time.Hour, "65535d": 65535 * day} {
		got, ok := durations.Parse(text)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "d", "-1d", "+1d", "1.5d", "65536d", "99999999999999999999d", "1dd", "1d2d", "1d-1h", "1d+1h", "1d24h", "1d ", "1h2d", "5", "x"} {
		_, ok := durations.Parse(text)
		require.False(t, ok, text)
	}
}

func TestText(t *testing.T) {
	for _, text := range []string{"50ms", "1m0s", "24h0m0s", "2d", "7d", "366d", "49h0m0s"} {
		d, ok := durations.Parse(text)
		require.True(t, ok, text)
		require.Equal(t, text, durations.Text(d))
	}
}
