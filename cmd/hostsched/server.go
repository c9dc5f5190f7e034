package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/app"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// serverStatuses are the values of --status.
var serverStatuses = []string{admin.ServerPrimary, admin.ServerBackup, admin.ServerRepairRequired}

func serverCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "server",
		Short: "List the servers, and change which of them may lead",
		Long: `The servers table says which servers may lead: as soon as it has a row, only those
with the role host_scheduler. Running replicas notice changes by themselves.`,
		Example: "  hostsched server list -o wide",
	}, serverListCommand(), serverAddCommand(), serverRoleCommand(), serverRetireCommand())
}

// withServersOf opens the database with the servers table of a lab.
func withServersOf(ctx context.Context, lab ops.Lab, work func(servers *admin.Lab) error) error {
	servers, closer, err := app.OpenServers(ctx, lab.Config, lab.Main.DB)
	if err != nil {
		return err
	}
	if servers == nil {
		return errors.Join(fmt.Errorf("%w: %s has no servers table, so every replica may lead; name the database that has one with servers.dsn", sqldb.ErrSchema, lab.Main.Target()), closer())
	}
	return errors.Join(work(admin.New(servers)), closer())
}

// changeServer completes a command that changes the servers table and notes it.
func changeServer(cmd *cobra.Command, needsReason bool, listers []lister, change func(ctx context.Context, servers *admin.Lab, name, reason string) (said string, err error)) *cobra.Command {
	cfg := &config.Config{}
	var c consent
	cmd.Args = exactly("SERVER")
	cmd.Long += " Recorded in hostsched_audit."
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, action := args[0], "server "+cmd.Name()
		if err := c.ask(cmd, action+" "+name); err != nil {
			return err
		}
		ctx := cmd.Context()
		return changeLab(ctx, cfg, func(lab ops.Lab) error {
			return withServersOf(ctx, lab, func(servers *admin.Lab) error {
				said, err := change(ctx, servers, name, c.reason)
				if err != nil {
					return err
				}
				if err := lab.Main.Audit(ctx, whoami(), action, name, strings.TrimSpace(said+"; "+c.reason)); err != nil {
					return err
				}
				return line(cmd.OutOrStdout(), "server %s: %s", name, said)
			})
		})
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.bind(cmd, needsReason)
	cmd.ValidArgsFunction = completeArgs(cfg, listers...)
	return cmd
}

func serverListCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	cmd := &cobra.Command{
		Use: "list", Short: "List the servers table with roles", Args: noArgs,
		Example: "  hostsched server list -o wide",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return withLab(ctx, cfg, func(lab ops.Lab) error {
				return withServersOf(ctx, lab, func(servers *admin.Lab) error {
					all, err := servers.Servers(ctx)
					if err != nil {
						return err
					}
					return out.write(cmd, all, func(w io.Writer) error { return serversTable(w, all, out.wide()) })
				})
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	out.bind(cmd, outputWide)
	return cmd
}

func serversTable(w io.Writer, all []admin.Server, wide bool) error {
	t := newTable(w)
	t.row("SERVER", "STATUS", "ROLES", inWide(wide, "CNAME", "NOTE"))
	for _, s := range all {
		t.row(s.Name, orDash(s.Status), orDash(strings.Join(s.Roles, ",")), inWide(wide, orDash(s.CName), orDash(s.Note)))
	}
	if len(all) == 0 {
		t.row("(none: every replica may lead)")
	}
	return t.flush()
}

// statusFlag adds --status.
func statusFlag(cmd *cobra.Command, status *string, def, usage string) {
	cmd.Flags().StringVar(status, "status", def, usage+": "+strings.Join(serverStatuses, ", "))
	completeFlag(cmd, "status", cobra.FixedCompletions(serverStatuses, cobra.ShellCompDirectiveNoFileComp))
}

func checkStatus(status string) error {
	if err := oneOf(status, serverStatuses); err != nil {
		return fmt.Errorf("%w: --status: %w", errUsage, err)
	}
	return nil
}

func serverAddCommand() *cobra.Command {
	var status, note string
	var roles []string
	cmd := changeServer(&cobra.Command{
		Use: "add SERVER", Short: "Add a server to the servers table",
		Long: `Add a server to the servers table. As soon as that table has a row, only servers
with the role host_scheduler may lead.`,
		Example: `  hostsched server add sched-1 --yes
  hostsched server add sched-3 --status backup --yes`,
	}, false, nil, func(ctx context.Context, servers *admin.Lab, name, _ string) (string, error) {
		if err := checkStatus(status); err != nil {
			return "", err
		}
		err := servers.AddServer(ctx, admin.Server{Name: name, Status: status, Roles: roles, Note: note})
		return fmt.Sprintf("added as %s with roles %s", status, strings.Join(roles, ",")), err
	})
	statusFlag(cmd, &status, admin.ServerPrimary, "status of the server")
	cmd.Flags().StringSliceVar(&roles, "role", []string{admin.RoleHostScheduler}, "roles of the server")
	cmd.Flags().StringVar(&note, "note", "", "note for people")
	return cmd
}

func serverRoleCommand() *cobra.Command {
	var add, remove, status string
	cmd := changeServer(&cobra.Command{
		Use: "role SERVER", Short: "Give a role to a server, take it away, or change its status",
		Long: `Give a role to a server, take it away, or change its status. A server that loses
the role host_scheduler hands its shards over at once.`,
		Example: `  hostsched server role sched-2 --add host_scheduler --yes
  hostsched server role sched-1 --remove host_scheduler --reason 'disk errors' --yes
  hostsched server role sched-1 --status backup --yes`,
	}, false, []lister{serverNames}, func(ctx context.Context, servers *admin.Lab, name, _ string) (string, error) {
		return changeRole(ctx, servers, name, add, remove, status)
	})
	cmd.Flags().StringVar(&add, "add", "", "role to give")
	cmd.Flags().StringVar(&remove, "remove", "", "role to take away")
	statusFlag(cmd, &status, "", "new status")
	return cmd
}

// changeRole makes those of the changes that are not empty, and says which.
func changeRole(ctx context.Context, servers *admin.Lab, name, add, remove, status string) (string, error) {
	if add+remove+status == "" {
		return "", fmt.Errorf("%w: say what to change: --add, --remove or --status", errUsage)
	}
	if status != "" {
		if err := checkStatus(status); err != nil {
			return "", err // before anything is changed
		}
	}
	var said []string
	for _, c := range []struct {
		role string
		has  bool
		verb string
	}{{add, true, "has now"}, {remove, false, "has no longer"}} {
		if c.role == "" {
			continue
		}
		changed, err := servers.SetRole(ctx, name, c.role, c.has)
		if err != nil {
			return "", err
		}
		text := fmt.Sprintf("%s the role %s", c.verb, c.role)
		if !changed {
			text += " (as before)"
		}
		said = append(said, text)
	}
	if status != "" {
		if err := servers.SetServerStatus(ctx, name, status); err != nil {
			return "", err
		}
		said = append(said, "status is now "+status)
	}
	return strings.Join(said, ", "), nil
}

func serverRetireCommand() *cobra.Command {
	return changeServer(&cobra.Command{
		Use: "retire SERVER", Short: "Take all roles from a server, for good",
		Long: `Take all roles from a server and mark it repair_required: it hands its shards over
and never leads again. The row stays, because with an empty table every replica
may lead.`,
		Example: "  hostsched server retire sched-1 --reason 'end of life' --yes",
	}, true, []lister{serverNames}, func(ctx context.Context, servers *admin.Lab, name, reason string) (string, error) {
		return "retired", servers.RetireServer(ctx, name, reason)
	})
}
