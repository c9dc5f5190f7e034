package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMoment: a time without a zone is one of this machine's, and what is no time is refused.
func TestMoment(t *testing.T) {
	now := time.Now()
	for text, want := range map[string]time.Time{
		"4h": now.Add(4 * time.Hour), "2d": now.Add(48 * time.Hour), "90m": now.Add(90 * time.Minute),
		"2031-12-01":       time.Date(2031, 12, 1, 0, 0, 0, 0, time.Local),
		"2031-12-01 18:00": time.Date(2031, 12, 1, 18, 0, 0, 0, time.Local), "2031-12-01 18:00:05": time.Date(2031, 12, 1, 18, 0, 5, 0, time.Local),
		"2031-12-01T18:00": time.Date(2031, 12, 1, 18, 0, 0, 0, time.Local), "2031-12-01T18:00:00+05:30": time.Date(2031, 12, 1, 12, 30, 0, 0, time.UTC),
	} {
		got, ok := parseMoment(text, now)
		require.True(t, ok, text)
		require.True(t, want.Equal(got), "%s: %s, not %s", text, got, want)
	}
	for _, text := range []string{"", "d", "tomorrow", "2031-13-01", "2031-12-32", "2031-12-01 25:00", "1-2-3", "4", "99999999d", "2031-12-01 18:00 CET"} {
		_, ok := parseMoment(text, now)
		require.False(t, ok, text)
	}
	for _, text := range []string{"-4h", "0s", "2001-01-01", "12000d"} {
		require.ErrorContains(t, (&moment{}).Set(text), "is not within the next ten years", text)
	}
	at := time.Date(2031, 12, 1, 18, 0, 0, 0, time.UTC)
	require.Equal(t, "2031-12-01 18:00:00 UTC", zoned(at, time.UTC))
	require.Equal(t, "2031-12-01 19:00:00 CET (2031-12-01T18:00:00Z)", zoned(at, time.FixedZone("CET", 3600)))
}
