package app

import (
	"net"
	"strings"
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

// TestAdvertisedBesideARemoteEtcd: a loopback address means another machine to every reader, so
// the address from which etcd is reached is shown, with a warning.
func TestAdvertisedBesideARemoteEtcd(t *testing.T) {
	c := &config.Config{}
	c.Etcd.Endpoints = []string{"http://192.0.2.1:2379"} // documentation's own network; nothing is sent
	own := routeTo(c.Etcd.Endpoints)
	if own == "" {
		own = "127.0.0.1" // this machine has no route to any other
	}
	var log strings.Builder
	require.Equal(t, net.JoinHostPort(own, "8470"), advertised(c, "127.0.0.1:8470", hclog.New(&hclog.LoggerOptions{Output: &log})))
	require.Equal(t, own != "127.0.0.1", strings.Contains(log.String(), "listen is a loopback address"), log.String())
}
