package main

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// listCommand lists things of one kind. Lists that have no pages are short.
func listCommand[T any](noun, short, path string, paged bool, show *display[T]) *cobra.Command {
	var conn connection
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: short, Args: noArgs, Example: "  hostsched " + noun + " list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return show.list(ctx, cmd, func(ctx context.Context) ([]T, error) {
					if paged {
						return labclient.List[T](ctx, client, path, nil, limit)
					}
					var page labapi.Page[T]
					err := client.Get(ctx, path, nil, &page)
					return page.Items, err
				})
			})
		},
	}
	conn.bind(cmd)
	show.bindWatch(cmd)
	if paged {
		bindLimit(cmd, &limit)
	}
	return cmd
}

// removeCommand removes things by their names, after a question. selected, which lists what a
// selector chooses, and more may be nil.
func removeCommand(noun, use, short, long, path string, names labLister, selected labSelected, more func() url.Values) *cobra.Command {
	var conn connection
	var many bulk
	var c consent
	cmd := &cobra.Command{
		Use: "remove " + use + "...", Short: short, Long: long, Example: "  hostsched " + noun + " remove nightly --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := many.required(cmd, args)
			if err != nil {
				return err
			}
			if err := c.ask(cmd, "remove "+many.count(len(all), noun)); err != nil {
				return err
			}
			var q url.Values
			if more != nil {
				q = more()
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				all, err := many.resolve(ctx, client, all)
				if err != nil {
					return err
				}
				return forEach(ctx, cmd, all, "removed", func(ctx context.Context, name string) error {
					return client.Do(ctx, labclient.Call{Method: http.MethodDelete, Path: path + labclient.Path(name), Query: q, Header: labclient.AnyVersion()}, nil)
				})
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	if selected != nil {
		many.bindSelected(cmd, "all "+noun+"s whose labels fit", selected)
	}
	c.bindYes(cmd)
	cmd.ValidArgsFunction = completeMany(&conn, names)
	return cmd
}

// addCommand enters things by their names.
func addCommand(noun, use, short, path string, body func(name string) any) *cobra.Command {
	var conn connection
	var many bulk
	cmd := &cobra.Command{
		Use: "add " + use + "...", Short: short, Example: "  hostsched " + noun + " add nightly",
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := many.required(cmd, args)
			if err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return forEach(ctx, cmd, all, "added", func(ctx context.Context, name string) error {
					return client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: path, Body: body(name)}, nil)
				})
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	return cmd
}

// showCommand reads the one thing that an argument names, and writes it. path says where it is,
// bindOutput declares how it may be written.
func showCommand[T any](cmd *cobra.Command, names labLister, path func(argument string) (string, error), bindOutput func(*cobra.Command), write func(*cobra.Command, T) error) *cobra.Command {
	var conn connection
	_, argument, _ := strings.Cut(cmd.Use, " ")
	cmd.Args = exactly(argument)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		at, err := path(args[0])
		if err != nil {
			return err
		}
		return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
			var thing T
			if err := client.Get(ctx, at, nil, &thing); err != nil {
				return err
			}
			return write(cmd, thing)
		})
	}
	conn.bind(cmd)
	bindOutput(cmd)
	if names != nil {
		cmd.ValidArgsFunction = completeFirst(&conn, names)
	}
	return cmd
}

// pathOfName and pathOfID are paths of showCommand; any text may be a name, and only a number
// an id.
func pathOfName(path func(name string, more ...string) string, more ...string) func(string) (string, error) {
	return func(name string) (string, error) { return path(name, more...), nil }
}

func pathOfID(path func(id int64, more ...string) string, more ...string) func(string) (string, error) {
	return func(text string) (string, error) {
		id, err := parseID(text)
		return path(id, more...), err
	}
}
