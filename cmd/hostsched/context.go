package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labclient"
)

func contextCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "context", Short: "Keep the addresses of labs, and choose one",
		Long: `A context is a lab with a name: the addresses of its servers, and the token that
'hostsched login' left there. They are kept in ~/.config/hostsched/config.yaml,
which nobody else may read. Several servers of one lab answer the same: if one
is away, the next one is asked.`,
		Example: "  hostsched context add lab --server https://lab-1:8470,https://lab-2:8470",
	}, contextListCommand(), contextAddCommand(), contextUseCommand(), contextRemoveCommand())
}

// namedContext is a context as it is shown: whether it has a token, and not which.
type namedContext struct {
	Name    string   `json:"name"`
	Current bool     `json:"current"`
	Servers []string `json:"servers"`
	Token   bool     `json:"token"`
}

func contextListCommand() *cobra.Command {
	show := newDisplay(func(c namedContext) string { return c.Name },
		column[namedContext]{title: "NAME", cell: func(c namedContext) any { return c.Name }},
		column[namedContext]{title: "CURRENT", cell: func(c namedContext) any { return yesNo(c.Current) }},
		column[namedContext]{title: "TOKEN", cell: func(c namedContext) any { return yesNo(c.Token) }},
		column[namedContext]{title: "SERVERS", cell: func(c namedContext) any { return listed(c.Servers) }},
	)
	cmd := &cobra.Command{
		Use: "list", Short: "List the contexts", Args: noArgs, Example: "  hostsched context list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show.list(cmd.Context(), cmd, func(context.Context) ([]namedContext, error) {
				_, all, err := readContexts()
				out := []namedContext{}
				for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
					c := all.Contexts[name]
					out = append(out, namedContext{Name: name, Current: name == all.Current, Servers: c.Servers, Token: c.Token != "" || c.TokenFile != ""})
				}
				return out, err
			})
		},
	}
	show.bind(cmd)
	return cmd
}

func contextAddCommand() *cobra.Command {
	var c labclient.Context
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add or change a context, and use it", Args: exactly("NAME"),
		Example: "  hostsched context add lab --server https://lab-1:8470,https://lab-2:8470",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(c.Servers) == 0 {
				return fmt.Errorf("%w: --server is missing; see '%s --help'", errUsage, cmd.CommandPath())
			}
			if err := fromAnyFolder(&c); err != nil {
				return err
			}
			check := labclient.Config{Servers: c.Servers, CAFile: c.CAFile}
			if c.TokenFile != "" {
				var err error
				if check.Token, err = readToken(cmd, c.TokenFile); err != nil {
					return err
				}
			}
			if _, err := labclient.New(check); err != nil {
				return err
			}
			return changeContexts(func(all *labclient.Contexts) error {
				if slices.Equal(all.Contexts[args[0]].Servers, c.Servers) && c.TokenFile == "" {
					c.Token = all.Contexts[args[0]].Token
				}
				all.Contexts[args[0]], all.Current = c, args[0]
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&c.Servers, "server", nil, "address of the lab, several with commas: https://HOST:PORT or unix:/PATH")
	f.StringVar(&c.TokenFile, "token-file", "", "file with the token, if somebody else keeps it there")
	f.StringVar(&c.CAFile, "ca-file", "", "authorities of the servers' certificates, in PEM form")
	return cmd
}

// fromAnyFolder makes the paths of a context mean the same files wherever it is used.
func fromAnyFolder(c *labclient.Context) error {
	if c.TokenFile == "-" {
		return fmt.Errorf("%w: a context keeps the path of a token; 'hostsched login --token-file -' keeps the token itself", errUsage)
	}
	for _, path := range []*string{&c.TokenFile, &c.CAFile} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		*path = absolute
	}
	return nil
}

func contextUseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Choose the context that is meant from now on", Args: exactly("NAME"),
		Example: "  hostsched context use lab", ValidArgsFunction: contextNames,
		RunE: func(_ *cobra.Command, args []string) error {
			return changeContexts(func(all *labclient.Contexts) error {
				if _, ok := all.Contexts[args[0]]; !ok {
					return noContext(args[0], *all)
				}
				all.Current = args[0]
				return nil
			})
		},
	}
}

func contextRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Forget a context and its token", Args: exactly("NAME"),
		Long:    "Forget a context and its token. The token stays valid: 'hostsched logout' ends it.",
		Example: "  hostsched context remove lab", ValidArgsFunction: contextNames,
		RunE: func(_ *cobra.Command, args []string) error {
			return changeContexts(func(all *labclient.Contexts) error {
				if _, ok := all.Contexts[args[0]]; !ok {
					return noContext(args[0], *all)
				}
				delete(all.Contexts, args[0])
				if all.Current == args[0] {
					all.Current = ""
				}
				return nil
			})
		},
	}
}

func noContext(name string, all labclient.Contexts) error {
	known := strings.Join(slices.Sorted(maps.Keys(all.Contexts)), ", ")
	return fmt.Errorf("%w: there is no context %q (there are: %s); add it with 'hostsched context add'", errUsage, name, firstOf(known, "none"))
}

func readContexts() (string, labclient.Contexts, error) {
	path, err := labclient.ContextsFile()
	if err != nil {
		return "", labclient.Contexts{}, err
	}
	all, err := labclient.ReadContexts(path)
	return path, all, err
}

func changeContexts(change func(*labclient.Contexts) error) error {
	path, all, err := readContexts()
	if err != nil {
		return err
	}
	if err := change(&all); err != nil {
		return err
	}
	return all.Write(path)
}

// contextNames completes the name of a context.
func contextNames(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	_, all, err := readContexts()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(all.Contexts)), cobra.ShellCompDirectiveNoFileComp
}
