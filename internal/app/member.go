package app

import (
	"context"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/internal/embedetcd"
)

// runMember runs this server's member of etcd until ctx ends or the member fails.
func (a *App) runMember(ctx context.Context) error {
	m, err := a.startMember(ctx)
	if err != nil || m == nil {
		return err
	}
	defer m.Close()
	if a.cfg.Standalone {
		if err := m.ForgetLeases(ctx); err != nil {
			return err
		}
		close(a.etcdReady)
	}
	return m.Run(ctx)
}

// startMember starts the member. One that joins a cluster waits for the members that are
// there; nil means that ctx ended first.
func (a *App) startMember(ctx context.Context) (*embedetcd.Member, error) {
	cfg, err := a.cfg.EtcdMember()
	if err != nil {
		return nil, err
	}
	cfg.Log = a.log.Named("etcd")
	for {
		m, err := embedetcd.StartMember(cfg)
		if err == nil {
			return m, nil
		}
		if !cfg.Existing || embedetcd.HasData(cfg.Dir) {
			return nil, err
		}
		a.faults.Warn("waiting for the members of etcd that this one should join", "reason", err)
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(retryInterval):
		}
	}
}

// waitForOwnEtcd waits until the etcd of a standalone server is there; false means that ctx
// ended first. Other replicas wait for etcd later, as for any that is away.
func (a *App) waitForOwnEtcd(ctx context.Context) bool {
	if !a.cfg.Standalone {
		return true
	}
	a.waiting.Store(fmt.Sprintf("its etcd in %s starts", a.cfg.Etcd.DataDir))
	select {
	case <-a.etcdReady:
		return true
	case <-ctx.Done():
		return false
	}
}
