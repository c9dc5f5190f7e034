package shard_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hostsched/hostsched/shard"
)

func TestUnserved(t *testing.T) {
	rows := []shard.Row{
		{ID: 1, Name: "lab south", Same: [2]shard.ID{1, 1}},
		{ID: 2, Name: "lab-east", Same: [2]shard.ID{2, 2}},
		{ID: 3, Name: "LAB-EAST", Same: [2]shard.ID{2, 3}},
		{ID: 4, Name: "läb-east", Same: [2]shard.ID{4, 2}},
		{ID: 5, Name: "Master", Same: [2]shard.ID{5, 5}, Master: true},
		{ID: 6, Name: "lab-west\t", Same: [2]shard.ID{6, 6}},
		{ID: 7, Name: "lab-west", Same: [2]shard.ID{6, 6}},
		{ID: 8, Name: "lab-west", Same: [2]shard.ID{6, 6}},
	}
	unserved := shard.Unserved(rows)
	require.Len(t, unserved, 6)
	require.Contains(t, unserved[1], "white space")
	require.Contains(t, unserved[3], "shard lab-east, which is row 2")
	require.Contains(t, unserved[4], "row 2", "same to hostsched's own tables only")
	require.Contains(t, unserved[5], "master")
	require.Contains(t, unserved[6], "control characters")
	require.NotContains(t, unserved, shard.ID(7), "the first name that can be used")
	require.Contains(t, unserved[8], "row 7")
	id, ok := shard.Served(rows, "lab-west")
	require.True(t, ok)
	require.Equal(t, shard.ID(7), id)
	_, ok = shard.Served(rows, "LAB-EAST")
	require.False(t, ok)
}

// TestServedNamesDiffer: whatever the database takes for the same, the served names
// are usable and differ from each other and from the master's, and no row is passed
// over for one that is not served itself.
func TestServedNamesDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "A", "ä", "Ä", "b", "B", "a/b", "", "master", "Master", "MÄSTER", "a\n"}), 0, 12).Draw(t, "names")
		folds := [2]func(string) string{strings.ToLower, strings.NewReplacer("ä", "a", "Ä", "A").Replace}
		var rows []shard.Row
		for i, name := range names {
			r := shard.Row{ID: shard.ID(i + 1), Name: shard.Name(name)}
			for f, fold := range folds {
				r.Same[f] = r.ID
				for before := i - 1; before >= 0; before-- {
					if fold(names[before]) == fold(name) {
						r.Same[f] = shard.ID(before + 1)
					}
				}
				r.Master = r.Master || fold(name) == "master"
			}
			rows = append(rows, r)
		}
		unserved := shard.Unserved(rows)
		for _, r := range rows {
			same := false // as a row before it that is served
			for _, before := range rows[:r.ID-1] {
				_, not := unserved[before.ID]
				same = same || !not && (before.Same[0] == r.Same[0] || before.Same[1] == r.Same[1])
			}
			_, err := shard.Parse(r.Name.String())
			_, not := unserved[r.ID]
			require.Equal(t, same || r.Master || err != nil, not, "row %d", r.ID)
		}
	})
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"lab-east": "lab-east", "Prüfstand 7": "Prüfstand 7", "": "",
		"a\r\nb\tc": `a\r\nb\tc`, "l\xe4b": `l\xe4b`, "\x1b[2Jx": `\x1b[2Jx`, "a\u202eb\u200b\u00a0c": `a\u202eb\u200b\u00a0c`, "�": "�",
	} {
		require.Equal(t, want, shard.Printable(text))
	}
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text"))
		shown := shard.Printable(text)
		require.Equal(t, shown, shard.Printable(shown), "shown text is shown as it is")
		require.NotContains(t, shown, "\n")
	})
}
