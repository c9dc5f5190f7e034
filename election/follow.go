package election

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// watchPause is the pause before an interrupted watch begins again.
	watchPause = 200 * time.Millisecond
	// maxLook is how long a watch is believed at most.
	maxLook = 2 * time.Second
	// lookHedge is after how long a look that was not answered is tried again.
	lookHedge = 500 * time.Millisecond
)

// keys are the keys under a prefix at one moment.
type keys struct {
	kvs map[string]*mvccpb.KeyValue
	// revision is that of etcd; cluster identifies it.
	revision int64
	cluster  uint64
}

func (k *keys) apply(events []*clientv3.Event) {
	for _, e := range events {
		if e.Type == mvccpb.DELETE {
			delete(k.kvs, string(e.Kv.Key))
			continue
		}
		k.kvs[string(e.Kv.Key)] = e.Kv
	}
}

// same tells whether nothing changed for those who follow the keys.
func (k *keys) same(other *keys) bool {
	return other != nil && k.cluster == other.cluster && maps.EqualFunc(k.kvs, other.kvs, func(a, b *mvccpb.KeyValue) bool {
		return a.CreateRevision == b.CreateRevision && a.Lease == b.Lease && bytes.Equal(a.Value, b.Value)
	})
}

// look reads the keys under a prefix.
func look(ctx context.Context, client *clientv3.Client, prefix string, hedged time.Duration) (*keys, error) {
	res, err := hedge(ctx, hedged, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.Get(ctx, prefix, clientv3.WithPrefix())
	})
	if err != nil {
		return nil, err
	}
	k := &keys{kvs: map[string]*mvccpb.KeyValue{}, revision: res.Header.Revision, cluster: res.Header.ClusterId}
	for _, kv := range res.Kvs {
		k.kvs[string(kv.Key)] = kv
	}
	return k, nil
}

// follower follows the keys under a prefix. It watches them, and besides reads them
// again and again, because a watch alone may stay silent: a member that hangs, or
// that lost its peers, sends nothing, and after etcd was restored from a backup a
// watch waits for a revision that is still far away.
type follower struct {
	client *clientv3.Client
	prefix string
	// ttl is the one of the leases that the keys belong to.
	ttl  time.Duration
	last *keys
}

// run calls each with the keys, first at the beginning and then whenever they
// change, until each returns true or ctx ends. While etcd does not answer, each gets
// the error instead.
func (f *follower) run(ctx context.Context, each func(*keys, error) (enough bool)) {
	for ctx.Err() == nil {
		enough, again := f.once(ctx, each)
		if enough {
			return
		}
		if again {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

// once looks and then watches for a while. again is false if something was wrong.
func (f *follower) once(ctx context.Context, each func(*keys, error) bool) (enough, again bool) {
	bound, done := context.WithTimeout(ctx, f.ttl)
	now, err := look(bound, f.client, f.prefix, f.ttl/keepaliveParts)
	done()
	if ctx.Err() != nil {
		return true, false
	}
	if err != nil {
		return each(nil, err), false
	}
	if !now.same(f.last) {
		f.last = now
		if each(now, nil) {
			return true, false
		}
	}
	watched, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), min(f.ttl/2, maxLook))
	defer cancel()
	for res := range f.client.Watch(watched, f.prefix, clientv3.WithPrefix(), clientv3.WithRev(now.revision+1)) {
		if res.Err() != nil {
			break
		}
		f.last.apply(res.Events)
		if len(res.Events) > 0 && each(f.last, nil) {
			return true, false
		}
	}
	return false, errors.Is(watched.Err(), context.DeadlineExceeded)
}
