package app

import (
	"net"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/config"
)

// TestAdvertised: what other servers are shown is an address, not every one or none.
func TestAdvertised(t *testing.T) {
	shown := func(listen, advertise string) string {
		c := &config.Config{Advertise: advertise}
		c.Etcd.Endpoints = []string{"http://127.0.0.1:2379"}
		return advertised(c, listen, hclog.NewNullLogger())
	}
	for listen, want := range map[string]string{
		"127.0.0.1:8470": "127.0.0.1:8470", // etcd is on this machine, too
		"10.0.0.7:8470":  "10.0.0.7:8470",
	} {
		require.Equal(t, want, shown(listen, ""))
	}
	for _, listen := range []string{"0.0.0.0:8470", "[::]:8470"} {
		host, port, err := net.SplitHostPort(shown(listen, ""))
		require.NoError(t, err)
		require.Equal(t, "8470", port)
		require.NotEmpty(t, host)
		ip := net.ParseIP(host)
		require.False(t, ip != nil && ip.IsUnspecified(), host)
		require.Equal(t, "sched-1:80", shown(listen, "sched-1:80"))
	}
}
