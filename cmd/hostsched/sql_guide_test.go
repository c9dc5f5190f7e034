package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
)

// TestSQLGuide runs the statements of docs/sql.md: the entry that they make can be served.
func TestSQLGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/sql.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?ms)^```sql\n(.*?)^```$").FindSubmatch(text)
	require.NotNil(t, block)
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		for statement := range strings.SplitSeq(strings.TrimSpace(string(block[1])), ";") {
			if strings.TrimSpace(statement) != "" {
				storetest.Exec(t, db, statement)
			}
		}
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id JOIN afe_jobs_dependency_labels d ON d.job_id = j.id"+
			" JOIN afe_hosts_labels x ON x.label_id = d.label_id JOIN afe_hosts h ON h.id = x.host_id JOIN afe_acl_groups_hosts a ON a.host_id = h.id"+
			" JOIN afe_acl_groups_users m ON m.aclgroup_id = a.aclgroup_id JOIN afe_users u ON u.id = m.user_id AND u.login = j.owner"+
			" WHERE q.status = 'Queued' AND h.leased = 0 AND h.hostname = 'eve-1'"))
	})
}
