package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/store/admin"
)

// completionTimeout bounds what a person waits for after the tabulator key.
const completionTimeout = 2 * time.Second

// lister lists what an argument or a flag may be.
type lister func(context.Context, ops.Lab) ([]string, error)

// completeArgs completes the first argument of a command with the first lister,
// the second with the second, and nothing after that.
func completeArgs(cfg *config.Config, listers ...lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(listers) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, cfg, listers[len(args)], prefix)
	}
}

// complete asks the lab of the configuration. A person who presses the tabulator
// key is not told what went wrong: there is just nothing to choose from.
func complete(cmd *cobra.Command, cfg *config.Config, list lister, prefix string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	var out []string
	// What was listed until something failed is still of use.
	_ = withLab(ctx, cfg, func(lab ops.Lab) error {
		all, err := list(ctx, lab)
		for _, name := range all {
			if strings.HasPrefix(name, prefix) {
				out = append(out, name)
			}
		}
		return err
	})
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeFlag registers how the value of a flag is completed.
func completeFlag(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	// It fails for a flag that does not exist, or that is registered already.
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

// completeSettings registers the values of those settings that have a list of them.
func completeSettings(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		s, ok := f.Value.(interface{ Choices() []string })
		if ok && len(s.Choices()) > 0 {
			completeFlag(cmd, f.Name, cobra.FixedCompletions(s.Choices(), cobra.ShellCompDirectiveNoFileComp))
		}
	})
	for _, sub := range cmd.Commands() {
		completeSettings(sub)
	}
}

func shardNames(ctx context.Context, lab ops.Lab) ([]string, error) { return lab.ShardNames(ctx) }

func labelNames(ctx context.Context, lab ops.Lab) ([]string, error) { return lab.Main.LabelNames(ctx) }

// serverNames lists the servers table.
func serverNames(ctx context.Context, lab ops.Lab) ([]string, error) {
	var out []string
	err := withServersOf(ctx, lab, func(servers *admin.Lab) error {
		all, err := servers.Servers(ctx)
		for _, s := range all.Rows {
			out = append(out, s.Name)
		}
		return err
	})
	return out, err
}

// leaderNames lists which servers a shard may be handed over to: those of the
// servers table, those that run, and the word for any of them.
func leaderNames(ctx context.Context, lab ops.Lab) ([]string, error) {
	out, err := serverNames(ctx, lab)
	out = append(out, election.AnyServer)
	return out, errors.Join(err, withEtcd(lab.Config, func(client *clientv3.Client) error {
		view, err := election.Look(ctx, client, lab.Config.Cluster)
		for _, s := range view.Servers {
			out = append(out, s.Server)
		}
		return err
	}))
}
