package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/app"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// withServers opens the database and the one with the servers table.
func withServers(cmd *cobra.Command, cfg *config.Config, work func(ctx context.Context, main, servers *store.DB) error) error {
	return withDatabase(cmd.Context(), cfg, false, func(db *store.DB) error {
		servers, closer, err := app.OpenServers(cmd.Context(), cfg, db)
		if err != nil {
			return err
		}
		if servers == nil {
			return errors.Join(fmt.Errorf("%w: %s has no servers table, so every replica may lead; name the database that has one with servers.dsn", sqldb.ErrSchema, db.Target()), closer())
		}
		return errors.Join(work(cmd.Context(), db, servers), closer())
	})
}

// changeServer is a command that changes the servers table and notes it.
func changeServer(use, short, long, example string, needsReason bool, args cobra.PositionalArgs, flags func(*cobra.Command),
	change func(ctx context.Context, servers *store.DB, args []string, reason string) (said string, err error)) *cobra.Command {
	cfg := &config.Config{}
	var c consent
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long + " Recorded in hostsched_audit.", Example: example, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			verb, _, _ := strings.Cut(use, " ")
			if err := c.ask(cmd, "server "+verb+" "+strings.Join(args, " ")); err != nil {
				return err
			}
			return withServers(cmd, cfg, func(ctx context.Context, main, servers *store.DB) error {
				said, err := change(ctx, servers, args, c.reason)
				if err != nil {
					return err
				}
				if err := admin.New(main).Audit(ctx, whoami(), "server "+verb, args[0], strings.TrimSpace(said+"; "+c.reason)); err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "server %s: %s\n", args[0], said)
				return err
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.bind(cmd, needsReason)
	flags(cmd)
	return cmd
}

func serverListCommand() *cobra.Command {
	cfg := &config.Config{}
	var output string
	cmd := &cobra.Command{
		Use: "list", Short: "List the servers table with roles", Args: noArgs,
		Example: "  hostsched server list -o wide",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withServers(cmd, cfg, func(ctx context.Context, _, servers *store.DB) error {
				all, err := admin.New(servers).Servers(ctx)
				if err != nil {
					return err
				}
				return write(cmd, output, all, func(w io.Writer) error {
					tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
					header, row := "SERVER\tSTATUS\tROLES\n", func(admin.Server) string { return "" }
					if output == outputWide {
						header, row = "SERVER\tSTATUS\tROLES\tCNAME\tNOTE\n", func(s admin.Server) string { return "\t" + orDash(s.CName) + "\t" + orDash(s.Note) }
					}
					fmt.Fprint(tw, header)
					for _, s := range all {
						fmt.Fprintf(tw, "%s\t%s\t%s%s\n", s.Name, orDash(s.Status), orDash(strings.Join(s.Roles, ",")), row(s))
					}
					if len(all) == 0 {
						fmt.Fprintln(tw, "(none: every replica may lead)")
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

func serverAddCommand() *cobra.Command {
	var status, note string
	var roles []string
	return changeServer("add SERVER", "Add a server to the servers table",
		`Add a server to the servers table. As soon as that table has a row, only servers
with the role host_scheduler may lead.`,
		`  hostsched server add sched-1 --yes
  hostsched server add sched-3 --status backup --yes`,
		false, exactly("SERVER"), func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&status, "status", admin.ServerPrimary, "primary, backup or repair_required")
			cmd.Flags().StringSliceVar(&roles, "role", []string{admin.RoleHostScheduler}, "roles of the server")
			cmd.Flags().StringVar(&note, "note", "", "note for people")
		},
		func(ctx context.Context, servers *store.DB, args []string, _ string) (string, error) {
			if err := checkStatus(status); err != nil {
				return "", err
			}
			err := admin.New(servers).AddServer(ctx, admin.Server{Name: args[0], Status: status, Roles: roles, Note: note})
			return fmt.Sprintf("added as %s with roles %s", status, strings.Join(roles, ",")), err
		})
}

func checkStatus(status string) error {
	all := []string{admin.ServerPrimary, admin.ServerBackup, admin.ServerRepairRequired}
	if !slices.Contains(all, status) {
		return fmt.Errorf("%w: status %q; it must be one of %s", errUsage, status, strings.Join(all, ", "))
	}
	return nil
}

func serverRoleCommand() *cobra.Command {
	var add, remove, status string
	return changeServer("role SERVER", "Give a role to a server, take it away, or change its status",
		`Give a role to a server, take it away, or change its status. A server that loses
the role host_scheduler hands its shards over at once.`,
		`  hostsched server role sched-2 --add host_scheduler --yes
  hostsched server role sched-1 --remove host_scheduler --reason 'disk errors' --yes
  hostsched server role sched-1 --status backup --yes`,
		false, exactly("SERVER"), func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&add, "add", "", "role to give")
			cmd.Flags().StringVar(&remove, "remove", "", "role to take away")
			cmd.Flags().StringVar(&status, "status", "", "new status: primary, backup or repair_required")
		},
		func(ctx context.Context, servers *store.DB, args []string, _ string) (string, error) {
			if add+remove+status == "" {
				return "", fmt.Errorf("%w: say what to change: --add, --remove or --status", errUsage)
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
				changed, err := admin.New(servers).SetRole(ctx, args[0], c.role, c.has)
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
				if err := checkStatus(status); err != nil {
					return "", err
				}
				if err := admin.New(servers).SetServerStatus(ctx, args[0], status); err != nil {
					return "", err
				}
				said = append(said, "status is now "+status)
			}
			return strings.Join(said, ", "), nil
		})
}

func serverRetireCommand() *cobra.Command {
	return changeServer("retire SERVER", "Take all roles from a server, for good",
		`Take all roles from a server and mark it repair_required: it hands its shards over
and never leads again. The row stays, because with an empty table every replica
may lead.`,
		"  hostsched server retire sched-1 --reason 'end of life' --yes",
		true, exactly("SERVER"), func(*cobra.Command) {},
		func(ctx context.Context, servers *store.DB, args []string, reason string) (string, error) {
			return "retired", admin.New(servers).RetireServer(ctx, args[0], reason)
		})
}
