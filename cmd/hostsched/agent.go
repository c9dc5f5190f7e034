package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/agent"
	"github.com/hostsched/hostsched/internal/shim"
)

func agentCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run jobs on the hosts of this machine, and manage the agents of a lab",
		Long: `With --config it runs as an agent: it takes up the jobs and special tasks of the hosts
that an administrator gave it, runs them by the drivers of its file, and sends their
logs and results to the servers.

SIGTERM and SIGINT end the agent, and nothing else: its runs go on, and the agent that
is started next goes on with them. 'hostsched agent drain NAME' lets it finish what it
has and take nothing new; 'hostsched agent stop NAME' ends its runs, and then it.

Exit codes: 0 ended as asked; 2 the file does not fit; 3 the agent was revoked, or another
process has taken its place: a service manager must not start it again by itself.`,
		Example: `  hostsched agent --config /etc/hostsched-agent.yaml`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return showHelp(cmd, args)
			}
			return serveAgent(cmd, file)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the agent's file")
	cmd.AddCommand(append(agentAdminCommands(), agentRunCommand(), agentSSHCommand())...)
	return cmd
}

// agentCode is the exit code that a service manager needs to know what to do.
func agentCode(err error) error {
	switch {
	case errors.Is(err, agent.ErrRevoked), errors.Is(err, agent.ErrReplaced):
		return coded{exitDenied, err}
	case errors.Is(err, agent.ErrConfig), errors.Is(err, agent.ErrJoin), errors.Is(err, agent.ErrSpoolUsed):
		return coded{exitInput, err}
	}
	return err
}

func serveAgent(cmd *cobra.Command, file string) error {
	cfg, err := agent.Read(file)
	if err != nil {
		return agentCode(err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	ctx, stop := untilSignalled(cmd.Context())
	defer stop()
	a := agent.New(cfg)
	a.Version, a.Log = version(), slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	a.Shim = []string{self, "agent", "run"}
	a.SSH = []string{self, "agent", "ssh"}
	return agentCode(a.Run(ctx))
}

// agentRunCommand is the process of a run.
func agentRunCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run DIR", Short: "Run what is in a folder of an agent's spool", Hidden: true,
		Example: "  hostsched agent run /var/lib/hostsched-agent/runs/7",
		Args:    exactly("DIR"),
		RunE:    func(_ *cobra.Command, args []string) error { return shim.Run(args[0]) },
	}
}

// agentSSHCommand is the step of a run that works on a host over ssh.
func agentSSHCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ssh SETTINGS", Short: "Run a script on a host of an agent", Hidden: true,
		Example: "  hostsched agent ssh '{\"host\":\"h1\"}'",
		Args:    exactly("SETTINGS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			status, err := agent.SSHStep(context.WithoutCancel(cmd.Context()), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
			if err != nil || status != 0 {
				return coded{status, err}
			}
			return nil
		},
	}
}
