package traceid_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/traceid"
)

func TestParse(t *testing.T) {
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	p, ok := traceid.Parse("00-" + trace + "-" + span + "-01")
	require.True(t, ok)
	require.True(t, p.Sampled)
	require.Equal(t, "00-"+trace+"-"+span+"-01", p.String())
	p, ok = traceid.Parse("01-" + trace + "-" + span + "-02-more")
	require.True(t, ok, "a later version")
	require.False(t, p.Sampled)
	require.Equal(t, "00-"+trace+"-"+span+"-00", p.String())
	for _, text := range []string{
		"", "x", "00-" + trace + "-" + span, "ff-" + trace + "-" + span + "-01", "00-" + trace + "-" + span + "-01-more",
		"00-00000000000000000000000000000000-" + span + "-01", "00-" + trace + "-0000000000000000-01", "00-" + trace + "-00F067AA0BA902B7-01", "00-" + trace + "-" + span + "-0g",
	} {
		_, ok := traceid.Parse(text)
		require.False(t, ok, text)
	}
}

// TestSpans: every process names the span of a run alike, and no two spans are the same.
func TestSpans(t *testing.T) {
	p := traceid.New(true)
	same, ok := traceid.Parse(p.String())
	require.True(t, ok)
	require.Equal(t, p.Run(1), same.Run(1))
	require.Equal(t, p.Trace, p.Run(1).Trace)
	spans := map[[8]byte]bool{p.Span: true, p.Run(1).Span: true, p.Run(2).Span: true, p.Child().Span: true, p.Child().Span: true}
	require.Len(t, spans, 5)
	require.NotEqual(t, p.Trace, traceid.New(true).Trace)
}
