package election

import (
	"context"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// clustersPrefix is where all clusters of an etcd are.
	clustersPrefix = "/hostsched/"
	// maxClusters bounds how many clusters are listed.
	maxClusters = 20
)

// Clusters lists the names of the clusters that have keys in etcd, or some of them if
// there are very many. Each costs one small request.
func Clusters(ctx context.Context, client *clientv3.Client) ([]string, error) {
	var out []string
	end := clientv3.GetPrefixRangeEnd(clustersPrefix)
	for from := clustersPrefix; len(out) < maxClusters; {
		res, err := client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil || len(res.Kvs) == 0 {
			return out, err
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(string(res.Kvs[0].Key), clustersPrefix), "/")
		out = append(out, name)
		from = clientv3.GetPrefixRangeEnd(ClusterPrefix(name))
	}
	return out, nil
}
