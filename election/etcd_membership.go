package election

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Join prepares this replica's membership in the cluster. each is called with
// what etcd says about the cluster, first at the beginning and then whenever that
// changes, always by one goroutine.
func (e *Etcd) Join(p Presence, each func(View)) *Membership {
	p.Server, p.Holder, p.Address = e.cfg.Server, e.cfg.Holder, e.cfg.Address
	return newMembership(p, func(ctx context.Context, m *Membership) error {
		return e.cfg.Etcd.Explain(ctx, e.keepMember(ctx, m, each))
	}, e.revoke)
}

// revoke ends a lease of any replica. One that is gone already is no error.
func (e *Etcd) revoke(ctx context.Context, lease int64) error {
	client := e.member.Load()
	if client == nil {
		return ErrNotYet
	}
	_, err := ask(ctx, e, fmt.Sprintf("revoke the lease %x", lease), func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) {
		return client.Revoke(ctx, clientv3.LeaseID(lease))
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}

// forMember is what the lease of a membership is for; no shard is named so.
const forMember = ""

func (e *Etcd) keepMember(ctx context.Context, m *Membership, each func(View)) (err error) {
	began := time.Now()
	var got atomic.Pointer[lease]
	var saying sync.WaitGroup
	asked, enough := context.WithCancel(ctx)
	defer saying.Wait()
	defer enough()
	saying.Go(func() {
		e.sayWhy(asked, m, func() time.Time {
			if l := got.Load(); l != nil {
				return l.answered()
			}
			return began
		})
	})
	client, err := e.cfg.Etcd.Client()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	e.member.Store(client)
	defer e.member.Store(nil)
	l, err := e.grant(ctx, client, forMember)
	if err != nil {
		return err
	}
	got.Store(l)
	// The lease must outlive ctx, because it is ended by revoking it.
	kept, end := context.WithCancel(context.WithoutCancel(ctx))
	watched, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer end()
	defer func() {
		bound, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		err = errors.Join(err, e.giveBack(bound, client, forMember, l.id))
	}()
	defer stop()
	running.Go(func() { l.keep(kept) })
	running.Go(func() { e.watchCluster(watched, client, m, each) })
	if err := m.keepPut(ctx, l.over, func(value string) error { return e.putMember(ctx, client, l, value) }); err != nil {
		return errors.Join(l.cause(), err)
	}
	return nil
}

// watchCluster calls each with every view. When nobody has the key of this server any
// more, it is time to write it.
func (e *Etcd) watchCluster(ctx context.Context, client *clientv3.Client, m *Membership, each func(View)) {
	f := &follower{client: client, prefix: ClusterPrefix(e.cfg.Cluster), ttl: e.cfg.TTL}
	f.run(ctx, func(now *keys, err error) bool {
		if err != nil {
			return false // the lease ends the membership in time
		}
		if now.kvs[ServersPrefix(e.cfg.Cluster)+e.cfg.Server] == nil {
			m.again()
		}
		each(viewOf(e.cfg.Cluster, now.kvs))
		return false
	})
}

// putMember writes the key of this server, unless it belongs to the lease of another
// replica. A key without lease is nobody's.
func (e *Etcd) putMember(ctx context.Context, client *clientv3.Client, l *lease, value string) error {
	key := ServersPrefix(e.cfg.Cluster) + e.cfg.Server
	put, get := clientv3.OpPut(key, value, clientv3.WithLease(l.id)), clientv3.OpGet(key)
	mine := clientv3.Compare(clientv3.LeaseValue(key), "=", l.id)
	nobodys := clientv3.Compare(clientv3.LeaseValue(key), "=", clientv3.NoLease) // also of a key that is not there
	res, err := ask(ctx, e, "write the key "+key, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return client.Txn(ctx).If(mine).Then(put).Else(clientv3.OpTxn([]clientv3.Cmp{nobodys}, []clientv3.Op{put}, []clientv3.Op{get})).Commit()
	})
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return ErrLeaseLost
	case err != nil && Refused(err):
		return e.refused(err)
	case err != nil || res.Succeeded:
		return err
	}
	other := res.Responses[0].GetResponseTxn()
	if other.Succeeded {
		return nil
	}
	return nameTaken(e.cfg.Server, readPresence(other.Responses[0].GetResponseRange().Kvs[0]))
}

// refused is for a user or password that etcd does not take any more. If a new client
// would be let in, what was configured is in order again, and it is time for one.
func (e *Etcd) refused(err error) error {
	client, cerr := e.cfg.Etcd.Client()
	if cerr != nil {
		return err
	}
	return errors.Join(fmt.Errorf("%w: %w", errReconnect, err), client.Close())
}

// errReconnect: another client is needed.
var errReconnect = errors.New("connecting to etcd again")
