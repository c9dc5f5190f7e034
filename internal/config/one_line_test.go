package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// TestRecordsAreLines: whatever a value is, a record of the log is one line.
func TestRecordsAreLines(t *testing.T) {
	for _, value := range []any{"two\nlines", "\n", "a\n\nb", "ends\n", errors.New("first\nsecond \"quoted\""), "a\r\nb", "key=\n  | pretends", strings.Repeat("x\n", 100)} {
		for _, format := range []string{"text", "json"} {
			var out strings.Builder
			c := &Config{}
			c.Log.Format = format
			log := c.Logger(&out)
			log.SetLevel(hclog.Info)
			log.Info("something happened", "before", 1, "value", value, "after", "x y", "other", value)
			require.Equal(t, 1, strings.Count(out.String(), "\n"), "%q: %s", value, out.String())
			require.Contains(t, out.String(), "after")
		}
	}
	var out strings.Builder
	c := &Config{}
	c.Logger(&out).Error("it failed", "error", errors.New("first\nsecond"), "shard", "b")
	require.Contains(t, out.String(), `it failed: error="first; second" shard=b`)
	out.Reset()
	c.Logger(&out).Error("it failed", "host", "first\nsecond", "shard", "b")
	require.Contains(t, out.String(), `it failed: host="first\nsecond" shard=b`, "another name than that with a semicolon")
}
