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
	"github.com/hostsched/hostsched/internal/app"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// Bounds of the cluster commands.
const (
	defaultSwitchTimeout = 30 * time.Second
	defaultHistory       = 20
	defaultWatchInterval = time.Second
)

func clusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "See and change who leads which shard",
		Long: `See and change who leads which shard. The facts are in etcd, too: see
'etcdctl get --prefix /hostsched/'.`,
		Args: noArgs,
	}
	cmd.AddCommand(clusterStatusCommand(), clusterHistoryCommand(), clusterAuditCommand(), switchoverCommand(), pauseCommand(), resumeCommand())
	return cmd
}

// withCluster opens the database and etcd.
func withCluster(cmd *cobra.Command, cfg *config.Config, work func(context.Context, *store.DB, *clientv3.Client) error) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return withDatabase(ctx, cfg, false, func(db *store.DB) error {
		return withEtcd(cfg, func(client *clientv3.Client) error { return work(ctx, db, client) })
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
	var output string
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
			return withCluster(cmd, cfg, func(ctx context.Context, db *store.DB, client *clientv3.Client) error {
				for {
					st, err := app.ReadClusterStatus(ctx, cfg, db, client)
					switch {
					case watch && ctx.Err() != nil:
						return nil
					case err != nil:
						return err
					}
					if err := write(cmd, output, st, func(w io.Writer) error { return statusTable(w, st, output == outputWide) }); err != nil || !watch {
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
	addOutputFlag(cmd, &output, outputWide)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until Ctrl-C")
	cmd.Flags().DurationVar(&interval, "interval", defaultWatchInterval, "with --watch, how often")
	return cmd
}

func statusTable(w io.Writer, st app.ClusterStatus, wide bool) error {
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

func note(s app.ShardStatus) string {
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

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func millis(n int64, suffix string) string {
	if n < 0 {
		return "-"
	}
	return (time.Duration(n) * time.Millisecond).String() + suffix
}

func clusterHistoryCommand() *cobra.Command {
	cfg := &config.Config{}
	var output string
	var limit int
	cmd := &cobra.Command{
		Use: "history [SHARD]", Short: "Show every term of a shard (default: master): who, when, how long, why it ended", Args: atMostOneShard,
		Example: "  hostsched cluster history master --limit 5",
		RunE: func(cmd *cobra.Command, args []string) error {
			return onShard(cmd, cfg, args, func(ctx context.Context, db *store.DB, s admin.Shard) error {
				terms, err := db.Terms(ctx, s.Name, limit)
				if err != nil {
					return err
				}
				return write(cmd, output, terms, func(w io.Writer) error { return historyTable(w, terms, output == outputWide) })
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	addOutputFlag(cmd, &output, outputWide)
	cmd.Flags().IntVar(&limit, "limit", defaultHistory, "show at most so many terms, the latest")
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

func clusterAuditCommand() *cobra.Command {
	cfg := &config.Config{}
	var output string
	var limit int
	cmd := &cobra.Command{
		Use: "audit", Short: "Show what people changed by command: who, when, what, why", Args: noArgs,
		Example: "  hostsched cluster audit --limit 5",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDatabase(cmd.Context(), cfg, false, func(db *store.DB) error {
				records, err := admin.New(db).AuditRecords(cmd.Context(), limit)
				if err != nil {
					return err
				}
				return write(cmd, output, records, func(w io.Writer) error {
					tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
					fmt.Fprintln(tw, "AT\tWHO\tACTION\tSUBJECT\tDETAIL")
					for _, r := range records {
						fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.At, r.Who, r.Action, r.Subject, r.Detail)
					}
					return tw.Flush()
				})
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	addOutputFlag(cmd, &output)
	cmd.Flags().IntVar(&limit, "limit", defaultHistory, "show at most so many records, the latest")
	return cmd
}

// onShard opens the database of the shard in args.
func onShard(cmd *cobra.Command, cfg *config.Config, args []string, work func(context.Context, *store.DB, admin.Shard) error) error {
	name, err := parseShard(args)
	if err != nil {
		return err
	}
	return withDatabase(cmd.Context(), cfg, false, func(db *store.DB) error {
		s, err := app.FindShard(cmd.Context(), db, name)
		if err != nil {
			return err
		}
		return app.OnShard(cmd.Context(), cfg, db, s, func(db *store.DB) error { return work(cmd.Context(), db, s) })
	})
}

func switchoverCommand() *cobra.Command {
	cfg := &config.Config{}
	var to string
	var c consent
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "switchover SHARD", Short: "Hand a shard over to another server", Args: exactly("SHARD"),
		Long: `Hand a shard over to another server: the leader finishes its apply, and the other
follows at once. The wish holds for as long as that replica lives, whatever
placement would prefer; '--to any' withdraws it. Recorded in hostsched_audit.`,
		Example: `  hostsched cluster switchover lab-east --to sched-2 --reason 'kernel update of sched-1' --yes
  hostsched cluster switchover lab-east --to any --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return fmt.Errorf("%w: say with --to which server should lead, or 'any'", errUsage)
			}
			name, err := parseShard(args)
			if err != nil {
				return err
			}
			if err := c.ask(cmd, fmt.Sprintf("hand shard %s over to %s", name, to)); err != nil {
				return err
			}
			return withCluster(cmd, cfg, func(ctx context.Context, db *store.DB, client *clientv3.Client) error {
				if _, err := app.FindShard(ctx, db, name); err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				from, took, err := app.Switchover(ctx, cfg, client, name, to)
				if err != nil {
					return err
				}
				detail := strings.TrimSpace(fmt.Sprintf("from %s to %s %s", orDash(from), to, c.reason))
				if err := admin.New(db).Audit(ctx, whoami(), "cluster switchover", name.String(), detail); err != nil {
					return err
				}
				if to == election.AnyServer {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "shard %s: any server may lead it again\n", name)
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "shard %s: %s leads (before: %s), after %v\n", name, to, orDash(from), took.Round(time.Millisecond))
				return err
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	c.bind(cmd, false)
	cmd.Flags().StringVar(&to, "to", "", "server that should lead, or any")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultSwitchTimeout, "how long to wait for it")
	return cmd
}

func pauseCommand() *cobra.Command {
	return pausing("pause", "Stop scheduling in a shard", `Stop scheduling in a shard: nothing is assigned, released or moved until 'cluster
resume'. The shard keeps its leader. When the command returns, nothing that was
planned before is written any more. Recorded in hostsched_audit.`,
		"  hostsched cluster pause lab-east --reason 'power work in row 7' --yes",
		func(reason string) string { return reason })
}

func resumeCommand() *cobra.Command {
	return pausing("resume", "Go on scheduling in a paused shard", "Go on scheduling in a paused shard. Recorded in hostsched_audit.",
		"  hostsched cluster resume lab-east --reason 'power is back' --yes",
		func(string) string { return "" })
}

func pausing(verb, short, long, example string, pause func(reason string) string) *cobra.Command {
	cfg := &config.Config{}
	var c consent
	cmd := &cobra.Command{
		Use: verb + " SHARD", Short: short, Long: long, Example: example, Args: exactly("SHARD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.ask(cmd, verb+" shard "+args[0]); err != nil {
				return err
			}
			return onShard(cmd, cfg, args, func(ctx context.Context, db *store.DB, s admin.Shard) error {
				if err := admin.New(db).PauseShard(ctx, s.Name, whoami(), pause(c.reason), c.reason); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "shard %s: %sd\n", s.Name, verb)
				return err
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.bind(cmd, true)
	return cmd
}
