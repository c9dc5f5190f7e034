package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

const (
	// askFor bounds what a person waits for after the tabulator key.
	askFor = time.Second
	// maxChoices is more than anybody reads.
	maxChoices = 1000
)

// labLister lists through the API what an argument or a flag may be, as far as it
// begins with a prefix.
type labLister func(ctx context.Context, client *labclient.Client, prefix string) ([]string, error)

func hostsOf(ctx context.Context, client *labclient.Client, prefix string) ([]string, error) {
	all, err := labclient.List[labapi.Host](ctx, client, "/hosts", query("q", prefix), maxChoices)
	return namesOf(all, func(h labapi.Host) string { return h.Hostname }), err
}

func labelsOf(ctx context.Context, client *labclient.Client, prefix string) ([]string, error) {
	all, err := labclient.List[labapi.Label](ctx, client, "/labels", query("q", prefix), maxChoices)
	return namesOf(all, func(l labapi.Label) string { return l.Name }), err
}

func agentsOf(ctx context.Context, client *labclient.Client, prefix string) ([]string, error) {
	all, err := labclient.List[labapi.Agent](ctx, client, "/agents", nil, maxChoices)
	names := namesOf(all, func(a labapi.Agent) string { return a.Name })
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) }), err
}

func jobsOf(ctx context.Context, client *labclient.Client, _ string) ([]string, error) {
	all, err := labclient.List[labapi.Job](ctx, client, "/jobs", nil, maxChoices)
	return namesOf(all, func(j labapi.Job) string { return strconv.FormatInt(j.ID, 10) }), err
}

func namesOf[T any](all []T, name func(T) string) []string {
	out := make([]string, 0, len(all))
	for _, one := range all {
		out = append(out, name(one))
	}
	return out
}

// completeFirst completes the first argument, completeMany every one.
func completeFirst(conn *connection, list labLister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return choices(cmd, conn, list, prefix)
	}
}

func completeMany(conn *connection, list labLister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return choices(cmd, conn, list, prefix)
	}
}

// completeLab completes the value of a flag.
func completeLab(cmd *cobra.Command, conn *connection, flag string, list labLister) {
	completeFlag(cmd, flag, completeMany(conn, list))
}

// choices asks the lab. A person who presses the tabulator key is not told what went wrong:
// there is just nothing to choose from.
func choices(cmd *cobra.Command, conn *connection, list labLister, prefix string) ([]string, cobra.ShellCompDirective) {
	if list == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	parent := cmd.Context()
	ctx, cancel := context.WithTimeout(parent, askFor)
	defer cancel()
	cmd.SetContext(ctx)
	defer cmd.SetContext(parent)
	var out []string
	_ = conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
		all, err := list(ctx, client, prefix)
		for _, name := range all {
			if strings.HasPrefix(name, prefix) {
				out = append(out, name)
			}
		}
		return err
	})
	return out, cobra.ShellCompDirectiveNoFileComp
}
