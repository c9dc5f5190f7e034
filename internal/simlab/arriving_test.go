package simlab_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/store"
)

// TestArrivingJobsCanRun: however long a lab is looked at, its queue does not fill with jobs
// that no host can ever run; a few there are.
func TestArrivingJobsCanRun(t *testing.T) {
	t.Parallel()
	for _, spec := range []simlab.Spec{{Hosts: 1, Boards: 1}, {Hosts: 3, Boards: 2}, {Hosts: 40, Boards: 8}, {Hosts: 200, Boards: 20}} {
		db := newDB(t)
		spec.Seed, spec.Suites, spec.Later = 1, 40, true
		lab, err := simlab.Create(t.Context(), db.SQL(), spec)
		require.NoError(t, err)

		labels := hostLabels(t, db)
		require.Len(t, labels, spec.Hosts)
		var never int
		for range 200 {
			for _, job := range lab.DrawSuite(10).Jobs {
				if !slices.ContainsFunc(labels, func(host []string) bool { return canRun(host, job.Labels) }) {
					never++
				}
			}
		}
		require.Positive(t, never, "%d hosts", spec.Hosts)
		require.LessOrEqual(t, never, 3, "%d hosts", spec.Hosts)
	}
}

// canRun tells whether a host has what a job asks for, or can be given it.
func canRun(host, asked []string) bool {
	return !slices.ContainsFunc(asked, func(label string) bool {
		return !strings.HasPrefix(label, "cros-version:") && !slices.Contains(host, label)
	})
}

// hostLabels are the labels of each host.
func hostLabels(t *testing.T, db *store.DB) [][]string {
	t.Helper()
	rows, err := db.SQL().QueryContext(t.Context(), `SELECT GROUP_CONCAT(l.name) FROM afe_hosts_labels x JOIN afe_labels l ON l.id = x.label_id GROUP BY x.host_id`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	var out [][]string
	for rows.Next() {
		var names string
		require.NoError(t, rows.Scan(&names))
		out = append(out, strings.Split(names, ","))
	}
	require.NoError(t, rows.Err())
	return out
}
