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
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/oklog/run"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/cluster"
	"github.com/hostsched/hostsched/internal/metrics"
	"github.com/hostsched/hostsched/internal/notify"
	"github.com/hostsched/hostsched/internal/queuetimes"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// Bounds of a server process.
const (
	httpHeaderTimeout   = 5 * time.Second
	httpShutdownTimeout = 2 * time.Second
	metricsFileInterval = 10 * time.Second
)

// RunServer runs one replica until ctx ends or a signal comes.
func RunServer(ctx context.Context, c *Config, version string, logTo io.Writer) error {
	if err := c.PrintTaken(logTo); err != nil {
		return err
	}
	db, err := OpenChecked(ctx, c)
	if err != nil {
		return err
	}
	servers, closeServers, err := c.OpenServers(ctx, db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	err = serve(ctx, c, version, cluster.Databases{Main: db, Servers: servers, Open: c.openShard}, c.Logger(logTo))
	return errors.Join(err, closeServers(), db.Close())
}

// OpenChecked opens the database and makes sure that its schema fits.
func OpenChecked(ctx context.Context, c *Config) (*store.DB, error) {
	return c.openChecked(ctx, c.Store(), c.Shared())
}

func (c *Config) openChecked(ctx context.Context, cfg store.Config, shared bool) (*store.DB, error) {
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := db.Check(ctx, store.Use{StaticLabels: c.RespectStaticLabels, Shared: shared}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openShard opens the database that a shard has of its own.
func (c *Config) openShard(ctx context.Context, name shard.Name, dsn string) (*store.DB, error) {
	cfg, err := c.ShardStore(name, dsn)
	if err != nil {
		return nil, err
	}
	return c.openChecked(ctx, cfg, false)
}

// CheckShard makes sure that a database can be a shard's own.
func (c *Config) CheckShard(ctx context.Context, name shard.Name, dsn string) error {
	db, err := c.openShard(ctx, name, dsn)
	if err != nil {
		return fmt.Errorf("the database for shard %s: %w", name, err)
	}
	return db.Close()
}

// OpenServers finds the database with the servers table: one of its own, the
// main one, or none.
func (c *Config) OpenServers(ctx context.Context, main *store.DB) (servers *store.DB, closer func() error, err error) {
	closer = func() error { return nil }
	cfg, own := c.ServersStore()
	servers = main
	if own {
		if servers, err = store.Open(ctx, cfg); err != nil {
			return nil, closer, fmt.Errorf("the database of servers and roles: %w", err)
		}
		closer = servers.Close
	}
	there, err := servers.HasServers(ctx)
	switch {
	case err == nil && there:
		return servers, closer, nil
	case err == nil && own:
		err = fmt.Errorf("%w: %s has no servers table; check servers.dsn", store.ErrSchema, servers.Target())
	case err == nil:
		return nil, closer, nil
	}
	return nil, closer, errors.Join(err, closer())
}

func serve(ctx context.Context, c *Config, version string, db cluster.Databases, log hclog.Logger) error {
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
	reporting, err := c.reporting(m, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	controller := cluster.New(cluster.Config{
		Server: c.Server, Version: version, Weight: c.Weight, HoldOff: c.HoldOff, Only: shard.Name(c.Shard), Found: m.Serves,
		Replica: replica.Config{Scope: c.Scope(), Holder: holder, MinTick: c.MinTick, InspectEvery: c.AuditEvery},
	}, campaigner, db, reporting.observers, log)
	handler := web.Handler(web.Config{
		Server: c.Server, Version: version, Metrics: m.Handler(),
		Status: controller.Status, Role: controller.Role, NotServed: controller.NotServed, Recorder: controller.Holdings,
	})
	log.Info("starting", "server", c.Server, "database", db.Main.Target(), "database server", db.Main.Server(), "etcd", c.EtcdEndpoints, "listen", listener.Addr())
	return c.runGroup(ctx, listener, handler, controller, reporting.background, log)
}

// reporting are the observers of a replica and what they do in the background.
type reporting struct {
	observers  replica.Observers
	background []func(context.Context)
}

func (c *Config) reporting(m *metrics.Metrics, log hclog.Logger) (reporting, error) {
	r := reporting{observers: replica.Observers{m}}
	if len(c.NotifyTo) > 0 {
		mailer, err := notify.New(notify.Config{
			To: c.NotifyTo, From: c.NotifyFrom, Host: c.SMTPHost, Port: c.SMTPPort, User: c.SMTPUser, Password: c.SMTPPassword,
			Interval: c.NotifyInterval, Server: c.Server,
		}, log)
		if err != nil {
			return r, fmt.Errorf("%w: notify: %w", ErrConfig, err)
		}
		r.observers = append(r.observers, mailer)
		r.background = append(r.background, mailer.Run)
	}
	if c.MetadataURL != "" {
		reporter := queuetimes.New(queuetimes.Config{URL: c.MetadataURL, Interval: c.MetadataInterval}, log)
		m.Metadata(reporter.Sent, reporter.Dropped)
		r.observers = append(r.observers, reporter)
		r.background = append(r.background, reporter.Run)
	}
	if c.MetricsFile != "" {
		if err := m.WriteFile(c.MetricsFile); err != nil {
			return r, fmt.Errorf("%w: metrics.file: %w", ErrConfig, err)
		}
		r.background = append(r.background, func(ctx context.Context) { keepFile(ctx, m, c.MetricsFile, log) })
	}
	return r, nil
}

// keepFile writes the metrics file again and again, and once more at the end.
func keepFile(ctx context.Context, m *metrics.Metrics, path string, log hclog.Logger) {
	tick := time.NewTicker(metricsFileInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if err := m.WriteFile(path); err != nil {
			log.Warn("writing the metrics file", "error", err)
		}
	}
}

// runGroup starts everything and stops everything when the first part ends: on
// a signal, or at the end of its lifetime, the replica finishes its apply and
// resigns; then what it still has to report is sent.
func (c *Config) runGroup(ctx context.Context, listener net.Listener, handler http.Handler, controller *cluster.Controller, background []func(context.Context), log hclog.Logger) error {
	reports, endReports := context.WithCancel(context.WithoutCancel(ctx))
	defer endReports()
	var reporters sync.WaitGroup
	for _, report := range background {
		reporters.Go(func() { report(reports) })
	}
	var g run.Group
	stop := make(chan struct{})
	g.Add(func() error {
		c.waitForEnd(ctx, stop, log)
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

	running, cancel := context.WithCancel(ctx)
	defer cancel()
	g.Add(func() error {
		controller.Run(running)
		return nil
	}, func(error) { cancel() })
	err := g.Run()
	endReports()
	reporters.Wait()
	return err
}

// waitForEnd returns on SIGINT or SIGTERM, at the end of the lifetime, or when
// something else ended.
func (c *Config) waitForEnd(ctx context.Context, stop <-chan struct{}, log hclog.Logger) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	var over <-chan time.Time
	if c.LifetimeHours > 0 {
		timer := time.NewTimer(time.Duration(c.LifetimeHours * float64(time.Hour)))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case s := <-signals:
		log.Info("stopping: finishing the tick and handing over", "signal", s)
	case <-over:
		log.Info("stopping: the lifetime is over", "hours", c.LifetimeHours)
	case <-ctx.Done():
	case <-stop:
	}
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
