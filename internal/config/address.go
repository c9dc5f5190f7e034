package config

import (
	"fmt"
	"net"
	"net/url"
)

// checkAddresses refuses what no server can have, because whoever waits for an address that
// cannot be waits for ever. No name is looked up.
func (c *Config) checkAddresses() error {
	for _, a := range []struct{ key, address string }{{"listen", c.Listen}, {"advertise", c.Advertise}, {"api.listen", c.API.Listen}} {
		if a.address == "" {
			continue
		}
		if err := checkAddress(a.address); err != nil {
			return fmt.Errorf("%w: %s is %q: %w", ErrConfig, a.key, a.address, err)
		}
	}
	for _, endpoint := range c.Etcd.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Port() == "" {
			continue // it is no URL, or has the usual port; the client knows what to do with it
		}
		if err := checkPort(u.Port()); err != nil {
			return fmt.Errorf("%w: etcd.endpoints has %q: %w", ErrConfig, endpoint, err)
		}
	}
	return nil
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("it must be host:port, like 127.0.0.1:8470")
	}
	return checkPort(port)
}

// checkPort also takes the name of a service.
func checkPort(port string) error {
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return fmt.Errorf("there is no port %q; it must be from 0 to 65535", port)
	}
	return nil
}

// apiAddress is where the API listens, and which setting says so.
func (c *Config) apiAddress() (key, address string) {
	if c.API.Listen != "" {
		return "api.listen", c.API.Listen
	}
	return "listen", c.Listen
}

// Loopback tells whether only this machine can reach an address.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
