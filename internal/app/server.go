package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/oklog/run"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/metrics"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// Bounds of a server process.
const (
	httpHeaderTimeout   = 5 * time.Second
	httpShutdownTimeout = 2 * time.Second
)

// RunServer runs one replica until ctx ends or a signal comes.
func RunServer(ctx context.Context, c *Config, version string, logTo io.Writer) error {
	db, err := OpenChecked(ctx, c)
	if err != nil {
		return err
	}
	err = serve(ctx, c, shard.Name(c.Shard), version, db, c.Logger(logTo))
	return errors.Join(err, db.Close())
}

// OpenChecked opens the database and makes sure that its schema fits.
func OpenChecked(ctx context.Context, c *Config) (*store.DB, error) {
	db, err := store.Open(ctx, c.Store())
	if err != nil {
		return nil, err
	}
	if err := db.Check(ctx, c.RespectStaticLabels); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func serve(ctx context.Context, c *Config, name shard.Name, version string, db *store.DB, log hclog.Logger) error {
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("%w: listen: %w; choose another address with --listen", ErrConfig, err)
	}
	if c.Advertise == "" {
		c.Advertise = listener.Addr().String()
	}
	campaigner, err := c.campaigner()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	holder, err := holderName(c.Server)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	m := metrics.New()
	m.Serves(name)
	rep := replica.New(replica.Config{Scope: c.Scope(), Holder: holder, MinTick: c.MinTick, InspectEvery: c.AuditEvery}, campaigner, db, m, log)
	handler := web.Handler(web.Config{
		Server: c.Server, Version: version, Metrics: m.Handler(),
		Status:   func() []replica.Status { return []replica.Status{rep.Status()} },
		Recorder: rep.Holdings,
	})
	log.Info("starting", "server", c.Server, "database", db.Target(), "database server", db.Server(), "etcd", c.EtcdEndpoints, "listen", listener.Addr())
	return runGroup(ctx, listener, handler, rep, log)
}

// runGroup starts everything and stops everything when the first part ends: on
// a signal the replica finishes its apply and resigns.
func runGroup(ctx context.Context, listener net.Listener, handler http.Handler, rep *replica.Replica, log hclog.Logger) error {
	var g run.Group
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	stop := make(chan struct{})
	g.Add(func() error {
		select {
		case s := <-signals:
			log.Info("stopping: finishing the tick and handing over", "signal", s)
		case <-ctx.Done():
		case <-stop:
		}
		return nil
	}, func(error) { close(stop) })

	server := &http.Server{Handler: handler, ReadHeaderTimeout: httpHeaderTimeout}
	g.Add(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}, func(error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpShutdownTimeout)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			log.Warn("closing connections", "error", err)
		}
	})

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.Add(func() error {
		rep.Run(ctx)
		return nil
	}, func(error) { cancel() })
	return g.Run()
}

func (c *Config) campaigner() (*election.Etcd, error) {
	client, err := c.EtcdClient()
	if err != nil {
		return nil, err
	}
	e, err := election.NewEtcd(election.EtcdConfig{Client: client, Cluster: c.Cluster, Server: c.Server, Address: c.Advertise, TTL: c.EtcdTTL})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return e, nil
}

// EtcdClient is the part of the configuration that reaches etcd.
func (c *Config) EtcdClient() (clientv3.Config, error) {
	cfg := clientv3.Config{Endpoints: c.EtcdEndpoints, Username: c.EtcdUser, Password: c.EtcdPassword}
	if c.EtcdCertFile == "" && c.EtcdCAFile == "" {
		return cfg, nil
	}
	info := transport.TLSInfo{CertFile: c.EtcdCertFile, KeyFile: c.EtcdKeyFile, TrustedCAFile: c.EtcdCAFile}
	tls, err := info.ClientConfig()
	if err != nil {
		return cfg, fmt.Errorf("%w: TLS for etcd: %w", ErrConfig, err)
	}
	cfg.TLS = tls
	return cfg, nil
}

// holderName is unique per process: a restarted replica must not pass for its
// former self.
func holderName(server string) (string, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s/%d/%s", server, os.Getpid(), hex.EncodeToString(b[:])), nil
}

// Logger returns the process's logger.
func (c *Config) Logger(to io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "hostsched", Level: hclog.LevelFromString(c.LogLevel), JSONFormat: c.LogFormat == "json", Output: to, TimeFormat: time.RFC3339Nano,
	})
}
