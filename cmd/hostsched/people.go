package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

func poolCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "pool", Short: "See what the hosts of each label do",
		Long:    "A pool is a label with the hosts that carry it.",
		Example: "  hostsched pool status board:eve",
	}, poolStatusCommand())
}

func poolStatusCommand() *cobra.Command {
	var conn connection
	show := newDisplay(func(p labapi.Pool) string { return p.Label },
		column[labapi.Pool]{title: "LABEL", cell: func(p labapi.Pool) any { return p.Label }},
		column[labapi.Pool]{title: "HAVE", cell: func(p labapi.Pool) any { return p.Have }},
		column[labapi.Pool]{title: "IDLE", cell: func(p labapi.Pool) any { return p.Idle }},
		column[labapi.Pool]{title: "RUNNING", cell: func(p labapi.Pool) any { return p.Running }},
		column[labapi.Pool]{title: "HELD", cell: func(p labapi.Pool) any { return p.Held }},
		column[labapi.Pool]{title: "BROKEN", cell: func(p labapi.Pool) any { return p.Broken }},
		column[labapi.Pool]{title: "WAITING", cell: func(p labapi.Pool) any { return p.Waiting }},
		column[labapi.Pool]{title: "OLDEST-WAIT", cell: func(p labapi.Pool) any { return seconds(p.OldestWait) }},
	)
	cmd := &cobra.Command{
		Use: "status [LABEL]", Short: "Show how many hosts are idle, running, held and broken, and what waits for them",
		Args:    optional("LABEL"),
		Example: "  hostsched pool status --watch",
		RunE: func(cmd *cobra.Command, args []string) error {
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return show.list(ctx, cmd, func(ctx context.Context) ([]labapi.Pool, error) {
					if len(args) == 1 {
						var one labapi.Pool
						err := client.Get(ctx, labclient.Path("pools", args[0]), nil, &one)
						return []labapi.Pool{one}, err
					}
					var page labapi.Page[labapi.Pool]
					err := client.Get(ctx, "/pools", nil, &page)
					return page.Items, err
				})
			})
		},
	}
	conn.bind(cmd)
	show.bindWatch(cmd)
	cmd.ValidArgsFunction = completeFirst(&conn, labelsOf)
	return cmd
}

func labelCommand() *cobra.Command {
	show := newDisplay(func(l labapi.Label) string { return l.Name },
		column[labapi.Label]{title: "NAME", cell: func(l labapi.Label) any { return l.Name }},
		column[labapi.Label]{title: "HOSTS", cell: func(l labapi.Label) any { return l.Hosts }},
		column[labapi.Label]{title: "SHARD", cell: func(l labapi.Label) any { return orDash(l.Shard) }},
	)
	var fromHosts bool
	remove := removeCommand("label", "LABEL", "Remove labels", "Remove labels that no host carries and nothing waits for.", "/labels", labelsOf, nil,
		func() url.Values { return query("from_hosts", boolText(fromHosts)) })
	remove.Flags().BoolVar(&fromHosts, "from-hosts", false, "take them from the hosts that carry them")
	return group(&cobra.Command{
		Use: "label", Short: "List, enter and remove labels",
		Long:    "A label is a property of hosts. 'hostsched host label' gives it to hosts.",
		Example: "  hostsched label list",
	}, listCommand("label", "List the labels", "/labels", true, show),
		addCommand("label", "LABEL", "Enter labels", "/labels", func(name string) any { return labapi.LabelInput{Name: name} }),
		remove)
}

func userDisplay() *display[labapi.User] {
	return newDisplay(func(u labapi.User) string { return u.Login },
		column[labapi.User]{title: "LOGIN", cell: func(u labapi.User) any { return u.Login }},
		column[labapi.User]{title: "ROLE", cell: func(u labapi.User) any { return u.Role }},
		column[labapi.User]{title: "ACL-GROUPS", cell: func(u labapi.User) any { return listed(u.ACLGroups) }},
	)
}

