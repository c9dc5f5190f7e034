package app

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/agentapi"
	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/console"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/signin"
	"github.com/hostsched/hostsched/shard"
)

func (a *App) apiConfig() api.Config {
	c := api.Config{Version: a.version, Lab: a.lab.Load, Runs: a.runs.Load, Waiting: a.waitingFor, Wake: a.wake, Rate: a.cfg.API.Rate, Served: a.metrics.Served, LoginFailed: a.metrics.LoginFailed, MaxPriority: a.cfg.API.MaxPriority, Cluster: a.clusterStatus, Shards: shards{a}, Log: a.log.Named("api")}
	switch {
	case a.cfg.API.Auth == "none":
		c.Anonymous = access.Admin
	case a.cfg.API.Anonymous == access.Viewer.String():
		c.Anonymous = access.Viewer
	}
	c.SignIn = a.signIn()
	if a.tracer != nil {
		c.Submitted, c.TraceShare = a.tracer.Submitted, a.cfg.Tracing.Share
	}
	return c
}

// consoleConfig is that of the console, which is made of what the API answers.
func (a *App) consoleConfig(calls *api.API) console.Config {
	return console.Config{
		Server: a.cfg.Server, Version: a.version, API: calls, Lab: a.lab.Load, Waiting: a.waitingFor, Watch: calls.Watch(),
		SignIn: a.cfg.OIDC.Issuer != "", Session: a.cfg.OIDC.Session, Log: a.log.Named("console"),
	}
}

func (a *App) agentConfig(calls *api.API) agentapi.Config {
	return agentapi.Config{
		Version: a.version, Lab: a.lab.Load, Runs: a.runs.Load, Waiting: a.waitingFor, Wake: a.wakeAll, Watch: calls.Watch(),
		Rate: a.cfg.API.Rate, Served: a.metrics.Served, LoginFailed: a.metrics.LoginFailed, Log: a.log.Named("agents"),
	}
}

// wakeAll wakes the leaders of all shards that this replica knows.
func (a *App) wakeAll() {
	if c := a.controller.Load(); c != nil {
		for _, st := range c.Status() {
			c.Wake(st.Shard)
		}
	}
}

// ringer lets agents look for work as soon as a tick of this replica has given hosts out.
type ringer struct {
	replica.Silent
	ring func()
}

// Ticked implements replica.Observer.
func (r ringer) Ticked(_ shard.Name, report replica.Report) {
	if report.Result.Transactions > 0 {
		r.ring()
	}
}

// clusterStatus says who leads what, over a connection of its own: it is asked for seldom, and
// must tell also what the replica itself cannot see any more.
func (a *App) clusterStatus(ctx context.Context) (status ops.ClusterStatus, err error) {
	err = a.withEtcd(func(client *clientv3.Client) (err error) {
		reader := ops.NewStatusReader(a.cfg, client)
		status, err = reader.Read(ctx)
		return errors.Join(err, reader.Close())
	})
	return status, err
}

// signIn returns how people log in at the identity provider, nil if there is none.
func (a *App) signIn() *api.SignIn {
	o := a.cfg.OIDC
	if o.Issuer == "" {
		return nil
	}
	least := access.User
	if o.Least == access.Viewer.String() {
		least = access.Viewer
	}
	return &api.SignIn{
		URL: a.cfg.API.URL, Least: least, For: o.Session,
		Provider: signin.New(signin.Config{
			Issuer: o.Issuer, Scopes: o.Scopes, UserClaim: o.UserClaim, GroupsClaim: o.GroupsClaim,
			ClientID: o.ClientID, Secret: a.cfg.Secret("oidc.client_secret").Read,
			DeviceClientID: o.DeviceClientID, DeviceSecret: a.cfg.Secret("oidc.device_client_secret").Read,
		}),
	}
}
