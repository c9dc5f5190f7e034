package app

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/store/admin"
)

// switchoverBound is how long a switchover may take for which somebody waits at a page.
const switchoverBound = 20 * time.Second

// shards changes what is done in shards, as commands do.
type shards struct{ a *App }

// lab is the lab as commands see it. The database is there before anybody may call.
func (s shards) lab() ops.Lab {
	return ops.Lab{Config: s.a.cfg, Main: admin.New(s.a.lab.Load().DB())}
}

// Pause implements api.Shards.
func (s shards) Pause(ctx context.Context, name string, by ops.By) error {
	return s.lab().PauseShard(ctx, name, by)
}

// Resume implements api.Shards.
func (s shards) Resume(ctx context.Context, name string, by ops.By) error {
	return s.lab().ResumeShard(ctx, name, by)
}

// Switchover implements api.Shards, over a connection of its own like clusterStatus.
func (s shards) Switchover(ctx context.Context, name, to string, by ops.By) (h ops.Handover, err error) {
	ctx, cancel := context.WithTimeout(ctx, switchoverBound)
	defer cancel()
	err = s.a.withEtcd(func(client *clientv3.Client) error {
		h, err = s.lab().Switchover(ctx, client, name, to, by)
		return err
	})
	return h, err
}

// withEtcd does something over a connection of its own.
func (a *App) withEtcd(work func(*clientv3.Client) error) error {
	client, err := a.cfg.EtcdConnection().Client()
	if err != nil {
		return err
	}
	return errors.Join(work(client), client.Close())
}