func userCommand() *cobra.Command {
	show := userDisplay()
	return group(&cobra.Command{
		Use: "user", Short: "List, enter and remove users",
		Long:    "A user submits jobs. What somebody may do besides is said by a role.",
		Example: "  hostsched user add alice",
	}, listCommand("user", "List the users", "/users", true, show),
		addCommand("user", "LOGIN", "Enter users, who are in Everyone", "/users", func(name string) any { return labapi.UserInput{Login: name} }),
		removeCommand("user", "LOGIN", "Remove users", "Remove users to whom nothing refers, with all their tokens.", "/users", nil, nil, nil))
}

// kindsOfGrants are to whom a role may be given.
var kindsOfGrants = []string{"user", "group"}

func roleCommand() *cobra.Command {
	show := newDisplay(func(g labapi.RoleGrant) string { return g.Kind + "/" + g.Name },
		column[labapi.RoleGrant]{title: "KIND", cell: func(g labapi.RoleGrant) any { return g.Kind }},
		column[labapi.RoleGrant]{title: "NAME", cell: func(g labapi.RoleGrant) any { return g.Name }},
		column[labapi.RoleGrant]{title: "ROLE", cell: func(g labapi.RoleGrant) any { return g.Role }},
	)
	return group(&cobra.Command{
		Use: "role", Short: "Say who may do what",
		Long: `Roles are viewer, user, operator and admin; each may do what the ones before it
may. They are given to users, and to groups of the identity provider.`,
		Example: "  hostsched role add user alice operator",
	}, listCommand("role", "List the roles that were given", "/roles", false, show), roleAddCommand(), roleRemoveCommand())
}

func rolePath(kind, name string) (string, error) {
	if err := oneOf(kind, kindsOfGrants); err != nil {
		return "", fmt.Errorf("%w: KIND: %w", errUsage, err)
	}
	return labclient.Path("roles", kind, name), nil
}

func roleAddCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use: "add KIND NAME ROLE", Short: "Give a role to a user or a group, instead of any other", Args: exactly("KIND", "NAME", "ROLE"),
		Example:           "  hostsched role add group lab-admins admin",
		ValidArgsFunction: cobra.FixedCompletions(kindsOfGrants, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := rolePath(args[0], args[1])
			if err != nil {
				return err
			}
			if err := oneOf(args[2], roleNames); err != nil {
				return fmt.Errorf("%w: ROLE: %w", errUsage, err)
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return client.Do(ctx, labclient.Call{Method: http.MethodPut, Path: path, Body: labapi.RoleInput{Role: args[2]}}, nil)
			})
		},
	}
	conn.bind(cmd)
	return cmd
}

func roleRemoveCommand() *cobra.Command {
	var conn connection
	var c consent
	cmd := &cobra.Command{
		Use: "remove KIND NAME", Short: "Take a role back", Args: exactly("KIND", "NAME"), Example: "  hostsched role remove user alice --yes",
		ValidArgsFunction: cobra.FixedCompletions(kindsOfGrants, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := rolePath(args[0], args[1])
			if err != nil {
				return err
			}
			if err := c.ask(cmd, "take the role of "+args[0]+" "+args[1]+" back"); err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return client.Do(ctx, labclient.Call{Method: http.MethodDelete, Path: path}, nil)
			})
		},
	}
	conn.bind(cmd)
	c.bindYes(cmd)
	return cmd
}

func aclCommand() *cobra.Command {
	show := aclDisplay()
	return group(&cobra.Command{
		Use: "acl", Short: "Say which users may use which hosts",
		Long: `An ACL group has users and hosts: its users may use its hosts. Everybody is in
Everyone, and so is every host that is in no other group.`,
		Example: "  hostsched acl add team-a --user alice --host eve-1",
	}, listCommand("acl", "List the ACL groups", "/acl-groups", true, show), aclShowCommand(), aclAddCommand(), aclChangeCommand(),
		removeCommand("acl", "GROUP", "Remove ACL groups", "Remove ACL groups. Hosts that are in no other one are in Everyone then.", "/acl-groups", nil, nil, nil))
}

