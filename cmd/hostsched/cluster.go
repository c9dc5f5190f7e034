package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/store"
)

// defaultWatchInterval is how often `cluster status --watch` shows it again.
const defaultWatchInterval = time.Second

func clusterCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "cluster",
		Short: "See who leads which shard, and who did",
		Long: `See who leads which shard, and who did. The facts are in etcd, too: see
'etcdctl get --prefix /hostsched/'.`,
		Example: "  hostsched cluster status --watch",
	}, clusterStatusCommand(), clusterHistoryCommand())
}

// withCluster opens the database and etcd.
func withCluster(cmd *cobra.Command, cfg *config.Config, work func(context.Context, ops.Lab, *clientv3.Client) error) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return withLab(ctx, cfg, func(lab ops.Lab) error {
		return withEtcd(cfg, func(client *clientv3.Client) error { return work(ctx, lab, client) })
	})
}

// withEtcd connects to etcd, does the work and closes the connection again.
func withEtcd(cfg *config.Config, work func(*clientv3.Client) error) error {
	clientCfg, err := cfg.EtcdClient()
	if err != nil {
		return err
	}
	client, err := election.NewClient(clientCfg)
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	return errors.Join(work(client), client.Close())
}

func clusterStatusCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	var watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "status", Short: "Show servers, roles, shards and their leaders", Args: noArgs,
		Long: `Show which servers are there and what they may do, and for every shard its
leader, term, token, since when, the age and duration of its last tick, what the
leader has assigned, and how often the shard was lost and not handed over.`,
		Example: `  hostsched cluster status --config /etc/hostsched.yaml
  hostsched cluster status --watch
  hostsched cluster status -o json | jq '.shards[] | {shard, leader}'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withCluster(cmd, cfg, func(ctx context.Context, lab ops.Lab, client *clientv3.Client) error {
				for {
					st, err := lab.ReadClusterStatus(ctx, client)
					switch {
					case watch && ctx.Err() != nil:
						return nil
					case err != nil:
						return err
					}
					if err := out.write(cmd, st, func(w io.Writer) error { return statusTable(w, st, out.wide()) }); err != nil || !watch {
						return err
					}
					select {
					case <-ctx.Done():
						return nil
					case <-time.After(interval):
						fmt.Fprintln(cmd.OutOrStdout())
					}
				}
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	out.bind(cmd, outputWide)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until Ctrl-C")
	cmd.Flags().DurationVar(&interval, "interval", defaultWatchInterval, "with --watch, how often")
	return cmd
}

func statusTable(w io.Writer, st ops.ClusterStatus, wide bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	more := func(text string) string {
		if wide {
			return text
		}
		return ""
	}
	fmt.Fprintf(tw, "SERVER\tROLE\tLEADS\tSINCE%s\tWHY\n", more("\tWEIGHT\tADDRESS\tVERSION"))
	for _, s := range st.Servers {
		why := s.Why
		if why == "" && s.Error != "" {
			why = "does not answer: " + s.Error
		}
		fmt.Fprintf(tw, "%s\t%s\t%d\t%s%s\t%s\n", s.Server, s.Role, s.Leads, s.Since, more(fmt.Sprintf("\t%d\t%s\t%s", s.Weight, s.Address, s.Version)), why)
	}
	fmt.Fprintf(tw, "\nSHARD\tLEADER\tTERM\tTOKEN\tSINCE\tLAST TICK\tTOOK\tASSIGNED\tFAILOVERS%s\tNOTE\n", more("\tHOSTS\tCANDIDATES\tHOLDER\tLABELS\tDATABASE"))
	for _, s := range st.Shards {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%d\t%d%s\t%s\n", s.Shard, orDash(s.Leader), s.Term, s.Token, orDash(s.Since), millis(s.LastTickAge, " ago"), millis(s.LastTick, ""), s.Assignments, s.Failovers,
			more(fmt.Sprintf("\t%d\t%s\t%s\t%s\t%s", s.Hosts, orDash(strings.Join(s.Candidates, ",")), orDash(s.Holder), orDash(strings.Join(s.Labels, ",")), orDash(s.Database))), note(s))
	}
	return tw.Flush()
}

func note(s ops.ShardStatus) string {
	switch {
	case s.Error != "":
		return s.Error
	case s.Paused != "":
		return "paused: " + s.Paused
	case s.Wanted != "" && s.Wanted != s.Leader:
		return "asked for: " + s.Wanted
	}
	return ""
}

func millis(n int64, suffix string) string {
	if n < 0 {
		return "-"
	}
	return (time.Duration(n) * time.Millisecond).String() + suffix
}

func clusterHistoryCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	var rows limit
	cmd := &cobra.Command{
		Use: "history [SHARD]", Short: "Show every term of a shard (default: master): who, when, how long, why it ended", Args: atMostOneShard,
		Example: "  hostsched cluster history master --limit 5",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withLab(cmd.Context(), cfg, func(lab ops.Lab) error {
				terms, err := lab.Terms(cmd.Context(), shardArg(args), int(rows))
				if err != nil {
					return err
				}
				return out.write(cmd, terms, func(w io.Writer) error { return historyTable(w, terms, out.wide()) })
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	out.bind(cmd, outputWide)
	rows.bind(cmd, "show at most so many terms, the latest")
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames)
	return cmd
}

func historyTable(w io.Writer, terms []store.Term, wide bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TERM\tTOKEN\tSERVER\tBEGAN\tLASTED\tTICKS\tASSIGNED\tENDED BECAUSE")
	for _, t := range terms {
		server, _, _ := strings.Cut(t.Holder, "/")
		if wide {
			server = t.Holder
		}
		lasted, cause := "(leads)", ""
		if !t.Ended.IsZero() {
			lasted, cause = t.Ended.Sub(t.Began).Round(time.Millisecond).String(), t.Cause
		}
		fmt.Fprintf(tw, "%d\t%d\t%s\t%s\t%s\t%d\t%d\t%s\n", t.Epoch, t.Token, server, t.Began.Format(time.DateTime), lasted, t.Ticks, t.Assignments, cause)
	}
	return tw.Flush()
}
