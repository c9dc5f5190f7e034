package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
)

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
		Use: "show [SHARD]", Short: "Show who may write to a shard (default: master)", Args: optional("SHARD"),
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
					if err := t.flush(); err != nil || len(f.Contradictions) == 0 {
						return err
					}
					return line(w, "The rows of this fence contradict each other: %s. Run 'hostsched fence adopt %s', which makes them agree.", strings.Join(f.Contradictions, ", "), f.Shard)
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
	var force bool
	cmd := &cobra.Command{
		Use: "adopt [SHARD]", Short: "Let this etcd cluster lead a shard that another one led", Args: optional("SHARD"),
		Long: `Let the configured etcd cluster lead a shard whose fence belongs to another etcd
cluster, or to another installation (the setting cluster), or whose token is higher
than this cluster's revisions because etcd was restored from a backup. The epoch continues to rise, so that whoever led before
stays fenced. Make sure that no replica still runs against the other etcd: the
two would depose each other. If the leader of the shard lives under this etcd, there
is nothing to adopt, and that is refused without --force. Rows of the fence that
contradict each other, because somebody edited them, agree again afterwards; 'fence
show' and 'check' name such rows. Recorded in hostsched_audit.`,
		Example: "  hostsched fence adopt master --reason 'etcd rebuilt after disk failure' --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.ask(cmd, strings.TrimSpace("adopt the fence of shard "+shardArg(args))); err != nil {
				return err
			}
			return withCluster(cmd, cfg, func(ctx context.Context, lab ops.Lab, client *clientv3.Client) error {
				a, err := lab.AdoptFence(ctx, client, shardArg(args), force, c.by())
				if err != nil {
					return err
				}
				return line(cmd.OutOrStdout(), "shard %s: the fence in %s now belongs to %s (before: %s, token %d)", a.Shard, a.Database, a.Now, a.Before, a.Token)
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	c.bind(cmd, true)
	cmd.Flags().BoolVar(&force, "force", false, "adopt it even if its leader lives under the same etcd")
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames)
	return cmd
}
