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

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/cluster"
	"github.com/hostsched/hostsched/internal/config"
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
func RunServer(ctx context.Context, c *config.Config, version string, logTo io.Writer) error {
	if err := c.PrintTaken(logTo); err != nil {
		return err
	}
	db, err := OpenChecked(ctx, c)
	if err != nil {
		return err
	}
	servers, closeServers, err := OpenServers(ctx, c, db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	open := func(ctx context.Context, name shard.Name, dsn string) (*store.DB, error) {
		return OpenShard(ctx, c, name, dsn)
	}
	err = serve(ctx, c, version, cluster.Databases{Main: db, Servers: servers, Open: open}, c.Logger(logTo))
	return errors.Join(err, closeServers(), db.Close())
}

func serve(ctx context.Context, c *config.Config, version string, db cluster.Databases, log hclog.Logger) error {
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("%w: listen: %w; choose another address with --listen", config.ErrConfig, err)
	}
	if c.Advertise == "" {
		c.Advertise = listener.Addr().String()
	}
	campaigner, err := newCampaigner(c)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	holder, err := holderName(c.Server)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	m := metrics.New()
	reporting, err := newReporting(c, m, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	member := cluster.New(cluster.Config{
		Server: c.Server, Version: version, Weight: c.Placement.Weight, HoldOff: c.Placement.HoldOff, Only: shard.Name(c.Shard), Found: m.Serves,
		Replica: replica.Config{Scope: c.Scope(), Holder: holder, MinTick: c.Tick.Min, InspectEvery: c.Audit.Every},
	}, campaigner, db, reporting.observers, log)
	handler := web.Handler(web.Config{
		Server: c.Server, Version: version, Metrics: m.Handler(),
		Status: member.Status, Role: member.Role, Recorder: member.Holdings,
	})
	log.Info("starting", "server", c.Server, "database", db.Main.Target(), "database server", db.Main.Server(), "etcd", c.Etcd.Endpoints, "listen", listener.Addr())
	return runGroup(ctx, c, listener, handler, member, reporting.background, log)
}

// reporting are the observers of a replica and what they do in the background.
type reporting struct {
	observers  replica.Observers
	background []func(context.Context)
}

func newReporting(c *config.Config, m *metrics.Metrics, log hclog.Logger) (reporting, error) {
	r := reporting{observers: replica.Observers{m}}
	if len(c.Notify.To) > 0 {
		mailer, err := notify.New(notify.Config{
			To: c.Notify.To, From: c.Notify.From, Host: c.Notify.SMTPHost, Port: c.Notify.SMTPPort, User: c.Notify.SMTPUser, Password: c.Notify.SMTPPassword,
			Interval: c.Notify.Interval, Server: c.Server,
		}, log)
		if err != nil {
			return r, fmt.Errorf("%w: notify: %w", config.ErrConfig, err)
		}
		r.observers = append(r.observers, mailer)
		r.background = append(r.background, mailer.Run)
	}
	if c.Metadata.URL != "" {
		reporter := queuetimes.New(queuetimes.Config{URL: c.Metadata.URL, Interval: c.Metadata.Interval}, log)
		m.Metadata(reporter.Sent, reporter.Dropped)
		r.observers = append(r.observers, reporter)
		r.background = append(r.background, reporter.Run)
	}
	if c.Metrics.File != "" {
		if err := m.WriteFile(c.Metrics.File); err != nil {
			return r, fmt.Errorf("%w: metrics.file: %w", config.ErrConfig, err)
		}
		r.background = append(r.background, func(ctx context.Context) { keepFile(ctx, m, c.Metrics.File, log) })
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
func runGroup(ctx context.Context, c *config.Config, listener net.Listener, handler http.Handler, member *cluster.Member, background []func(context.Context), log hclog.Logger) error {
	reports, endReports := context.WithCancel(context.WithoutCancel(ctx))
	defer endReports()
	var reporters sync.WaitGroup
	for _, report := range background {
		reporters.Go(func() { report(reports) })
	}
	var g run.Group
	stop := make(chan struct{})
	g.Add(func() error {
		waitForEnd(ctx, c, stop, log)
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
		member.Run(running)
		return nil
	}, func(error) { cancel() })
	err := g.Run()
	endReports()
	reporters.Wait()
	return err
}

// waitForEnd returns on SIGINT or SIGTERM, at the end of the lifetime, or when
// something else ended.
func waitForEnd(ctx context.Context, c *config.Config, stop <-chan struct{}, log hclog.Logger) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	var over <-chan time.Time
	if c.Lifetime.Hours > 0 {
		timer := time.NewTimer(time.Duration(c.Lifetime.Hours * float64(time.Hour)))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case s := <-signals:
		log.Info("stopping: finishing the tick and handing over", "signal", s)
	case <-over:
		log.Info("stopping: the lifetime is over", "hours", c.Lifetime.Hours)
	case <-ctx.Done():
	case <-stop:
	}
}

func newCampaigner(c *config.Config) (*election.Etcd, error) {
	client, err := c.EtcdClient()
	if err != nil {
		return nil, err
	}
	e, err := election.NewEtcd(election.EtcdConfig{Client: client, Cluster: c.Cluster, Server: c.Server, Address: c.Advertise, TTL: c.Etcd.TTL})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", config.ErrConfig, err)
	}
	return e, nil
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
