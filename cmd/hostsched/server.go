package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/app"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

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
	servers, closer, err := app.OpenServers(ctx, lab.Config, lab.Main.DB, nil)
	if err != nil {
		return err
	}
	if servers == nil {
		return errors.Join(fmt.Errorf("%w: %s has no servers table, so every replica may lead; name the database that has one with servers.dsn", sqldb.ErrSchema, lab.Main.Target()), closer())
	}
	return errors.Join(work(admin.New(servers)), closer())
}

// changeServer completes a command that changes the servers table and notes it.
func changeServer(cmd *cobra.Command, needsReason bool, listers []lister, edits func(server admin.ServerRef, reason string) ([]admin.ServerEdit, error)) *cobra.Command {
	cfg := &config.Config{}
	var c consent
	var force bool
	var row int64
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if row == 0 {
			return exactly("SERVER")(cmd, args)
		}
		return noArgs(cmd, args)
	}
	cmd.Long += " Refused without --force if no\nreplica that runs could lead afterwards. Recorded in hostsched_audit."
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		server := admin.ServerRef{Row: row}
		if row == 0 {
			server.Name = args[0]
		}
		change := ops.ServersChange{Action: "server " + cmd.Name(), Server: server.String(), Force: force}
		var err error
		if change.Edits, err = edits(server, c.by().Reason); err != nil {
			return err
		}
		if err := c.ask(cmd, change.Action+" "+change.Server); err != nil {
			return err
		}
		ctx := cmd.Context()
		return changeLab(ctx, cfg, func(lab ops.Lab) error {
			return withServersOf(ctx, lab, func(servers *admin.Lab) error {
				return withEtcd(cfg, func(client *clientv3.Client) error {
					said, err := lab.ChangeServers(ctx, servers, client, change, c.by())
					if err != nil {
						return err
					}
					return line(cmd.OutOrStdout(), "server %s: %s", server, said)
				})
			})
		})
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	c.bind(cmd, needsReason)
	cmd.Flags().BoolVar(&force, "force", false, "do it even if no running replica may lead afterwards")
	if len(listers) > 0 {
		bind(cmd, &row, "row", 0, 1, math.MaxInt64, "id of the row of the servers table, instead of its name")
	}
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
					return out.write(cmd, all.Rows, func(w io.Writer) error { return serversTable(w, all.Rows, out.wide()) })
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
	t.row("SERVER", "STATUS", "ROLES", inWide(wide, "ROW", "CNAME", "NOTE"))
	for _, s := range all {
		t.row(orDash(s.Name), orDash(s.Status), orDash(strings.Join(s.Roles, ",")), inWide(wide, s.Row, orDash(s.CName), orDash(s.Note)))
	}
	if len(all) == 0 {
		t.row("(none: every replica may lead)")
	}
	return t.flush()
}

// choiceFlag registers what a flag may be.
func choiceFlag(cmd *cobra.Command, name string, all []string) {
	completeFlag(cmd, name, cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp))
}

func serverAddCommand() *cobra.Command {
	var s admin.Server
	cmd := changeServer(&cobra.Command{
		Use: "add SERVER", Short: "Add a server to the servers table",
		Long: `Add a server to the servers table. As soon as that table has a row, only servers
with the role host_scheduler may lead: add one that runs first.`,
		Example: `  hostsched server add sched-1 --yes
  hostsched server add sched-3 --status backup --yes`,
	}, false, nil, func(server admin.ServerRef, _ string) ([]admin.ServerEdit, error) {
		s.Name = server.Name
		return []admin.ServerEdit{admin.AddServer(s)}, nil
	})
	cmd.Flags().StringVar(&s.Status, "status", admin.ServerPrimary, "status of the server: "+strings.Join(admin.Statuses, ", "))
	cmd.Flags().StringSliceVar(&s.Roles, "role", []string{admin.RoleHostScheduler}, "roles of the server")
	cmd.Flags().StringVar(&s.Note, "note", "", "note for people")
	choiceFlag(cmd, "status", admin.Statuses)
	choiceFlag(cmd, "role", admin.Roles)
	return cmd
}

func serverRoleCommand() *cobra.Command {
	var add, remove, status string
	cmd := changeServer(&cobra.Command{
		Use: "role SERVER | --row ID", Short: "Give a role to a server, take it away, or change its status",
		Long: `Give a role to a server, take it away, or change its status, all at once. A server
that loses the role host_scheduler hands its shards over at once.`,
		Example: `  hostsched server role sched-2 --add host_scheduler --yes
  hostsched server role sched-1 --remove host_scheduler --reason 'disk errors' --yes
  hostsched server role sched-1 --status backup --yes`,
	}, false, []lister{serverNames}, func(server admin.ServerRef, _ string) (edits []admin.ServerEdit, err error) {
		if add != "" {
			edits = append(edits, admin.GiveRole(server, add))
		}
		if remove != "" {
			edits = append(edits, admin.TakeRole(server, remove))
		}
		if status != "" {
			edits = append(edits, admin.SetServerStatus(server, status))
		}
		if len(edits) == 0 {
			err = fmt.Errorf("%w: say what to change: --add, --remove or --status", errUsage)
		}
		return edits, err
	})
	cmd.Flags().StringVar(&add, "add", "", "role to give")
	cmd.Flags().StringVar(&remove, "remove", "", "role to take away")
	cmd.Flags().StringVar(&status, "status", "", "new status: "+strings.Join(admin.Statuses, ", "))
	choiceFlag(cmd, "add", admin.Roles)
	choiceFlag(cmd, "remove", admin.Roles)
	choiceFlag(cmd, "status", admin.Statuses)
	return cmd
}

func serverRetireCommand() *cobra.Command {
	return changeServer(&cobra.Command{
		Use: "retire SERVER | --row ID", Short: "Take all roles from a server, for good",
		Long: `Take all roles from a server and mark it repair_required: it hands its shards over
and never leads again. The row stays, because with an empty table every replica
may lead. A server whose name cannot be typed is named with --row by the id of its
row, which 'hostsched server list -o wide' shows.`,
		Example: `  hostsched server retire sched-1 --reason 'end of life' --yes
  hostsched server retire --row 7 --reason 'entered by mistake' --yes`,
	}, true, []lister{serverNames}, func(server admin.ServerRef, reason string) ([]admin.ServerEdit, error) {
		return []admin.ServerEdit{admin.RetireServer(server, reason)}, nil
	})
}
