package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/ops"
)

// Shards changes what is done in shards, by the rules of the commands 'hostsched shard'.
type Shards interface {
	Pause(ctx context.Context, name string, by ops.By) error
	Resume(ctx context.Context, name string, by ops.By) error
	// Switchover waits until the other server leads.
	Switchover(ctx context.Context, name, to string, by ops.By) (ops.Handover, error)
}

// ShardPath names a shard.
type ShardPath struct {
	Shard string `path:"shard" minLength:"1" maxLength:"190"`
}

// shardRoutes are what administrators do with shards.
func (a *API) shardRoutes() {
	for _, c := range []struct {
		path, summary string
		do            func(Shards, context.Context, string, ops.By) error
	}{
		{"pause", "Stop scheduling in a shard, which keeps its leader", Shards.Pause},
		{"resume", "Continue scheduling in a paused shard", Shards.Resume},
	} {
		op := operation(c.path+"-shard", http.MethodPost, "/shards/{shard}/"+c.path, "cluster", c.summary)
		op.DefaultStatus = http.StatusNoContent
		route(a, access.Administering, op, func(ctx context.Context, _ *lab.Lab, in *struct {
			ShardPath
			Body labapi.ShardChange
		}) (*nothing, error) {
			if a.cfg.Shards == nil {
				return nil, notReady()
			}
			who, err := by(ctx, in.Body.Reason)
			if err != nil {
				return nil, err
			}
			err = c.do(a.cfg.Shards, ctx, in.Shard, who)
			a.shardChanged(in.Shard, err)
			return nil, err
		})
	}
	op := operation("switchover-shard", http.MethodPost, "/shards/{shard}/switchover", "cluster", "Hand a shard over to another server, and wait until that leads")
	op.DefaultStatus = http.StatusOK
	route(a, access.Administering, op, func(ctx context.Context, _ *lab.Lab, in *struct {
		ShardPath
		Body labapi.Switchover
	}) (*body[labapi.Handover], error) {
		if a.cfg.Shards == nil {
			return nil, notReady()
		}
		who, err := by(ctx, in.Body.Reason)
		if err != nil {
			return nil, err
		}
		h, err := a.cfg.Shards.Switchover(ctx, in.Shard, in.Body.To, who)
		a.shardChanged(in.Shard, err)
		return answer(labapi.Handover{Shard: h.Shard.String(), From: h.From, To: h.To, Unchanged: h.Unchanged, Millis: h.Took.Milliseconds()}, err)
	})
}

// by is who calls, with a reason that others can read.
func by(ctx context.Context, reason string) (ops.By, error) {
	who := ops.By{Who: callerOf(ctx).Login, Reason: strings.TrimSpace(reason)}
	return who, lab.CheckReason(who.Reason, true)
}

// shardChanged lets whoever asks next see a change of a shard, and its leader act on it at once.
func (a *API) shardChanged(name string, err error) {
	if err != nil {
		return
	}
	a.clusterStatus.forget()
	a.wake(name)
}
