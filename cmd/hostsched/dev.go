package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/dev"
)

// Defaults of `hostsched dev`.
const (
	devHosts    = 40
	devReplicas = 3
	devAgents   = 2
	// simulatorHosts are what the simulator plays at ease, and agents of one machine do not.
	simulatorHosts = 1000
	devDataDir     = "data"
	devSeed        = 1
	devTTL         = 2 * time.Second
	devMinTick     = 200 * time.Millisecond
)

func devCommand() *cobra.Command {
	var opts dev.Options
	var simulator bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a simulated lab with several replicas on this machine",
		Long: `Start an embedded etcd, an SQLite database in a data folder, several replicas as
processes of their own, and agents that run the jobs of a simulated lab: their hosts are
shell commands. The terminal shows who leads, what is assigned, what jobs say, and a
check, computed from the database, that nothing was assigned twice. It also shows
command lines to try in another terminal. Keys: k kills the leader, p pauses it, q quits.

With --simulator nothing is run: jobs of a larger lab end by themselves.

With --duration, or without a terminal, progress lines take the place of the
screen. The exit code is not 0 if anything was assigned twice or nothing at all.`,
		Example: `  hostsched dev
  hostsched dev --agents 4 --hosts 100
  hostsched dev --simulator --hosts 5000
  hostsched dev --hosts 200 --duration 30s --kill-leader-every 8s --json
  hostsched dev kill-leader        # from another terminal`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignalled(cmd.Context())
			defer stop()
			if err := lackingAgents(cmd, &opts, simulator); err != nil {
				return err
			}
			opts.Interactive = opts.Duration == 0 && !opts.JSON && dev.IsTerminal(os.Stdin, os.Stdout)
			opts.Out, opts.Progress, opts.Keys = cmd.OutOrStdout(), cmd.ErrOrStderr(), os.Stdin
			return dev.Run(ctx, opts)
		},
	}
	f := cmd.Flags()
	bind(cmd, &opts.Hosts, "hosts", devHosts, 1, dev.MaxHosts, fmt.Sprintf("hosts in the lab; %d with --simulator if left out", simulatorHosts))
	bind(cmd, &opts.Agents, "agents", devAgents, 1, dev.MaxAgents, "agents, each a process; they share the hosts")
	f.BoolVar(&simulator, "simulator", false, "play the jobs instead of running them by agents, as benchmarks do")
	bind(cmd, &opts.Replicas, "replicas", devReplicas, 1, dev.MaxReplicas, "replicas, each a process")
	f.Uint64Var(&opts.Seed, "seed", devSeed, "seed of the lab")
	bind(cmd, &opts.Duration, "duration", 0, 0, dev.MaxDuration, "end after this time and print a summary")
	bind(cmd, &opts.KillLeaderEvery, "kill-leader-every", 0, 0, dev.MaxDuration, "kill -9 the leader at this interval and restart it as a follower")
	f.BoolVar(&opts.JSON, "json", false, "print the summary as one JSON object")
	bind(cmd, &opts.TTL, "ttl", devTTL, dev.MinTTL, dev.MaxTTL, "etcd lease TTL, whole seconds")
	bind(cmd, &opts.MinTick, "tick-min", devMinTick, 0, dev.MaxTick, "shortest time from one tick to the next")
	cmd.PersistentFlags().StringVar(&opts.DataDir, "data-dir", devDataDir, "data folder, cleared at start")
	cmd.AddCommand(
		devSendCommand(&opts, dev.KillLeader, "Kill the leader of a running `hostsched dev` with SIGKILL"),
		devSendCommand(&opts, dev.PauseLeader, "Pause the leader of a running `hostsched dev` for three TTLs"),
	)
	return cmd
}

// lackingAgents is for a lab that is played.
func lackingAgents(cmd *cobra.Command, opts *dev.Options, simulator bool) error {
	f := cmd.Flags()
	if !simulator {
		return nil
	}
	if f.Changed("agents") {
		return fmt.Errorf("%w: with --simulator there are no agents; leave one of the two out", errUsage)
	}
	opts.Agents = 0
	if !f.Changed("hosts") {
		opts.Hosts = simulatorHosts
	}
	return nil
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
