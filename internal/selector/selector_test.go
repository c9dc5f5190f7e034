package selector_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/selector"
)

func TestParse(t *testing.T) {
	eve := selector.Term{Names: []string{"board:eve"}}
	for text, want := range map[string]selector.Selector{
		"board=eve":                    {eve},
		" board == eve ":               {eve},
		"board!=eve":                   {{Not: true, Names: []string{"board:eve"}}},
		"board=eve,!broken":            {eve, {Not: true, Key: "broken"}},
		"! broken , pool":              {{Not: true, Key: "broken"}, {Key: "pool"}},
		"board in (eve, kevin),x":      {{Names: []string{"board:eve", "board:kevin"}}, {Key: "x"}},
		"board notin (eve)":            {{Not: true, Names: []string{"board:eve"}}},
		"board:eve":                    {{Key: "board:eve"}},
		"cros-version=R1:2":            {{Names: []string{"cros-version:R1:2"}}},
		"in in (in)":                   {{Names: []string{"in:in"}}},
		strings.Repeat("a,", 49) + "a": nil,
	} {
		got, err := selector.Parse(text)
		require.NoError(t, err, text)
		if want != nil {
			require.Equal(t, want, got, text)
		}
	}
	for _, text := range []string{
		"", " ", ",", "a,", ",a", "!", "=", "a=", "=a", "a!", "!a=b", "a b", "a=b c", "a=b=c", "a in", "a in b", "a in ()", "a in (b", "a in b)", "a in (b))", "a on (b)", "in (b)", "(a)", "a in (b,)", "a in ((b))",
		"a in (b)c", "!!a", "a\x00", "a\nb", "\xff", strings.Repeat("a", selector.MaxLength+1), strings.Repeat("a,", 50) + "a", "a in (" + strings.Repeat("b,", 50) + "b)",
	} {
		_, err := selector.Parse(text)
		require.ErrorIs(t, err, selector.ErrBad, "%q", text)
		require.NotContains(t, err.Error(), "\n", "%q", text)
	}
}

// FuzzParse: every text is refused in one line, or means something, and the same however much
// space is around its terms.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"board=eve,!broken", "board in (a,b)", "a notin (b)", "a==b", "a!=b", "((", "!", "a,,b", "a in (b", "\x00", "日本=x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := selector.Parse(text)
		if err != nil {
			require.ErrorIs(t, err, selector.ErrBad)
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.NotEmpty(t, got)
		require.True(t, utf8.ValidString(text))
		for _, term := range got {
			require.NotEqual(t, term.Key == "", len(term.Names) == 0)
		}
		if len(text) < selector.MaxLength-2 {
			again, err := selector.Parse(" " + text + " ")
			require.NoError(t, err)
			require.Equal(t, got, again)
		}
	})
}
