package main

import (
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

// onEtcd completes a command that only needs etcd.
func onEtcd(cmd *cobra.Command, work func(*cobra.Command, *config.Config, []string, *clientv3.Client) error) *cobra.Command {
	cfg := &config.Config{}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := loadLab(cfg); err != nil {
			return err
		}
		return withEtcd(cfg, func(client *clientv3.Client) error {
			return cfg.EtcdConnection().Explain(cmd.Context(), work(cmd, cfg, args, client))
		})
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	return cmd
}

func etcdListCommand() *cobra.Command {
	var out output
	cmd := onEtcd(&cobra.Command{
		Use: "list", Short: "List the members, and ask each whether it is there", Args: noArgs,
		Long: `List the members as the member of this machine knows them, also while etcd has no
leader, and ask all of them at the same time whether they are there: at their
addresses for clients, or, if these are for their own machines only, at those for
the other members. The last line says how many more may be lost.

The exit code is 1 if so few answer that etcd decides nothing.`,
		Example: "  hostsched etcd list --data-dir /var/lib/hostsched",
	}, func(cmd *cobra.Command, cfg *config.Config, _ []string, client *clientv3.Client) error {
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
	})
	out.bind(cmd)
	return cmd
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

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func etcdAddCommand() *cobra.Command {
	var c consent
	cmd := onEtcd(&cobra.Command{
		Use: "add NAME PEER-URL", Short: "Add a member, before its server starts for the first time", Args: exactly("NAME", "PEER-URL"),
		Long: `Add a member to the etcd that the servers run themselves, and print the settings
with which its server starts. The new member votes as soon as it has the others'
data; until then they decide without it.`,
		Example: "  hostsched etcd add sched-2 http://10.0.0.2:2380 --yes",
	}, func(cmd *cobra.Command, _ *config.Config, args []string, client *clientv3.Client) error {
		if err := c.ask(cmd, "add member "+args[0]+" to etcd"); err != nil {
			return err
		}
		all, err := ops.AddEtcdMember(cmd.Context(), client, args[0], args[1])
		if err != nil {
			return err
		}
		for _, text := range []string{
			"member " + args[0] + " was added; start its server with these settings besides the others:",
			"etcd:", "  embedded: true", "  name: " + args[0],
			"  initial_cluster: [" + strings.Join(all, ", ") + "]", "  initial_cluster_state: existing",
		} {
			if err := line(cmd.OutOrStdout(), "%s", text); err != nil {
				return err
			}
		}
		return nil
	})
	c.bindYes(cmd)
	return cmd
}

func etcdRemoveCommand() *cobra.Command {
	var c consent
	cmd := onEtcd(&cobra.Command{
		Use: "remove NAME|ID", Short: "Remove a member for good", Args: exactly("NAME"),
		Long: `Remove a member for good, because its server is lost or goes. Its server cannot come
back with the data that it has: it is added anew, and starts with an empty folder.`,
		Example: "  hostsched etcd remove sched-2 --yes",
	}, func(cmd *cobra.Command, _ *config.Config, args []string, client *clientv3.Client) error {
		if err := c.ask(cmd, "remove member "+args[0]+" from etcd"); err != nil {
			return err
		}
		m, err := ops.RemoveEtcdMember(cmd.Context(), client, args[0])
		if err != nil {
			return err
		}
		return line(cmd.OutOrStdout(), "member %s at %s was removed", orDash(m.Name), strings.Join(m.PeerURLs, ","))
	})
	c.bindYes(cmd)
	return cmd
}
