package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/ops"
)

// overviewRoutes say how the lab is as a whole.
func (a *API) overviewRoutes() {
	route(a, access.Reading, operation("get-summary", http.MethodGet, "/summary", "overview", "The lab in a few numbers"),
		func(ctx context.Context, l *lab.Lab, _ *struct{}) (*body[labapi.Summary], error) {
			return answer(a.summary.get(ctx, l.Summary))
		})
	route(a, access.Reading, operation("list-attention", http.MethodGet, "/attention", "overview", "What somebody should look after"),
		func(ctx context.Context, l *lab.Lab, _ *struct{}) (*body[labapi.Page[labapi.Attention]], error) {
			items, err := a.attention.get(ctx, func(ctx context.Context) ([]labapi.Attention, error) { return a.needsAttention(ctx, l) })
			return answer(labapi.Page[labapi.Attention]{Items: items}, err)
		})
	route(a, access.Reading, operation("list-queue", http.MethodGet, "/queue", "overview", "Waiting queue entries by what they ask for, and why they wait"),
		func(ctx context.Context, l *lab.Lab, _ *struct{}) (*body[labapi.Page[labapi.RequestGroup]], error) {
			groups, err := a.queue.get(ctx, l.Queue)
			return answer(labapi.Page[labapi.RequestGroup]{Items: groups}, err)
		})
}

// needsAttention puts what the cluster says before what the database says.
func (a *API) needsAttention(ctx context.Context, l *lab.Lab) ([]labapi.Attention, error) {
	out := []labapi.Attention{}
	if a.cfg.Cluster != nil {
		c, err := a.cluster(ctx)
		if err != nil {
			return nil, err
		}
		out = ofCluster(c)
	}
	rest, err := l.Attention(ctx)
	return append(out, rest...), err
}

func ofCluster(c ops.ClusterStatus) []labapi.Attention {
	out := []labapi.Attention{}
	for _, m := range c.Missing {
		out = append(out, labapi.Attention{Kind: labapi.AttentionNotReached, Text: fmt.Sprintf("The %s does not answer: %s", m.What, m.Why)})
	}
	for _, s := range c.Shards {
		if s.Leader == "" {
			out = append(out, labapi.Attention{Kind: labapi.AttentionNoLeader, Shard: s.Shard.String(), Text: fmt.Sprintf("Nobody leads shard %s: %s", s.Shard, s.WhyNobody)})
		}
		if text := cmp.Or(s.Slow, s.Error); text != "" {
			out = append(out, labapi.Attention{Kind: labapi.AttentionWarning, Shard: s.Shard.String(), Text: fmt.Sprintf("Shard %s: %s", s.Shard, text)})
		}
	}
	for _, s := range c.Servers {
		if s.FencedWrites > 0 {
			out = append(out, labapi.Attention{Kind: labapi.AttentionFence, Server: s.Server, Text: fmt.Sprintf("The fence refused %d writes of server %s: another leader had taken over, and nothing of them was written", s.FencedWrites, s.Server)})
		}
		if s.Error != "" {
			out = append(out, labapi.Attention{Kind: labapi.AttentionNotReached, Server: s.Server, Text: fmt.Sprintf("Server %s does not answer: %s", s.Server, s.Error)})
		}
	}
	for _, text := range c.Warnings {
		out = append(out, labapi.Attention{Kind: labapi.AttentionWarning, Text: text})
	}
	return out
}
