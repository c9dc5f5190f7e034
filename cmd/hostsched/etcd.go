package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
)

func etcdCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "etcd",
		Short: "List, add and remove the members of the etcd that the servers run themselves",
		Long: `With the setting etcd.embedded the servers of an installation are their own etcd
cluster: each runs one member. These commands ask the member of this machine. The
members of an etcd that somebody else runs are changed with etcdctl.`,
		Example: "  hostsched etcd list --config /etc/hostsched.yaml",
	}, etcdListCommand(), etcdAddCommand(), etcdRemoveCommand())
}

func etcdListCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	cmd := &cobra.Command{
		Use: "list", Short: "List the members, and ask each whether it is there", Args: noArgs,
		Long: `List the members as the member of this machine knows them, also while etcd has no
leader, and ask all of them at the same time whether they are there: at their
addresses for clients, or, if these are for their own machines only, at those for
the other members. The last line says how many more may be lost.

The exit code is 1 if so few answer that etcd decides nothing.`,
		Example: "  hostsched etcd list --data-dir /var/lib/hostsched",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := loadLab(cfg); err != nil {
				return err
			}
			return withEtcd(cfg, func(client *clientv3.Client) error { return listMembers(cmd, cfg, &out, client) })
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	out.bind(cmd)
	return cmd
}

// listMembers fails with exit code 1 if etcd decides nothing.
func listMembers(cmd *cobra.Command, cfg *config.Config, out *output, client *clientv3.Client) error {
	members, err := ops.AskEtcdMembers(cmd.Context(), cfg, client)
	if err != nil {
		return err
	}
	text, spare := ops.EtcdQuorum(members)
	err = out.write(cmd, members, func(w io.Writer) error { return membersTable(w, members, text) })
	if err == nil && spare < 0 {
		err = coded{code: exitFailed}
	}
	return err
}

func membersTable(w io.Writer, members []ops.EtcdMember, quorum string) error {
	t := newTable(w)
	t.row("ID", "NAME", "PEER URLS", "STARTED", "VOTING", "ANSWERS", "WHY NOT")
	for _, m := range members {
		t.row(m.ID, orDash(m.Name), strings.Join(m.PeerURLs, ","), yesNo(m.Started), yesNo(m.Voting), yesNo(m.Answers), orDash(m.Error))
	}
	t.row()
	t.line("%s", quorum)
	return t.flush()
}

// changeMembers completes a command that changes the members of etcd, and records it.
func changeMembers(cmd *cobra.Command, what string, work func(*cobra.Command, []string, ops.Lab, *clientv3.Client, ops.By) error) *cobra.Command {
	cfg := &config.Config{}
	var c consent
	cmd.Long += "\nRecorded in hostsched_audit."
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.ask(cmd, fmt.Sprintf(what, args[0])); err != nil {
			return err
		}
		return changeLab(cmd.Context(), cfg, func(lab ops.Lab) error {
			return withEtcd(cfg, func(client *clientv3.Client) error {
				return cfg.EtcdConnection().Explain(cmd.Context(), work(cmd, args, lab, client, c.by()))
			})
		})
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	c.bind(cmd, false)
	return cmd
}

func etcdAddCommand() *cobra.Command {
	return changeMembers(&cobra.Command{
		Use: "add NAME PEER-URL", Short: "Add a member, before its server starts for the first time",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := exactly("NAME", "PEER-URL")(cmd, args); err != nil {
				return err
			}
			return config.CheckEtcdMember(args[0], args[1])
		},
		Long: `Add a member to the etcd that the servers run themselves, and print the settings
with which its server starts. The new member votes as soon as it has the others'
data; until then they decide without it, and no other one can be added.`,
		Example: "  hostsched etcd add sched-2 http://10.0.0.2:2380 --yes",
	}, "add member %s to etcd", func(cmd *cobra.Command, args []string, lab ops.Lab, client *clientv3.Client, by ops.By) error {
		all, err := lab.AddEtcdMember(cmd.Context(), client, args[0], args[1], by)
		if len(all) == 0 {
			return err
		}
		for _, text := range []string{
			"member " + args[0] + " was added; start its server with these settings besides the others:",
			"etcd:", "  embedded: true", "  name: " + args[0],
			"  initial_cluster: [" + strings.Join(all, ", ") + "]", "  initial_cluster_state: existing",
		} {
			err = errors.Join(err, line(cmd.OutOrStdout(), "%s", text))
		}
		return err
	})
}

func etcdRemoveCommand() *cobra.Command {
	return changeMembers(&cobra.Command{
		Use: "remove NAME|ID", Short: "Remove a member for good", Args: exactly("NAME"),
		Long: `Remove a member for good, because its server is lost or goes. Its server cannot come
back with the data that it has: it is added anew, and starts with an empty folder.`,
		Example: "  hostsched etcd remove sched-2 --reason 'its disk is lost' --yes",
	}, "remove member %s from etcd", func(cmd *cobra.Command, args []string, lab ops.Lab, client *clientv3.Client, by ops.By) error {
		m, err := lab.RemoveEtcdMember(cmd.Context(), client, args[0], by)
		if m.ID == "" {
			return err
		}
		return errors.Join(err, line(cmd.OutOrStdout(), "member %s at %s was removed", orDash(m.Name), strings.Join(m.PeerURLs, ",")))
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
