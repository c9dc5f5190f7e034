package console

import (
	"html"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSpans: of what terminals understand, a log shows bold and 16 colours.
func TestSpans(t *testing.T) {
	for line, want := range map[string][]span{
		"plain":                              {{"", "plain"}},
		"\x1b[31mred\x1b[0m not":             {{"ansi1", "red"}, {"", " not"}},
		"\x1b[1;92mok\x1b[22m thin\x1b[m":    {{"ansi10 bold", "ok"}, {"ansi10", " thin"}},
		"\x1b[38;5;9mbright\x1b[39m none":    {{"ansi9", "bright"}, {"", " none"}},
		"\x1b[38;5;31mone of many":           {{"", "one of many"}},
		"\x1b[38;2;31;32;33mof any":          {{"", "of any"}},
		"\x1b[48;5;31;1mground":              {{"bold", "ground"}},
		"\x1b[38:2::31:32:33mwith colons":    {{"", "with colons"}},
		"\x1b[38;5":                          nil,
		"cut \x1b[3":                         {{"", "cut "}},
		"\x1b[38;5mshort":                    {{"", "short"}},
		"\x1b[>31mfor one terminal":          {{"", "for one terminal"}},
		"\x1b[31 mwith a space":              {{"", "with a space"}},
		"\x1b[99999999999999999999;32mlarge": {{"ansi2", "large"}},
		"up\x1b[2A\x1b[2K\x1b[?25lhere":      {{"", "uphere"}},
		"\x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": {{"", "link"}},
		"\x1b]never ends":          {{"", "never ends"}},
		"\x1b(B\x1b=\x1bc\x1b":     nil,
		"a\x00\b\x7f\u009b31mb\tc": {{"", "a31mb\tc"}},
		"\x1b[4;7;31mlines":        {{"ansi1", "lines"}},
	} {
		got, _ := look{}.spans(line)
		require.Equal(t, want, got, "%q", line)
	}
}

// ourTags is all that a line may have of HTML.
var ourTags = regexp.MustCompile(`<span class="(?:ansi(?:[0-9]|1[0-5]))?(?: ?bold)?">|</span>`)

// FuzzLines: whatever a log has, a page shows text in our classes, and not a byte ESC.
func FuzzLines(f *testing.F) {
	for _, line := range []string{
		"\x1b[31m<b>&amp;\x1b[0m", "\x1b[\"><script>alert(1)</script>m", "<img src=x onerror=alert(1)>", "\x1b]8;;javascript:alert(1)\x07x\x1b]8;;\x07", "\x1b[1;38;5;15m\x1b", "\xff\x1b[31", "</span><a href=//x>",
	} {
		f.Add([]byte(line), 3, true)
	}
	pages := newPages()
	f.Fuzz(func(t *testing.T, log []byte, colour int, bold bool) {
		k := &lineKeeper{logQuery: logQuery{from: 1}, look: look{bold, (colour%17 + 17) % 17}}
		_, _ = k.Write(log)
		k.finish()
		for _, line := range k.kept {
			var out strings.Builder
			require.NoError(t, pages.byName["log"].ExecuteTemplate(&out, "line", line))
			rest := ourTags.ReplaceAllString(out.String(), "")
			require.NotContains(t, rest, "<")
			require.NotContains(t, rest, "\x1b")
			require.Equal(t, plain(line.raw), html.UnescapeString(rest))
		}
	})
}
