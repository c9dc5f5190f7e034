package app

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/metrics"
	"github.com/hostsched/hostsched/internal/notify"
	"github.com/hostsched/hostsched/internal/queuetimes"
	"github.com/hostsched/hostsched/internal/replica"
)

const metricsFileInterval = 10 * time.Second

// report returns whom the replica tells what happens, and keeps what they do in
// the background.
func (a *App) report(m *metrics.Metrics) (replica.Observers, error) {
	observers := replica.Observers{m}
	c := a.cfg
	if len(c.Notify.To) > 0 {
		mailer, err := notify.New(notify.Config{
			To: c.Notify.To, From: c.Notify.From, Host: c.Notify.SMTPHost, Port: c.Notify.SMTPPort, User: c.Notify.SMTPUser, Password: c.Secret("notify.smtp_password").Read,
			Interval: c.Notify.Interval, Server: c.Server,
		}, a.log)
		if err != nil {
			return nil, fmt.Errorf("%w: notify: %w", config.ErrConfig, err)
		}
		observers = append(observers, mailer)
		a.reporters = append(a.reporters, mailer.Run)
	}
	if c.Metadata.URL != "" {
		reporter := queuetimes.New(queuetimes.Config{URL: c.Metadata.URL, Interval: c.Metadata.Interval}, a.log)
		m.Metadata(reporter.Sent, reporter.Dropped)
		a.metadataFault = reporter.Fault
		observers = append(observers, reporter)
		a.reporters = append(a.reporters, reporter.Run)
	}
	if c.Metrics.File != "" {
		if err := m.WriteFile(c.Metrics.File); err != nil {
			return nil, fmt.Errorf("%w: metrics.file: %w", config.ErrConfig, err)
		}
		a.reporters = append(a.reporters, func(ctx context.Context) { keepFile(ctx, m, c.Metrics.File, a.log) })
	}
	return observers, nil
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
