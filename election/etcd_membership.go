package election

import (
	"context"
	"errors"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// Join prepares this replica's membership in the cluster. each is called with
// what etcd says about the cluster, first at the beginning and then whenever that
// changes, always by one goroutine.
func (e *Etcd) Join(p Presence, each func(View)) *Membership {
	p.Server, p.Holder, p.Address = e.cfg.Server, e.cfg.Holder, e.cfg.Address
	return newMembership(p, func(ctx context.Context, m *Membership) error { return e.keepMember(ctx, m, each) }, e.revoke)
}

// revoke ends a lease of any replica. One that is gone already is no error.
func (e *Etcd) revoke(ctx context.Context, lease int64) error {
	client := e.member.Load()
	if client == nil {
		return ErrNotYet
	}
	_, err := client.Revoke(ctx, clientv3.LeaseID(lease))
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}

func (e *Etcd) keepMember(ctx context.Context, m *Membership, each func(View)) (err error) {
	client, err := clientv3.New(e.cfg.Client)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	e.member.Store(client)
	defer e.member.Store(nil)
	granted, cancel := context.WithTimeout(ctx, e.cfg.TTL)
	lease, err := client.Grant(granted, int64(e.cfg.TTL.Seconds()))
	cancel()
	if err != nil {
		return err
	}
	// The session must outlive ctx, because it is ended by revoking the lease.
	session, err := concurrency.NewSession(client, concurrency.WithLease(lease.ID), concurrency.WithContext(context.WithoutCancel(ctx)))
	if err != nil {
		return err
	}
	defer func() {
		bound, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		session.Orphan()
		_, rerr := client.Revoke(bound, lease.ID)
		err = errors.Join(err, rerr)
	}()
	var watching sync.WaitGroup
	watched, stop := context.WithCancel(ctx)
	defer watching.Wait()
	defer stop()
	watching.Go(func() { watch(watched, client, e.cfg.Cluster, each) })
	return m.keepPut(ctx, session.Done(), func(value string) error {
		bound, cancel := context.WithTimeout(ctx, e.cfg.TTL)
		defer cancel()
		_, err := client.Put(bound, ServersPrefix(e.cfg.Cluster)+e.cfg.Server, value, clientv3.WithLease(lease.ID))
		return err
	})
}
