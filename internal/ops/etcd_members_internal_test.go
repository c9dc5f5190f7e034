package ops

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/store/admin"
)

// TestMayAdd: a member that does not fit is refused, and who must be waited for is named.
func TestMayAdd(t *testing.T) {
	member := func(name, url string, started, voting bool) EtcdMember {
		return EtcdMember{ID: "a1", Name: name, PeerURLs: []string{url}, Started: started, Voting: voting}
	}
	first := member("sched-1", "http://10.0.0.1:2380", true, true)
	all, err := mayAdd([]EtcdMember{first}, "sched-2", "http://10.0.0.2:2380")
	require.NoError(t, err)
	require.Equal(t, []string{"sched-1=http://10.0.0.1:2380", "sched-2=http://10.0.0.2:2380"}, all)

	_, err = mayAdd([]EtcdMember{first, member("sched-2", "http://10.0.0.2:2380", true, false)}, "sched-3", "http://10.0.0.3:2380")
	require.EqualError(t, err, "member sched-2 at http://10.0.0.2:2380 still gets the others' data, and etcd takes one new member at a time: wait until 'hostsched etcd list' shows that it votes, and try again; or remove it with 'hostsched etcd remove sched-2'")
	for why, other := range map[string]EtcdMember{
		"has never run": member("", "http://10.0.0.2:2380", false, false), "there is a member sched-3 at http://10.0.0.4:2380 already": member("sched-3", "http://10.0.0.4:2380", true, true),
		"there is a member sched-4 at http://10.0.0.3:2380 already": member("sched-4", "http://10.0.0.3:2380", true, true),
	} {
		_, err = mayAdd([]EtcdMember{first, other}, "sched-3", "http://10.0.0.3:2380")
		require.ErrorIs(t, err, admin.ErrInput)
		require.ErrorContains(t, err, why)
	}
}
