package lab_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
)

// FuzzFilters: whatever a filter says, it finds what the plain reading of it says, and no text
// is taken for more than a text.
func FuzzFilters(f *testing.F) {
	for _, seed := range []string{"", "h1", "_", "%", "!", "' OR 1=1 --", "\\", "H1", "\x00", "\xff", "日本", `"; DROP TABLE afe_hosts; --`} {
		f.Add(seed, seed, seed)
	}
	db := storetest.NewLab(f, storetest.SQLiteFile(f))
	l := lab.New(db, whole())
	ctx := context.Background()
	names := []string{"h1", "h_2", "x-3"}
	for _, name := range names {
		_, _, err := l.AddHost(ctx, root, labapi.HostInput{Hostname: name, Labels: []string{"label:" + name}})
		require.NoError(f, err)
	}
	f.Fuzz(func(t *testing.T, text, label, after string) {
		found, err := l.Hosts(ctx, lab.HostFilter{Text: text, Status: "Ready"}, "", 10)
		require.NoError(t, err)
		var got []string
		for _, h := range found.Items {
			got = append(got, h.Hostname)
		}
		if utf8.ValidString(text) && !strings.ContainsRune(text, 0) {
			var want []string
			for _, name := range names {
				if strings.Contains(name, strings.ToLower(text)) && isASCII(text) {
					want = append(want, name)
				}
			}
			require.Equal(t, want, got, "%q", text)
		}
		byLabel, err := l.Hosts(ctx, lab.HostFilter{Labels: []string{label}, HeldBy: "", ACL: "Everyone"}, "", 10)
		require.NoError(t, err)
		require.LessOrEqual(t, len(byLabel.Items), 1)
		none, err := l.Hosts(ctx, lab.HostFilter{HeldBy: label, ACL: text + "-", Status: label}, "", 10)
		require.NoError(t, err)
		require.Empty(t, none.Items)
		if _, err := l.Hosts(ctx, lab.HostFilter{}, after, 10); err != nil {
			require.True(t, errors.Is(err, lab.ErrInput), err)
		}
	})
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > 127 })
}
