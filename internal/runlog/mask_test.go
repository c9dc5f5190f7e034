package runlog

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// inPieces is what a masker shows of a text that comes in pieces of a size.
func inPieces(m *masker, text string, size int) string {
	var out strings.Builder
	for len(text) > 0 {
		n := min(size, len(text))
		out.Write(m.next([]byte(text[:n])))
		text = text[n:]
	}
	out.Write(m.rest())
	return out.String()
}

func TestMask(t *testing.T) {
	for _, c := range []struct {
		secrets    []string
		text, want string
	}{
		{nil, "abc", "abc"},
		{[]string{""}, "abc", "abc"},
		{[]string{"secret"}, "a secret, secretsecret", "a ***, ******"},
		{[]string{"secret"}, "sesecret secre", "se*** secre"},
		{[]string{"ab", "abcd"}, "abcd abc", "*** ***c"},
		{[]string{"aab"}, "aaab", "a***"},
		{[]string{"line one\nline two\n"}, "x\n  line two\nline one\nline two\ny", "x\n  ***\n***y"},
		{[]string{"\x00\xff"}, "a\x00\xffb\x00", "a***b\x00"},
	} {
		for size := 1; size < 8; size++ {
			require.Equal(t, c.want, inPieces(newMasker(c.secrets), c.text, size), "%q in pieces of %d", c.text, size)
		}
	}
}

// FuzzMask: whatever the pieces are, no secret is shown, and the same is.
func FuzzMask(f *testing.F) {
	f.Add("aab", "xaaabaab", 3)
	f.Add("line one\nline two", "line two", 1)
	f.Fuzz(func(t *testing.T, secret, text string, size int) {
		size = max(1, size%100)
		// The mark itself may complete a short secret with its neighbours.
		if strings.Trim(secret, "*") == "" {
			return
		}
		got := inPieces(newMasker([]string{secret}), text, size)
		require.Equal(t, inPieces(newMasker([]string{secret}), text, max(1, len(text))), got)
		if !strings.Contains(secret, "*") {
			require.NotContains(t, got, secret)
		}
	})
}
