package app

import (
	"context"
	"errors"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/signin"
)

func (a *App) apiConfig() api.Config {
	c := api.Config{Version: a.version, Lab: a.lab.Load, Runs: a.runs.Load, Waiting: a.waitingFor, Wake: a.wake, Rate: a.cfg.API.Rate, Served: a.metrics.Served, LoginFailed: a.metrics.LoginFailed, MaxPriority: a.cfg.API.MaxPriority, Cluster: a.clusterStatus, Log: a.log.Named("api")}
	switch {
	case a.cfg.API.Auth == "none":
		c.Anonymous = access.Admin
	case a.cfg.API.Anonymous == access.Viewer.String():
		c.Anonymous = access.Viewer
	}
	c.SignIn = a.signIn()
	return c
}

// clusterStatus says who leads what, over a connection of its own: it is asked for seldom, and
// must tell also what the replica itself cannot see any more.
func (a *App) clusterStatus(ctx context.Context) (status ops.ClusterStatus, err error) {
	client, err := a.cfg.EtcdConnection().Client()
	if err != nil {
		return status, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	reader := ops.NewStatusReader(a.cfg, client)
	defer func() { err = errors.Join(err, reader.Close()) }()
	return reader.Read(ctx)
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
