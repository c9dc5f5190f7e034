package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/store/admin"
)

// etcdTimeout bounds the one question that `fence adopt` asks etcd.
const etcdTimeout = 5 * time.Second

func fenceCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "fence",
		Short: "Show or adopt the fence of a shard",
		Long: `The fence is the row of the database that says which term may write to a shard.
It belongs to one etcd cluster, because fencing tokens of different clusters do
not compare. A shard with a database of its own has its fence there.`,
		Example: "  hostsched fence show lab-east",
	}, fenceShowCommand(), fenceAdoptCommand())
}

func fenceShowCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	cmd := &cobra.Command{
		Use: "show [SHARD]", Short: "Show who may write to a shard (default: master)", Args: atMostOneShard,
		Example: "  hostsched fence show master --config /etc/hostsched.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withLab(cmd.Context(), cfg, func(lab ops.Lab) error {
				f, err := lab.Fence(cmd.Context(), shardArg(args))
				if err != nil {
					return err
				}
				return out.write(cmd, f, func(w io.Writer) error {
					t := newTable(w)
					t.row("SHARD", "EPOCH", "TOKEN", "HOLDER", "TAKEN AT", "WRITES", "ETCD CLUSTER", "CLUSTER")
					t.row(f.Shard, f.Epoch, f.Token, orDash(f.Holder), utc(f.TakenAt), f.Writes, f.Cluster, orDash(f.ClusterName))
					return t.flush()
				})
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	out.bind(cmd)
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames)
	return cmd
}

func fenceAdoptCommand() *cobra.Command {
	cfg := &config.Config{}
	var c consent
	cmd := &cobra.Command{
		Use: "adopt [SHARD]", Short: "Let this etcd cluster lead a shard that another one led", Args: atMostOneShard,
		Long: `Let the configured etcd cluster lead a shard whose fence belongs to another etcd
cluster, or to another installation (the setting cluster), or whose token is higher
than this cluster's revisions because etcd was restored from a backup. The epoch continues to rise, so that whoever led before
stays fenced. Make sure that no replica still runs against the other etcd: the
two would depose each other. Recorded in hostsched_audit.`,
		Example: "  hostsched fence adopt master --reason 'etcd rebuilt after disk failure' --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.ask(cmd, strings.TrimSpace("adopt the fence of shard "+shardArg(args))); err != nil {
				return err
			}
			return withLab(cmd.Context(), cfg, func(lab ops.Lab) error {
				before, err := lab.Fence(cmd.Context(), shardArg(args)) // before etcd is asked
				if err != nil {
					return err
				}
				etcdCluster, err := clusterID(cmd.Context(), cfg)
				if err != nil {
					return err
				}
				cluster := admin.Cluster{Etcd: etcdCluster, Name: cfg.Cluster}
				database, err := lab.AdoptFence(cmd.Context(), shardArg(args), cluster, c.by())
				if err != nil {
					return err
				}
				return line(cmd.OutOrStdout(), "shard %s: the fence in %s now belongs to %s (before: %s, token %d)", before.Shard, database, cluster, admin.Cluster{Etcd: before.Cluster, Name: before.ClusterName}, before.Token)
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	c.bind(cmd, true)
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames)
	return cmd
}

// clusterID asks etcd for its cluster id, in the form that terms carry.
func clusterID(ctx context.Context, cfg *config.Config) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	err = withEtcd(cfg, func(client *clientv3.Client) error {
		res, err := client.MemberList(ctx)
		if err != nil {
			return fmt.Errorf("ask etcd at %v for its cluster id: %w", cfg.Etcd.Endpoints, err)
		}
		id = strconv.FormatUint(res.Header.GetClusterId(), 16)
		return nil
	})
	return id, err
}
