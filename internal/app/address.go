package app

import (
	"context"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/internal/config"
)

// lookupTimeout bounds the question whether the name of this machine is known.
const lookupTimeout = time.Second

// advertised is the address of this replica's pages as other servers reach it, which is
// shown in etcd and in the history. An address that means another machine to every
// reader is replaced, and the log says so.
func advertised(c *config.Config, listen string, log hclog.Logger) string {
	if c.Advertise != "" {
		return c.Advertise
	}
	host, port, err := net.SplitHostPort(listen)
	ip := net.ParseIP(host)
	if err != nil || ip == nil || !ip.IsUnspecified() && !ip.IsLoopback() {
		return listen
	}
	own := routeTo(c.Etcd.Endpoints)
	switch {
	case ip.IsLoopback() && own == "":
		return listen // etcd is on this machine, too
	case own == "":
		own = machineName(host)
	}
	address := net.JoinHostPort(own, port)
	if ip.IsLoopback() {
		log.Warn("listen is a loopback address, so other servers cannot ask this replica; set listen, or advertise", "listen", listen, "shown to others", address)
		return address
	}
	log.Info("listen names no machine; this address is shown to others, unless advertise says otherwise", "listen", listen, "address", address)
	return address
}

// routeTo returns the address from which this machine reaches etcd, empty if that is a
// loopback address. No packet is sent.
func routeTo(endpoints []string) string {
	for _, endpoint := range endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Hostname() == "" {
			continue
		}
		conn, err := net.DialTimeout("udp", net.JoinHostPort(u.Hostname(), "9"), lookupTimeout)
		if err != nil {
			continue
		}
		local, ok := conn.LocalAddr().(*net.UDPAddr)
		_ = conn.Close() // nothing was sent
		if ok && !local.IP.IsLoopback() {
			return local.IP.String()
		}
	}
	return ""
}

// machineName is the name of this machine if others may know it, else a loopback address.
func machineName(unspecified string) string {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	if name, err := os.Hostname(); err == nil {
		if _, err := net.DefaultResolver.LookupHost(ctx, name); err == nil {
			return name
		}
	}
	if ip := net.ParseIP(unspecified); ip != nil && ip.To4() == nil {
		return net.IPv6loopback.String()
	}
	return "127.0.0.1"
}
