package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// How long the commands that wait for replicas do so.
const (
	defaultRemoveTimeout = 10 * time.Minute
	defaultSwitchTimeout = 30 * time.Second
)

func shardCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "shard",
		Short: "List, change, pause and hand over the shards of the lab",
		Long: `A lab is divided into shards: the rows of afe_shards, and the master for all the
rest. A shard owns labels, and with them the hosts that carry them and the queue
entries that ask for them. Running replicas notice changes by themselves.`,
		Example: "  hostsched shard list -o wide",
	}, shardListCommand(), shardAddCommand(), shardRemoveCommand(), assignLabelCommand(), pauseCommand(), resumeCommand(), switchoverCommand())
}

func shardListCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	cmd := &cobra.Command{
		Use: "list", Short: "List the shards, their labels and hosts", Args: noArgs,
		Example: "  hostsched shard list -o wide",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLab(cmd.Context(), cfg, func(lab ops.Lab) error {
				all, err := lab.ListShards(cmd.Context())
				if err != nil {
					return err
				}
				return out.write(cmd, all, func(w io.Writer) error { return shardsTable(w, all, out.wide()) })
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	out.bind(cmd, outputWide)
	return cmd
}

func shardsTable(w io.Writer, all []ops.ListedShard, wide bool) error {
	t := newTable(w)
	t.row("SHARD", "HOSTS", "IN USE", "LABELS", inWide(wide, "ID", "DATABASE"), "NOTE")
	for _, s := range all {
		note := ""
		switch {
		case s.NotServed != "":
			note = "not served: " + s.NotServed
		case s.Paused != "":
			note = "paused: " + s.Paused
		case s.Fault != "":
			note = "cannot be asked whether it is paused: " + s.Fault
		}
		t.row(s.Name, s.Hosts, s.InUse, orDash(strings.Join(s.Labels, ",")), inWide(wide, s.ID, orDash(s.DSN)), note)
	}
	return t.flush()
}

func shardAddCommand() *cobra.Command {
	cfg := &config.Config{}
	var c consent
	var dsn string
	cmd := &cobra.Command{
		Use: "add SHARD", Short: "Add a shard", Args: exactly("SHARD"),
		Long: `Add a shard. With --dsn it has a database of its own, which must have been
migrated ('hostsched migrate up') and belong to no other shard; its hosts and
entries are entered there. The password of that database is read from
shards.password_dir, or is that of the main one. Recorded in hostsched_audit.`,
		Example: `  hostsched shard add lab-east --yes
  hostsched shard add lab-west --dsn 'hostsched@tcp(db2.lab:3306)/lab_west' --production --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if sqldb.HasPassword(dsn) {
				return fmt.Errorf("%w: --dsn has a password in it; put it into a file in shards.password_dir", errUsage)
			}
			if err := c.ask(cmd, "add shard "+args[0]); err != nil {
				return err
			}
			return changeLab(cmd.Context(), cfg, func(lab ops.Lab) error {
				name, err := lab.AddShard(cmd.Context(), args[0], dsn, c.by())
				if err != nil {
					return err
				}
				return line(cmd.OutOrStdout(), "shard %s: added", name)
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.bind(cmd, false)
	cmd.Flags().StringVar(&dsn, "dsn", "", "the shard's own database, without password")
	cmd.ValidArgsFunction = completeArgs(cfg)
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
			label := args[1]
			if err := c.ask(cmd, fmt.Sprintf("assign label %s to shard %s", label, args[0])); err != nil {
				return err
			}
			return changeLab(cmd.Context(), cfg, func(lab ops.Lab) error {
				from, to, err := lab.AssignLabel(cmd.Context(), args[0], label, c.by())
				if err != nil {
					return err
				}
				text := fmt.Sprintf("label %s: from shard %s to %s; its hosts follow as they become free", label, from, to)
				if from == to {
					text = fmt.Sprintf("label %s: belongs to shard %s already", label, to)
				}
				return line(cmd.OutOrStdout(), "%s", text)
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.bind(cmd, true)
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames, labelNames)
	return cmd
}

func shardRemoveCommand() *cobra.Command {
	cfg := &config.Config{}
	var c consent
	var timeout time.Duration
	var row int64
	cmd := &cobra.Command{
		Use: "remove SHARD | --row ID", Short: "Give everything of a shard back to the master and remove it",
		Args: func(cmd *cobra.Command, args []string) error {
			if row != 0 {
				return noArgs(cmd, args)
			}
			return exactly("SHARD")(cmd, args)
		},
		Long: `Give the labels of a shard back to the master, wait until its hosts have followed
(the shard's leader hands them over as they become free), and remove it. The command
says which hosts it waits for and why, and ends at once if waiting does not help:
they are leased for nobody and locked or broken, or only afe_hosts.shard_id keeps
them there. If it ends before the shard is removed, run it again. A database that
the shard has of its own is left as it is. Recorded in hostsched_audit.

A row of afe_shards that no replica can lead (see NOTE in 'hostsched shard list') is
removed at once, with its hosts going to the master. It is named as it is in the
database, as 'shard list' shows it, or with --row by its id.`,
		Example: `  hostsched shard remove lab-east --reason 'rack is gone' --yes
  hostsched shard remove --row 7 --reason 'entered by mistake' --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			what := shardArg(args)
			if row != 0 {
				what = fmt.Sprintf("with id %d", row)
			}
			if err := c.ask(cmd, "remove shard "+what); err != nil {
				return err
			}
			ctx, stop := untilSignalled(cmd.Context())
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			return changeLab(ctx, cfg, func(lab ops.Lab) error {
				s, err := lab.FindRow(ctx, shardArg(args), shard.ID(row))
				if err != nil {
					return err
				}
				err = lab.RemoveShard(ctx, s, c.by(), func(err error) { _ = line(cmd.ErrOrStderr(), "waiting: %v", err) })
				if err != nil {
					return err
				}
				return line(cmd.OutOrStdout(), "shard %s: removed", s.Name)
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.bind(cmd, true)
	bind(cmd, &row, "row", 0, 1, math.MaxInt64, "id of the row of afe_shards, instead of its name")
	bind(cmd, &timeout, "timeout", defaultRemoveTimeout, minWait, maxWait, "how long to wait for hosts in use")
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames)
	return cmd
}

func switchoverCommand() *cobra.Command {
	cfg := &config.Config{}
	var to string
	var c consent
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "switchover SHARD", Short: "Hand a shard over to another server", Args: exactly("SHARD"),
		Long: `Hand a shard over to another server: the leader finishes its apply, and the other
follows at once. The request holds for as long as that replica lives, whatever
placement would prefer; '--to any' withdraws it. If the shard is not handed over
within --timeout, or the command is interrupted, the request is withdrawn.
Recorded in hostsched_audit, and in the history with the reason. A request that holds
already, or 'any' without one, changes nothing, and is not recorded.`,
		Example: `  hostsched shard switchover lab-east --to sched-2 --reason 'kernel update of sched-1' --yes
  hostsched shard switchover lab-east --to any --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return fmt.Errorf("%w: say with --to which server should lead, or 'any'", errUsage)
			}
			if err := c.ask(cmd, fmt.Sprintf("hand shard %s over to %s", args[0], to)); err != nil {
				return err
			}
			return withCluster(cmd, cfg, func(ctx context.Context, lab ops.Lab, client *clientv3.Client) error {
				ctx, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				if err := lab.MayChange(ctx); err != nil {
					return err
				}
				h, err := lab.Switchover(ctx, client, args[0], to, c.by())
				if err != nil {
					return err
				}
				return line(cmd.OutOrStdout(), "shard %s: %s", h.Shard, handoverText(h))
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	c.bind(cmd, false)
	cmd.Flags().StringVar(&to, "to", "", "server that should lead, or any")
	bind(cmd, &timeout, "timeout", defaultSwitchTimeout, minWait, maxWait, "how long to wait for it")
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames)
	completeFlag(cmd, "to", func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return complete(cmd, cfg, leaderNames, prefix)
	})
	return cmd
}

// handoverText says what became of a switchover.
func handoverText(h ops.Handover) string {
	switch {
	case h.Unchanged && h.To == election.AnyServer:
		return "any server may lead it already; nothing was changed"
	case h.Unchanged:
		return h.To + " leads already, as was asked for; nothing was changed"
	case h.To == election.AnyServer:
		return "any server may lead it again"
	case h.From == h.To:
		return h.To + " leads already; it keeps the shard from now on, whatever placement prefers"
	}
	return fmt.Sprintf("%s leads (before: %s), after %v", h.To, orDash(h.From), h.Took.Round(time.Millisecond))
}

func pauseCommand() *cobra.Command {
	return pausing("pause", &cobra.Command{
		Short: "Stop scheduling in a shard",
		Long: `Stop scheduling in a shard: nothing is assigned, released or moved until 'shard
resume'. The shard keeps its leader. When the command returns, nothing that was
planned before is written any more. Recorded in hostsched_audit.`,
		Example: "  hostsched shard pause lab-east --reason 'power work in row 7' --yes",
	}, ops.Lab.PauseShard)
}

func resumeCommand() *cobra.Command {
	return pausing("resume", &cobra.Command{
		Short:   "Continue scheduling in a paused shard",
		Long:    "Continue scheduling in a paused shard. Recorded in hostsched_audit, unless the shard\nwas not paused: then nothing is changed, and the exit code is 0.",
		Example: "  hostsched shard resume lab-east --reason 'power is back' --yes",
	}, ops.Lab.ResumeShard)
}

// pausing completes a command that pauses or resumes a shard.
func pausing(verb string, cmd *cobra.Command, change func(ops.Lab, context.Context, string, ops.By) error) *cobra.Command {
	cfg := &config.Config{}
	var c consent
	cmd.Use, cmd.Args = verb+" SHARD", exactly("SHARD")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.ask(cmd, verb+" shard "+args[0]); err != nil {
			return err
		}
		return changeLab(cmd.Context(), cfg, func(lab ops.Lab) error {
			err := change(lab, cmd.Context(), args[0], c.by())
			switch {
			case errors.Is(err, admin.ErrNotPaused):
				return line(cmd.OutOrStdout(), "shard %s: is not paused; nothing was changed", args[0])
			case err != nil:
				return err
			}
			return line(cmd.OutOrStdout(), "shard %s: %sd", args[0], verb)
		})
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.bind(cmd, true)
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames)
	return cmd
}
