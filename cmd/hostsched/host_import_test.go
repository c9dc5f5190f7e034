package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFilesOfHosts: a file may be what the API takes, too, and what is wrong with it is said in
// its own words.
func TestFilesOfHosts(t *testing.T) {
	for _, text := range []string{"- {hostname: a, labels: [x]}", "hosts:\n- {hostname: a, labels: [x]}", `{"hosts": [{"hostname": "a", "labels": ["x"]}]}`} {
		hosts, err := hostsOfYAML([]byte(text))
		require.NoError(t, err, text)
		require.Len(t, hosts, 1, text)
		require.Equal(t, []string{"x"}, hosts[0].Labels)
	}
	for text, want := range map[string]string{
		"hostz: []":                      "line 1 has the key hostz, which there is not",
		"hosts: {a: 1}":                  "line 1 has keys with values; it must be a list",
		"a":                              `line 1 has "a"; it must be a list`,
		"- [a]":                          "line 1 has a list; it must be keys with values",
		"- {hostname: a, labels: x}":     `line 1 has "x"; it must be a list`,
		"- {hostname: [a]}":              "line 1 has a list; it must be a text",
		"- hostname: a\n  labls: [x]":    "line 2 has the key labls, which there is not",
		"- {hostname: a, attributes: 5}": `line 1 has "5"; it must be keys with values`,
		"- {labels: [x]}":                "host 1 has no hostname",
		"- {":                            "line 1",
	} {
		_, err := hostsOfYAML([]byte(text))
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "main.", text)
		require.NotContains(t, err.Error(), "!!", text)
	}
	for _, text := range []string{"", "[]", "hosts:", "hosts: []"} {
		hosts, err := hostsOfYAML([]byte(text))
		require.NoError(t, err, text)
		require.Empty(t, hosts, text)
	}
}
