package embedetcd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// Server is a running etcd.
type Server struct {
	// Endpoint is the client URL.
	Endpoint string

	dir          string
	client, peer url.URL
	adjust       func(*embed.Config)
	etcd         *embed.Etcd
}

// The timings of a server without network to its peers. The shortest lease etcd
// grants is one and a half election timeouts, rounded up to whole seconds.
const (
	heartbeatMs    = 50
	electionMs     = 500
	readyTimeout   = 30 * time.Second
	portAttempts   = 5
	backendBatchMs = 10
)

// Start starts etcd on free ports with its data in dir.
func Start(dir string) (*Server, error) {
	return StartWith(dir, "http", func(*embed.Config) {})
}

// StartWith starts etcd with another configuration than ours, with scheme http
// or https.
func StartWith(dir, scheme string, adjust func(*embed.Config)) (*Server, error) {
	var err error
	// Between choosing a port and listening on it somebody else may take it.
	for range portAttempts {
		s := &Server{dir: dir, adjust: adjust}
		if s.client, err = freeURL(); err != nil {
			return nil, err
		}
		if s.peer, err = freeURL(); err != nil {
			return nil, err
		}
		s.client.Scheme = scheme
		s.Endpoint = s.client.String()
		if err = s.Run(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// Run starts the server, also again after Stop, on the same ports and data.
func (s *Server) Run() error {
	cfg := embed.NewConfig()
	cfg.Dir = s.dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{s.client}, []url.URL{s.client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{s.peer}, []url.URL{s.peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = heartbeatMs, electionMs
	cfg.BackendBatchInterval = backendBatchMs * time.Millisecond
	// The data is thrown away afterwards; a slow disk must not delay elections.
	cfg.UnsafeNoFsync = true
	cfg.LogLevel = "panic"
	s.adjust(cfg)
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start embedded etcd in %s: %w", s.dir, err)
	}
	select {
	case <-etcd.Server.ReadyNotify():
		s.etcd = etcd
		return nil
	case err = <-etcd.Err():
	case <-time.After(readyTimeout):
		err = errors.New("it does not become ready")
	}
	etcd.Close()
	return fmt.Errorf("start embedded etcd in %s: %w", s.dir, err)
}

// Stop stops the server and waits until its ports are free.
func (s *Server) Stop() {
	s.etcd.Close()
	<-s.etcd.Server.StopNotify()
}

// Dir is where the data is.
func (s *Server) Dir() string { return s.dir }

func freeURL() (url.URL, error) {
	addr, err := FreeAddr()
	return url.URL{Scheme: "http", Host: addr}, err
}

// The ports of FreeAddr. The system gives the ports above to connections that it opens,
// and might take one of those before somebody listens on it.
const (
	firstPort, lastPort = 12000, 32000
	portTries           = 100
)

// FreeAddr returns a local address, host:port, on which nobody listens.
func FreeAddr() (string, error) {
	var failed error
	for range portTries {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort)))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
		failed = err
	}
	return "", fmt.Errorf("find a free port between %d and %d: %w", firstPort, lastPort, failed)
}