func aclDisplay() *display[labapi.ACLGroup] {
	return newDisplay(func(g labapi.ACLGroup) string { return g.Name },
		column[labapi.ACLGroup]{title: "NAME", cell: func(g labapi.ACLGroup) any { return g.Name }},
		column[labapi.ACLGroup]{title: "USERS", cell: func(g labapi.ACLGroup) any { return g.UserCount }},
		column[labapi.ACLGroup]{title: "HOSTS", cell: func(g labapi.ACLGroup) any { return g.HostCount }},
		column[labapi.ACLGroup]{title: "DESCRIPTION", cell: func(g labapi.ACLGroup) any { return orDash(g.Description) }},
		column[labapi.ACLGroup]{title: "USER-NAMES", wide: true, cell: func(g labapi.ACLGroup) any { return listed(g.Users) }},
		column[labapi.ACLGroup]{title: "HOST-NAMES", wide: true, cell: func(g labapi.ACLGroup) any { return listed(g.Hosts) }},
	)
}

func aclPath(name string, more ...string) string {
	return labclient.Path(append([]string{"acl-groups", name}, more...)...)
}

func aclShowCommand() *cobra.Command {
	show := aclDisplay()
	return showCommand(&cobra.Command{Use: "show GROUP", Short: "Show an ACL group with its members", Example: "  hostsched acl show team-a -o yaml"},
		nil, pathOfName(aclPath), show.bind, func(cmd *cobra.Command, g labapi.ACLGroup) error {
			if err := show.one(cmd, g); err != nil || show.format != outputTable {
				return err
			}
			t := newTable(cmd.OutOrStdout())
			t.line("")
			t.row("users", orDash(listed(g.Users)))
			t.row("hosts", orDash(listed(g.Hosts)))
			return t.flush()
		})
}

func aclAddCommand() *cobra.Command {
	var conn connection
	var in labapi.ACLGroupInput
	cmd := &cobra.Command{
		Use: "add GROUP", Short: "Make an ACL group", Args: exactly("GROUP"), Example: "  hostsched acl add team-a --user alice --host eve-1,eve-2",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Name = args[0]
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/acl-groups", Body: in}, nil)
			})
		},
	}
	conn.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&in.Description, "description", "", "what it is for")
	f.StringSliceVar(&in.Users, "user", nil, "users in it")
	f.StringSliceVar(&in.Hosts, "host", nil, "hosts in it")
	completeLab(cmd, &conn, "host", hostsOf)
	return cmd
}

func aclChangeCommand() *cobra.Command {
	var conn connection
	var p labapi.ACLGroupPatch
	var description string
	cmd := &cobra.Command{
		Use: "change GROUP", Short: "Add and remove members of an ACL group", Args: exactly("GROUP"), Example: "  hostsched acl change team-a --add-user bob --remove-host eve-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("description") {
				p.Description = &description
			}
			if p.Description == nil && len(p.AddUsers)+len(p.RemoveUsers)+len(p.AddHosts)+len(p.RemoveHosts) == 0 {
				return fmt.Errorf("%w: nothing is to be changed; see '%s --help'", errUsage, cmd.CommandPath())
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return client.Do(ctx, labclient.Call{Method: http.MethodPatch, Path: aclPath(args[0]), Body: p, Header: labclient.AnyVersion()}, nil)
			})
		},
	}
	conn.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&description, "description", "", "what it is for")
	f.StringSliceVar(&p.AddUsers, "add-user", nil, "users who come into it")
	f.StringSliceVar(&p.RemoveUsers, "remove-user", nil, "users who leave it")
	f.StringSliceVar(&p.AddHosts, "add-host", nil, "hosts that come into it")
	f.StringSliceVar(&p.RemoveHosts, "remove-host", nil, "hosts that leave it")
	return cmd
}

// seconds is how long something took, to the second.
func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}
