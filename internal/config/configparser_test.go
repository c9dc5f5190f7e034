package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded is what ConfigParser of Python 2.7, and of Python 3.11 with inline comments, made
// of section S of a file. A file without values, and an option without value, are refused.
type recorded struct {
	Text    string
	Python2 map[string]*string
	Python3 map[string]*string
}

// TestSameValuesAsPython: where the two Pythons agree, the values are theirs, and elsewhere
// those of one of the two, or the file is refused.
func TestSameValuesAsPython(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "configparser.json"))
	require.NoError(t, err)
	var all []recorded
	require.NoError(t, json.Unmarshal(data, &all))
	require.Greater(t, len(all), 60)
	for _, r := range all {
		path := filepath.Join(t.TempDir(), globalConfig)
		require.NoError(t, os.WriteFile(path, []byte(r.Text), 0o600))
		ours := valuesOfS(path)
		for name := range optionsOf(r.Python2, r.Python3, ours) {
			got, want := ours[name], []*string{r.Python2[name], r.Python3[name]}
			agree := same(want[0], want[1])
			if got == nil && !agree {
				continue
			}
			require.True(t, slices.ContainsFunc(want, func(w *string) bool { return same(got, w) }), "%q: %s is %s, and not %s or %s", r.Text, name, shown(got), shown(want[0]), shown(want[1]))
		}
	}
}

func optionsOf(all ...map[string]*string) map[string]bool {
	out := map[string]bool{}
	for _, m := range all {
		for name := range m {
			out[name] = true
		}
	}
	return out
}

func same(a, b *string) bool { return shown(a) == shown(b) }

func shown(s *string) string {
	if s == nil {
		return "refused"
	}
	return "'" + *s + "'"
}

// valuesOfS reads section S as the importer does.
func valuesOfS(path string) map[string]*string {
	c := ini{}
	if c.read(path) != nil {
		return nil
	}
	out := map[string]*string{}
	for _, section := range []string{"S", iniDefault} {
		for name := range c[section] {
			if text, o, err := c.value("S", name); err == nil && o.file != "" {
				out[name] = &text
			}
		}
	}
	return out
}
