package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/hostsched/hostsched/internal/embedetcd"
	"github.com/hostsched/hostsched/shard"
)

// useEmbeddedEtcd makes this machine's embedded member the etcd that is asked, unless
// somebody said otherwise.
func (c *Config) useEmbeddedEtcd() {
	if c.Etcd.Embedded && !c.given("etcd.endpoints") {
		c.Etcd.Endpoints = c.Etcd.ListenClientURLs
	}
}

// EtcdMember is the part of the configuration for the embedded member of etcd.
func (c *Config) EtcdMember() (embedetcd.MemberConfig, error) {
	m := embedetcd.MemberConfig{Dir: c.Etcd.DataDir, Name: orElse(c.Etcd.Name, c.Server), Existing: c.Etcd.InitialClusterState == "existing"}
	var err error
	if m.ListenClient, err = parseURLs("etcd.listen_client_urls", c.Etcd.ListenClientURLs); err != nil {
		return m, err
	}
	if c.Standalone {
		return m, nil
	}
	if m.Cluster, err = c.initialCluster(); err != nil {
		return m, err
	}
	if len(m.Cluster[m.Name]) == 0 {
		return m, fmt.Errorf("%w: etcd.initial_cluster does not name this member, %s; add %[2]s=http://ADDRESS:2380, or set etcd.name", ErrConfig, m.Name)
	}
	m.ListenPeer = m.Cluster[m.Name]
	if len(c.Etcd.ListenPeerURLs) > 0 {
		if m.ListenPeer, err = parseURLs("etcd.listen_peer_urls", c.Etcd.ListenPeerURLs); err != nil {
			return m, err
		}
	}
	for _, u := range m.ListenPeer {
		if host := u.Hostname(); net.ParseIP(host) == nil && host != "localhost" {
			return m, fmt.Errorf("%w: the embedded member of etcd should listen on %s; a member listens on addresses of this machine, not on names: set etcd.listen_peer_urls, like %s://0.0.0.0:%s", ErrConfig, u.String(), u.Scheme, u.Port())
		}
	}
	if c.Etcd.PeerCertFile != "" {
		m.PeerTLS = transport.TLSInfo{CertFile: c.Etcd.PeerCertFile, KeyFile: c.Etcd.PeerKeyFile, TrustedCAFile: c.Etcd.PeerTrustedCAFile, ClientCertAuth: true}
	}
	return m, nil
}

// initialCluster reads who the members are: NAME=URL, once for every URL.
func (c *Config) initialCluster() (map[string][]url.URL, error) {
	members := map[string][]url.URL{}
	for _, text := range c.Etcd.InitialCluster {
		name, address, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%w: etcd.initial_cluster has %q; a member is written NAME=URL, like sched-1=http://10.0.0.1:2380", ErrConfig, text)
		}
		urls, err := parseURLs("etcd.initial_cluster", []string{address})
		if err != nil {
			return nil, err
		}
		members[name] = append(members[name], urls...)
	}
	return members, nil
}

func parseURLs(key string, texts []string) ([]url.URL, error) {
	out := make([]url.URL, 0, len(texts))
	for _, text := range texts {
		u, err := url.Parse(text)
		switch {
		case !strings.Contains(text, "://"):
			err = errNoScheme
		case err == nil && u.Scheme != "unix":
			err = checkMemberURL(u)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s has %q: %w", ErrConfig, key, text, err)
		}
		out = append(out, *u)
	}
	return out, nil
}

var errNoScheme = errors.New("it must begin with http:// or https://")

func checkMemberURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return errNoScheme
	case u.Path != "" || u.RawQuery != "" || u.User != nil:
		return fmt.Errorf("it must be scheme://host:port and nothing else")
	case u.Hostname() == "":
		return fmt.Errorf("it names no host")
	case u.Port() == "":
		return fmt.Errorf("it has no port")
	}
	return checkPort(u.Port())
}

// checkEmbeddedEtcd refuses what makes no member, before anything is started.
func (c *Config) checkEmbeddedEtcd() error {
	if !c.Etcd.Embedded || c.groups&ReplicaGroup == 0 {
		return nil
	}
	if c.Etcd.DataDir == "" {
		return fmt.Errorf("%w: etcd.embedded needs etcd.data_dir, the folder of this member, like /var/lib/hostsched/etcd", ErrConfig)
	}
	set := []bool{c.Etcd.PeerCertFile != "", c.Etcd.PeerKeyFile != "", c.Etcd.PeerTrustedCAFile != ""}
	if set[0] != set[1] || set[0] != set[2] {
		return fmt.Errorf("%w: etcd.peer_cert_file, etcd.peer_key_file and etcd.peer_trusted_ca_file go together", ErrConfig)
	}
	m, err := c.EtcdMember()
	if err != nil {
		return err
	}
	for _, u := range m.ListenClient {
		// Whoever reaches this port decides who leads.
		if u.Scheme != "unix" && (u.Scheme != "http" || !Loopback(u.Host)) {
			return fmt.Errorf("%w: etcd.listen_client_urls has %q; the embedded member serves this machine only: it must be http on a loopback address, like http://127.0.0.1:2379", ErrConfig, u.String())
		}
	}
	for name, urls := range m.Cluster {
		for _, u := range urls {
			if (u.Scheme == "https") != set[0] {
				return fmt.Errorf("%w: etcd.initial_cluster has %s=%s; https goes with etcd.peer_cert_file, and http without", ErrConfig, name, u.String())
			}
		}
	}
	return nil
}

// CheckEtcdMember refuses a name or an address that no embedded member can have.
func CheckEtcdMember(name, peerURL string) error {
	if err := shard.CheckServer(name); err != nil {
		return fmt.Errorf("%w: name of a member: %w", ErrConfig, err)
	}
	urls, err := parseURLs("the address of a member", []string{peerURL})
	if err == nil && urls[0].Scheme == "unix" {
		err = fmt.Errorf("%w: the address of a member has %q: %w", ErrConfig, peerURL, errNoScheme)
	}
	return err
}
