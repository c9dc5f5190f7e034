package main

import (
	"context"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// etcdTimeout bounds the one question that `fence adopt` asks etcd.
const etcdTimeout = 5 * time.Second

func fenceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fence",
		Short: "Inspect or adopt the fence of a shard",
		Long: `The fence is the row of the database that says which term may write to a shard.
It belongs to one etcd cluster, because fencing tokens of different clusters do
not compare.`,
		Args: noArgs,
	}
	cmd.AddCommand(fenceShowCommand(), fenceAdoptCommand())
	return cmd
}

func parseShard(args []string) (shard.Name, error) {
	if len(args) == 0 {
		return shard.Master, nil
	}
	name, err := shard.Parse(args[0])
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUsage, err)
	}
	return name, nil
}

func atMostOneShard(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return noArgs(cmd, args[1:])
	}
	return nil
}

func fenceShowCommand() *cobra.Command {
	cfg := &config.Config{}
	var output string
	cmd := &cobra.Command{
		Use: "show [SHARD]", Short: "Show who may write to a shard (default: master)", Args: atMostOneShard,
		Example: "  hostsched fence show master --config /etc/hostsched.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withFence(cmd, cfg, args, func(_ *store.DB, f store.Fence) error {
				return write(cmd, output, f, func(w io.Writer) error {
					tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
					fmt.Fprintf(tw, "SHARD\tEPOCH\tTOKEN\tHOLDER\tTAKEN AT\tWRITES\tETCD CLUSTER\n%s\t%d\t%d\t%s\t%s\t%d\t%s\n",
						f.Shard, f.Epoch, f.Token, f.Holder, f.TakenAt, f.Writes, f.Cluster)
					return tw.Flush()
				})
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	addOutputFlag(cmd, &output)
	return cmd
}

func fenceAdoptCommand() *cobra.Command {
	cfg := &config.Config{}
	var yes bool
	var reason string
	cmd := &cobra.Command{
		Use: "adopt [SHARD]", Short: "Let this etcd cluster lead a shard that another one led", Args: atMostOneShard,
		Long: `Let the configured etcd cluster lead a shard whose fence belongs to another etcd
cluster, or whose token is higher than this cluster's revisions because etcd was
restored from a backup. The epoch goes on rising, so that whoever led before
stays fenced. Make sure that no replica still runs against the other etcd: the
two would depose each other. The command is recorded in hostsched_audit.`,
		Example: "  hostsched fence adopt master --reason 'etcd rebuilt after disk failure' --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" || !yes {
				return fmt.Errorf("%w: adopting a fence needs --reason and --yes", errUsage)
			}
			return withFence(cmd, cfg, args, func(db *store.DB, f store.Fence) error {
				cluster, err := clusterID(cmd.Context(), cfg)
				if err != nil {
					return err
				}
				if err := admin.New(db).AdoptFence(cmd.Context(), f.Shard, cluster, whoami(), reason); err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "shard %s: the fence now belongs to etcd cluster %s (before: %s, token %d)\n", f.Shard, cluster, f.Cluster, f.Token)
				return err
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit record")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	return cmd
}

// withFence opens the database and reads the fence of the shard in args.
func withFence(cmd *cobra.Command, cfg *config.Config, args []string, work func(*store.DB, store.Fence) error) error {
	name, err := parseShard(args)
	if err != nil {
		return err
	}
	return withDatabase(cmd.Context(), cfg, false, func(db *store.DB) error {
		f, ok, err := db.ReadFence(cmd.Context(), name)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("shard %s never had a leader in %s", name, db.Target())
		}
		return work(db, f)
	})
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

func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
