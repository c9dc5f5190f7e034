package election

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// lease is a lease in etcd that is kept until it is over.
type lease struct {
	id     clientv3.LeaseID
	client *clientv3.Client
	ttl    time.Duration

	mu    sync.Mutex
	trust time.Time // until when etcd cannot let the lease run out
	err   error
	// over is closed when the lease cannot be relied on any more; err says why.
	over chan struct{}
}

// The parts of a TTL. A keepalive is sent every fifth of it, whether or not the
// ones before were answered, and trust ends a fifth before the lease can: a leader
// survives three lost keepalives, and stops leading before etcd lets another
// candidate win.
const (
	keepaliveParts = 5
	marginParts    = 5
)

// grant gets a lease, after those that this replica could not give back: their keys
// would be before the new one.
func (e *Etcd) grant(ctx context.Context, client *clientv3.Client, use string) (*lease, error) {
	for _, id := range e.old.of(use) {
		if err := e.giveBack(ctx, client, use, id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil, err
		}
	}
	// A request may be sent more than once: what counts is when the one that is answered was.
	return ask(ctx, e, "get a lease", func(ctx context.Context) (*lease, error) {
		sent := time.Now()
		res, err := client.Grant(ctx, int64(e.cfg.TTL.Seconds()))
		if err != nil {
			return nil, err
		}
		l := &lease{id: res.ID, client: client, ttl: e.cfg.TTL, over: make(chan struct{})}
		l.trustFrom(sent)
		return l, nil
	})
}

// giveBack revokes a lease of this replica, which deletes its keys. One that cannot be given back
// is remembered.
func (e *Etcd) giveBack(ctx context.Context, client *clientv3.Client, use string, id clientv3.LeaseID) error {
	_, err := ask(ctx, e, fmt.Sprintf("revoke the lease %x", id), func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) {
		return client.Revoke(ctx, id)
	})
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		e.old.add(use, id)
		return err
	}
	e.old.remove(use, id)
	return err
}

// leftovers are leases that could not be given back, by what they were for.
type leftovers struct {
	mu     sync.Mutex
	leases map[string]map[clientv3.LeaseID]bool
}

func (o *leftovers) of(use string) (ids []clientv3.LeaseID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id := range o.leases[use] {
		ids = append(ids, id)
	}
	return ids
}

func (o *leftovers) add(use string, id clientv3.LeaseID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leases[use] == nil {
		o.leases[use] = map[clientv3.LeaseID]bool{}
	}
	o.leases[use][id] = true
}

func (o *leftovers) remove(use string, id clientv3.LeaseID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.leases[use], id)
}

// keep sends keepalives until ctx ends or the lease is over.
func (l *lease) keep(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	next := time.NewTicker(l.ttl / keepaliveParts)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.over:
			return
		case <-next.C:
			asking.Go(func() { l.renew(ctx) })
		case <-time.After(time.Until(l.trusted())):
			if time.Now().After(l.trusted()) {
				l.end(ErrTrustExpired)
			}
		}
	}
}

// renew sends one keepalive. An answer that comes when trust is over is of no use.
func (l *lease) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), l.ttl-l.ttl/marginParts)
	defer cancel()
	sent := time.Now()
	_, err := l.client.KeepAliveOnce(ctx, l.id)
	switch {
	case err == nil:
		l.trustFrom(sent)
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		l.end(ErrLeaseLost)
	}
}

// trustFrom counts trust from the moment at which an answered request was sent.
func (l *lease) trustFrom(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := sent.Add(l.ttl - l.ttl/marginParts); until.After(l.trust) {
		l.trust = until
	}
}

// answered is when the last keepalive was sent that etcd answered.
func (l *lease) answered() time.Time { return l.trusted().Add(l.ttl/marginParts - l.ttl) }

func (l *lease) trusted() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trust
}

// end closes over. The first cause stays.
func (l *lease) end(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = cause
		close(l.over)
	}
}

// cause says why the lease is over, nil while it is not.
func (l *lease) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
