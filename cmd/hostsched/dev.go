package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/dev"
)

// Defaults of `hostsched dev`.
const (
	devHosts    = 1000
	devReplicas = 3
	devDataDir  = "data"
	devSeed     = 1
	devTTL      = 2 * time.Second
	devMinTick  = 200 * time.Millisecond
)

func devCommand() *cobra.Command {
	var opts dev.Options
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a simulated lab with several replicas on this machine",
		Long: `Start an embedded etcd, an SQLite database in a data folder, several replicas as
processes of their own, and a simulated lab whose jobs last seconds. The terminal
shows who leads, what is assigned, and a check, computed from the database, that
nothing was assigned twice. Keys: k kills the leader, p pauses it, q quits.

With --duration, or without a terminal, progress lines take the place of the
screen. The exit code is not 0 if anything was assigned twice or nothing at all.`,
		Example: `  hostsched dev
  hostsched dev --hosts 200 --duration 30s --kill-leader-every 8s --json
  hostsched dev kill-leader        # from another terminal`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			opts.Interactive = opts.Duration == 0 && !opts.JSON && dev.IsTerminal(os.Stdin, os.Stdout)
			opts.Out, opts.Progress, opts.Keys = cmd.OutOrStdout(), cmd.ErrOrStderr(), os.Stdin
			return dev.Run(ctx, opts)
		},
	}
	f := cmd.Flags()
	f.IntVar(&opts.Hosts, "hosts", devHosts, "hosts in the lab")
	f.IntVar(&opts.Replicas, "replicas", devReplicas, "replicas, each a process")
	f.Uint64Var(&opts.Seed, "seed", devSeed, "seed of the lab")
	f.DurationVar(&opts.Duration, "duration", 0, "end after this time and print a summary")
	f.DurationVar(&opts.KillLeaderEvery, "kill-leader-every", 0, "kill -9 the leader at this interval and restart it as a follower")
	f.BoolVar(&opts.JSON, "json", false, "print the summary as one JSON object")
	f.DurationVar(&opts.TTL, "ttl", devTTL, "etcd lease TTL, whole seconds")
	f.DurationVar(&opts.MinTick, "tick-min", devMinTick, "shortest time from one tick to the next")
	cmd.PersistentFlags().StringVar(&opts.DataDir, "data-dir", devDataDir, "data folder, cleared at start")
	cmd.AddCommand(
		devSendCommand(&opts, dev.KillLeader, "Kill the leader of a running `hostsched dev` with SIGKILL"),
		devSendCommand(&opts, dev.PauseLeader, "Pause the leader of a running `hostsched dev` for three TTLs"),
	)
	return cmd
}

func devSendCommand(opts *dev.Options, command, short string) *cobra.Command {
	return &cobra.Command{
		Use: command, Short: short, Args: noArgs,
		Example: "  hostsched dev " + command + " --data-dir data",
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := dev.Send(context.WithoutCancel(cmd.Context()), opts.DataDir, command)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), answer)
			return err
		},
	}
}
