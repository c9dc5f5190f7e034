package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/ops"
)

// clusterRoutes say what 'hostsched cluster status' knows.
func (a *API) clusterRoutes() {
	tags := []string{"cluster"}
	route(a, access.Reading, huma.Operation{OperationID: "get-cluster", Method: http.MethodGet, Path: "/cluster", Summary: "Shards with their leaders, servers, and what is wrong", Tags: tags},
		func(ctx context.Context, _ *lab.Lab, _ *struct{}) (*body[ops.ClusterStatus], error) {
			return answer(a.cluster(ctx))
		})
	route(a, access.Reading, huma.Operation{OperationID: "list-shards", Method: http.MethodGet, Path: "/shards", Summary: "Shards with their leaders", Tags: tags},
		func(ctx context.Context, _ *lab.Lab, _ *struct{}) (*body[labapi.Page[ops.ShardStatus]], error) {
			c, err := a.cluster(ctx)
			return answer(labapi.Page[ops.ShardStatus]{Items: c.Shards}, err)
		})
	route(a, access.Reading, huma.Operation{OperationID: "list-servers", Method: http.MethodGet, Path: "/servers", Summary: "Servers that are there, with their roles", Tags: tags},
		func(ctx context.Context, _ *lab.Lab, _ *struct{}) (*body[labapi.Page[ops.ServerStatus]], error) {
			c, err := a.cluster(ctx)
			return answer(labapi.Page[ops.ServerStatus]{Items: c.Servers}, err)
		})
}

func notReady() error {
	return newProblem(http.StatusServiceUnavailable, "not-ready", "this replica cannot say yet who leads what")
}

// cluster asks all that there is. What does not answer is named in the status.
func (a *API) cluster(ctx context.Context) (ops.ClusterStatus, error) {
	if a.cfg.Cluster == nil {
		return ops.ClusterStatus{}, notReady()
	}
	return a.clusterStatus.get(ctx, a.cfg.Cluster)
}
