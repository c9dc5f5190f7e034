package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// roleNames are the roles, from the least.
var roleNames = []string{"viewer", "user", "operator", "admin"}

func tokenCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "token", Short: "Make, list and revoke tokens",
		Long: `A token lets a program or a person call the API. It is shown once, when it is
made; the lab keeps only its hash.`,
		Example: "  hostsched token create ci --role user --expires 90d",
	}, tokenCreateCommand(), tokenListCommand(), tokenRevokeCommand())
}

func tokenCreateCommand() *cobra.Command {
	var conn connection
	var out output
	var in labapi.TokenInput
	var lasts time.Duration
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a token and print it, once", Args: exactly("NAME"),
		Example: `  hostsched token create ci --role user --expires 90d > ci.token
  hostsched token create laptop --login alice`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Name = args[0]
			if in.Role != "" {
				if err := oneOf(in.Role, roleNames); err != nil {
					return fmt.Errorf("%w: --role: %w", errUsage, err)
				}
			}
			if lasts > 0 {
				end := time.Now().Add(lasts).UTC().Truncate(time.Second)
				in.Expires = &end
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				var made labapi.NewToken
				if err := client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/tokens", Body: in}, &made); err != nil {
					return err
				}
				if out.format != outputTable {
					return out.write(cmd, made, nil)
				}
				return line(cmd.OutOrStdout(), "%s", made.Secret)
			})
		},
	}
	conn.bind(cmd)
	out.bind(cmd, outputYAML)
	f := cmd.Flags()
	f.StringVar(&in.Login, "login", "", "whose token; your own if left out")
	f.StringVar(&in.Role, "role", "", "the role that it has at most: viewer, user, operator, admin")
	completeFlag(cmd, "role", cobra.FixedCompletions(roleNames, cobra.ShellCompDirectiveNoFileComp))
	bind(cmd, &lasts, "expires", 0, 0, maxTokenLife, "when it ends, from now, like 90d; never if 0")
	return cmd
}

// maxTokenLife is ten years.
const maxTokenLife = 10 * 365 * 24 * time.Hour

func tokenListCommand() *cobra.Command {
	var conn connection
	var all bool
	show := newDisplay(func(t labapi.Token) string { return strconv.FormatInt(t.ID, 10) },
		column[labapi.Token]{title: "ID", cell: func(t labapi.Token) any { return t.ID }},
		column[labapi.Token]{title: "NAME", cell: func(t labapi.Token) any { return t.Name }},
		column[labapi.Token]{title: "LOGIN", cell: func(t labapi.Token) any { return t.Login }},
		column[labapi.Token]{title: "ROLE", cell: func(t labapi.Token) any { return orDash(t.Role) }},
		column[labapi.Token]{title: "CREATED", wide: true, cell: func(t labapi.Token) any { return utc(t.Created) }},
		column[labapi.Token]{title: "BY", wide: true, cell: func(t labapi.Token) any { return orDash(t.CreatedBy) }},
		column[labapi.Token]{title: "EXPIRES", cell: func(t labapi.Token) any { return when(t.Expires) }},
		column[labapi.Token]{title: "LAST-USED", cell: func(t labapi.Token) any { return when(t.LastUsed) }},
		column[labapi.Token]{title: "REVOKED", cell: func(t labapi.Token) any { return when(t.Revoked) }},
	)
	cmd := &cobra.Command{
		Use: "list", Short: "List your tokens, or all", Args: noArgs, Example: "  hostsched token list --all",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return show.list(ctx, cmd, func(ctx context.Context) ([]labapi.Token, error) {
					var page labapi.Page[labapi.Token]
					err := client.Get(ctx, "/tokens", query("all", boolText(all)), &page)
					return page.Items, err
				})
			})
		},
	}
	conn.bind(cmd)
	show.bind(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "those of everybody; for administrators")
	return cmd
}

func tokenRevokeCommand() *cobra.Command {
	var conn connection
	var many bulk
	var c consent
	cmd := &cobra.Command{
		Use: "revoke ID...", Short: "End tokens at once", Example: "  hostsched token revoke 7",
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := many.ids(cmd, args)
			if err != nil {
				return err
			}
			if err := c.ask(cmd, "end "+countOf(len(ids), "token")); err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return forEach(ctx, cmd, ids, "revoked", func(ctx context.Context, id int64) error {
					return client.Do(ctx, labclient.Call{Method: http.MethodDelete, Path: labclient.Path("tokens", strconv.FormatInt(id, 10))}, nil)
				})
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	c.bindYes(cmd)
	return cmd
}

// countOf is a number with its noun: 1 host, 2 hosts, 2 entries.
func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if stem, ok := strings.CutSuffix(what, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
