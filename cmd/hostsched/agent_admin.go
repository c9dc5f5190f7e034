package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// agentAdminCommands are what people do with the agents of a lab.
func agentAdminCommands() []*cobra.Command {
	return []*cobra.Command{
		listCommand("agent", "List the agents", "/agents", true, agentDisplay()), agentShowCommand(), agentAddCommand(), agentHostsCommand(), agentJoinTokenCommand(),
		agentWishCommand("rotate", "Ask agents to take new tokens", "rotate the token of"),
		agentWishCommand("drain", "Let agents finish what they do, and take nothing new", "drain"),
		agentWishCommand("resume", "Let agents take work again", "resume"),
		agentWishCommand("stop", "Let agents stop their runs, and end", "stop"),
		agentWishCommand("revoke", "Take all rights from agents, at once", "revoke"),
		removeCommand("agent", "NAME", "Remove agents", "Remove agents that have no runs. Their hosts have no agent then.", "/agents", agentsOf, nil, nil),
	}
}

func agentDisplay() *display[labapi.Agent] {
	return newDisplay(func(a labapi.Agent) string { return a.Name },
		column[labapi.Agent]{title: "NAME", cell: func(a labapi.Agent) any { return a.Name }},
		column[labapi.Agent]{title: "STATE", cell: func(a labapi.Agent) any { return a.State }},
		column[labapi.Agent]{title: "HOSTS", cell: func(a labapi.Agent) any { return len(a.Hosts) }},
		column[labapi.Agent]{title: "RUNS", cell: func(a labapi.Agent) any { return len(a.Runs) }},
		column[labapi.Agent]{title: "SEEN", cell: func(a labapi.Agent) any { return when(a.Seen) }},
		column[labapi.Agent]{title: "VERSION", cell: func(a labapi.Agent) any { return orDash(a.Version) }},
		column[labapi.Agent]{title: "UNFIT", cell: func(a labapi.Agent) any { return orDash(a.Unfit) }},
		column[labapi.Agent]{title: "MACHINE", wide: true, cell: func(a labapi.Agent) any { return orDash(a.Address) }},
		column[labapi.Agent]{title: "REASON", wide: true, cell: func(a labapi.Agent) any { return orDash(a.DesiredReason) }},
		column[labapi.Agent]{title: "HOST-NAMES", wide: true, cell: func(a labapi.Agent) any { return listed(a.Hosts) }},
	)
}

func agentPath(name string, more ...string) string {
	return labclient.Path(append([]string{"agents", name}, more...)...)
}

func agentShowCommand() *cobra.Command {
	show := agentDisplay()
	return showCommand(&cobra.Command{Use: "show NAME", Short: "Show an agent", Example: "  hostsched agent show rack-1 -o yaml"}, agentsOf, pathOfName(agentPath), show.bind, show.one)
}

func agentAddCommand() *cobra.Command {
	var conn connection
	var in labapi.AgentInput
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Enter an agent, and print the token by which its machine joins, once", Args: exactly("NAME"),
		Example: "  hostsched agent add rack-1 --host eve-1,eve-2 > join.token",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Name = args[0]
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				var made labapi.AgentAdded
				if err := client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/agents", Body: in}, &made); err != nil {
					return err
				}
				return line(cmd.OutOrStdout(), "%s", made.Join.Token)
			})
		},
	}
	conn.bind(cmd)
	cmd.Flags().StringSliceVar(&in.Hosts, "host", nil, "hosts that it serves")
	completeLab(cmd, &conn, "host", hostsOf)
	return cmd
}

func agentHostsCommand() *cobra.Command {
	var conn connection
	var p labapi.AgentPatch
	cmd := &cobra.Command{
		Use: "hosts NAME", Short: "Say which hosts an agent serves", Args: exactly("NAME"),
		Example: "  hostsched agent hosts rack-1 --add eve-3 --remove eve-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return client.Do(ctx, labclient.Call{Method: http.MethodPatch, Path: agentPath(args[0]), Body: p}, nil)
			})
		},
	}
	conn.bind(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&p.AddHosts, "add", nil, "hosts that it serves from now on")
	f.StringSliceVar(&p.RemoveHosts, "remove", nil, "hosts that it serves no more")
	f.BoolVar(&p.Take, "take", false, "also take hosts from other agents")
	completeLab(cmd, &conn, "add", hostsOf)
	completeLab(cmd, &conn, "remove", hostsOf)
	cmd.ValidArgsFunction = completeFirst(&conn, agentsOf)
	return cmd
}

func agentJoinTokenCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use: "join-token NAME", Short: "Print a new token by which a machine becomes this agent, once", Args: exactly("NAME"),
		Example: "  hostsched agent join-token rack-1 > join.token",
		RunE: func(cmd *cobra.Command, args []string) error {
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				var made labapi.JoinToken
				if err := client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: agentPath(args[0], "join-token")}, &made); err != nil {
					return err
				}
				return line(cmd.OutOrStdout(), "%s", made.Token)
			})
		},
	}
	conn.bind(cmd)
	cmd.ValidArgsFunction = completeFirst(&conn, agentsOf)
	return cmd
}

// agentWishCommand says what somebody wants of agents.
func agentWishCommand(verb, short, what string) *cobra.Command {
	var conn connection
	var many bulk
	c := consent{record: "journal"}
	cmd := &cobra.Command{
		Use: verb + " NAME...", Short: short, Example: "  hostsched agent " + verb + " rack-1 --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := many.required(cmd, args)
			if err != nil {
				return err
			}
			if err := c.ask(cmd, what+" "+countOf(len(names), "agent")); err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return forEach(ctx, cmd, names, verb+": noted", func(ctx context.Context, name string) error {
					return client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: agentPath(name, verb), Body: labapi.AgentWish{Reason: strings.TrimSpace(c.reason)}}, nil)
				})
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	c.bind(cmd, false)
	cmd.ValidArgsFunction = completeMany(&conn, agentsOf)
	return cmd
}
