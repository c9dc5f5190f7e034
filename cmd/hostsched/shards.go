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

	"github.com/hostsched/hostsched/internal/app"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Bounds of `shard remove`.
const (
	defaultRemoveTimeout = 10 * time.Minute
	removePoll           = 200 * time.Millisecond
	removeProgress       = 2 * time.Second
)

func shardCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shard",
		Short: "List and change the shards of the lab",
		Long: `A lab is divided into shards: the rows of afe_shards, and the master for all the
rest. A shard owns labels, and with them the hosts that carry them and the queue
entries that ask for them. Running replicas notice changes by themselves.`,
		Args: noArgs,
	}
	cmd.AddCommand(shardListCommand(), shardAddCommand(), assignLabelCommand(), shardRemoveCommand())
	return cmd
}

func shardListCommand() *cobra.Command {
	cfg := &config.Config{}
	var output string
	cmd := &cobra.Command{
		Use: "list", Short: "List the shards, their labels and hosts", Args: noArgs,
		Example: "  hostsched shard list -o wide",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDatabase(cmd.Context(), cfg, false, func(db *store.DB) error {
				all, err := admin.New(db).Shards(cmd.Context())
				if err != nil {
					return err
				}
				return write(cmd, output, all, func(w io.Writer) error {
					tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
					fmt.Fprint(tw, "SHARD\tHOSTS\tIN USE\tLABELS")
					if output == outputWide {
						fmt.Fprint(tw, "\tID\tDATABASE")
					}
					fmt.Fprintln(tw)
					for _, s := range all {
						fmt.Fprintf(tw, "%s\t%d\t%d\t%s", s.Name, s.Hosts, s.InUse, orDash(strings.Join(s.Labels, ",")))
						if output == outputWide {
							fmt.Fprintf(tw, "\t%d\t%s", s.ID, orDash(s.DSN))
						}
						fmt.Fprintln(tw)
					}
					return tw.Flush()
				})
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	addOutputFlag(cmd, &output, outputWide)
	return cmd
}

func shardAddCommand() *cobra.Command {
	cfg := &config.Config{}
	var c consent
	var dsn string
	cmd := &cobra.Command{
		Use: "add SHARD", Short: "Add a shard", Args: exactly("SHARD"),
		Long: `Add a shard. With --dsn it has a database of its own, which must have been
migrated ('hostsched migrate up'); its hosts and entries are entered there. The
password of that database is read from shards.password_dir, or is that of the
main one. Recorded in hostsched_audit.`,
		Example: `  hostsched shard add lab-east --yes
  hostsched shard add lab-west --dsn 'hostsched@tcp(db2.lab:3306)/lab_west' --production --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseShard(args)
			if err != nil {
				return err
			}
			if sqldb.HasPassword(dsn) {
				return fmt.Errorf("%w: --dsn has a password in it; put it into a file in shards.password_dir", errUsage)
			}
			if err := c.ask(cmd, "add shard "+name.String()); err != nil {
				return err
			}
			return withDatabase(cmd.Context(), cfg, false, func(db *store.DB) error {
				if dsn != "" {
					if err := app.CheckShard(cmd.Context(), cfg, name, dsn); err != nil {
						return err
					}
				}
				if err := admin.New(db).AddShard(cmd.Context(), name, dsn, whoami(), c.reason); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "shard %s: added\n", name)
				return err
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.bind(cmd, false)
	cmd.Flags().StringVar(&dsn, "dsn", "", "the shard's own database, without password")
	return cmd
}

func assignLabelCommand() *cobra.Command {
	cfg := &config.Config{}
	var c consent
	cmd := &cobra.Command{
		Use: "assign-label SHARD LABEL", Short: "Give a label, and the hosts that carry it, to a shard", Args: exactly("SHARD", "LABEL"),
		Long: `Give a label, and with it the hosts that carry it and the entries that ask for it,
to a shard, or back to the master. One transaction under the fences of both
shards; hosts follow as soon as nobody uses them. Recorded in hostsched_audit.`,
		Example: `  hostsched shard assign-label lab-east board:eve --reason 'row 7 moved' --yes
  hostsched shard assign-label master board:eve --reason 'and back' --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := parseShard(args[:1])
			if err != nil {
				return err
			}
			if err := c.ask(cmd, fmt.Sprintf("assign label %s to shard %s", args[1], to)); err != nil {
				return err
			}
			return withDatabase(cmd.Context(), cfg, false, func(db *store.DB) error {
				from, err := admin.New(db).AssignLabel(cmd.Context(), args[1], to, whoami(), c.reason)
				if err != nil {
					return err
				}
				text := fmt.Sprintf("label %s: from shard %s to %s; its hosts follow as they become free", args[1], from, to)
				if from == to {
					text = fmt.Sprintf("label %s: belongs to shard %s already", args[1], to)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
				return err
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.bind(cmd, true)
	return cmd
}

func shardRemoveCommand() *cobra.Command {
	cfg := &config.Config{}
	var c consent
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "remove SHARD", Short: "Give everything of a shard back to the master and remove it", Args: exactly("SHARD"),
		Long: `Give the labels of a shard back to the master, wait until its hosts have followed
(the shard's leader hands them over as they become free), and remove it. If the
command is interrupted, run it again. Recorded in hostsched_audit.`,
		Example: "  hostsched shard remove lab-east --reason 'rack is gone' --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseShard(args)
			if err != nil {
				return err
			}
			if err := c.ask(cmd, "remove shard "+name.String()); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			return withDatabase(ctx, cfg, false, func(db *store.DB) error {
				if err := removeShard(ctx, cmd, db, name, c.reason); err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "shard %s: removed\n", name)
				return err
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.bind(cmd, true)
	cmd.Flags().DurationVar(&timeout, "timeout", defaultRemoveTimeout, "how long to wait for hosts in use")
	return cmd
}

func removeShard(ctx context.Context, cmd *cobra.Command, db *store.DB, name shard.Name, reason string) error {
	s, err := app.FindShard(ctx, db, name)
	if err != nil {
		return err
	}
	for _, label := range s.Labels {
		if s.DSN != "" {
			break // they are refused by RemoveShard
		}
		if _, err := admin.New(db).AssignLabel(ctx, label, shard.Master, whoami(), reason); err != nil {
			return err
		}
	}
	for {
		n, err := admin.New(db).ReleaseJobs(ctx, name)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	var shown time.Time
	for {
		err := admin.New(db).RemoveShard(ctx, name, whoami(), reason)
		if !errors.Is(err, admin.ErrInUse) {
			return err
		}
		if time.Since(shown) > removeProgress {
			shown = time.Now()
			fmt.Fprintln(cmd.ErrOrStderr(), "waiting:", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; does somebody lead it? see 'hostsched cluster status', and run the command again", err)
		case <-time.After(removePoll):
		}
	}
}
