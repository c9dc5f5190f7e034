package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// Bounds of a login at the identity provider.
const (
	loginTimeout    = 15 * time.Minute
	minPollInterval = time.Second
	slowDownBy      = 5 * time.Second
)

// defaultContext is the name of the context that a login makes if there is none.
const defaultContext = "default"

func loginCommand() *cobra.Command {
	var conn connection
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "login", Short: "Log in and keep the token in the context", Args: noArgs,
		Long: `Log in. With --token-file, that token is tried and kept. Without, the identity
provider of the lab is asked: open the address that is printed, in any browser,
and confirm the code. The token is kept in the context, in
~/.config/hostsched/config.yaml, which nobody else may read.`,
		Example: `  hostsched login
  hostsched login --token-file hostsched-data/admin.token
  hostsched login --server https://lab.example:8470`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error { return login(ctx, cmd, &conn, client, wait) })
		},
	}
	conn.bind(cmd)
	bind(cmd, &wait, "wait-timeout", loginTimeout, time.Second, maxWait, "how long to wait until the code is confirmed")
	return cmd
}

func login(ctx context.Context, cmd *cobra.Command, conn *connection, client *labclient.Client, wait time.Duration) error {
	cfg, err := conn.kept(client)
	if err != nil {
		return err
	}
	if conn.tokenFile == "" {
		if cfg.Token, err = deviceLogin(ctx, cmd, client, wait); err != nil {
			return err
		}
	}
	if client, err = labclient.New(cfg); err != nil {
		return err
	}
	var me labapi.Whoami
	if err := client.Get(ctx, "/whoami", nil, &me); err != nil {
		return err
	}
	name, err := keepLogin(conn.context, cfg)
	if err != nil {
		return err
	}
	return line(cmd.OutOrStdout(), "logged in as %s (%s); context %s", me.Login, me.Role, name)
}

// kept is the configuration that a login keeps. Without --token-file, no former token is
// taken along.
func (c *connection) kept(client *labclient.Client) (labclient.Config, error) {
	out := labclient.Config{Servers: client.Servers(), Token: client.Token(), CAFile: c.caFile}
	if chosen, err := c.chosen(); err != nil {
		return out, err
	} else if out.CAFile == "" {
		out.CAFile = chosen.CAFile
	}
	if c.tokenFile == "" {
		out.Token = ""
	}
	return out, nil
}

// keepLogin puts the token into the context of these servers.
func keepLogin(name string, cfg labclient.Config) (string, error) {
	err := changeContexts(func(all *labclient.Contexts) error {
		name = firstOf(name, contextOf(*all, cfg.Servers), defaultContext)
		all.Contexts[name] = labclient.Context{Servers: cfg.Servers, Token: cfg.Token, CAFile: cfg.CAFile}
		all.Current = name
		return nil
	})
	return name, err
}

// contextOf finds the context with these servers: the current one if it has them.
func contextOf(all labclient.Contexts, servers []string) string {
	same := func(c labclient.Context) bool { return fmt.Sprint(c.Servers) == fmt.Sprint(servers) }
	if same(all.Contexts[all.Current]) {
		return all.Current
	}
	for name, c := range all.Contexts {
		if same(c) {
			return name
		}
	}
	return ""
}

// deviceLogin lets a person confirm a code in a browser, and waits for that.
func deviceLogin(ctx context.Context, cmd *cobra.Command, client *labclient.Client, wait time.Duration) (string, error) {
	var begun labapi.DeviceLogin
	if err := client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/login/device"}, &begun); err != nil {
		return "", err
	}
	if err := line(cmd.ErrOrStderr(), "Open %s and confirm the code %s", begun.VerificationURL, begun.UserCode); err != nil {
		return "", err
	}
	interval := max(time.Duration(begun.Interval)*time.Second, minPollInterval)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return "", coded{exitDetached, fmt.Errorf("nobody was logged in")}
		case <-time.After(interval):
		}
		var made labapi.NewToken
		err := client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/login/device/token", Body: labapi.DeviceCode{Code: begun.Code}}, &made)
		switch {
		case err == nil:
			return made.Secret, nil
		case labclient.IsProblem(err, "slow-down"):
			interval += slowDownBy
		case !labclient.IsProblem(err, "login-pending"):
			return "", err
		}
	}
	return "", coded{exitTimeout, fmt.Errorf("the code was not confirmed within %v; run 'hostsched login' again", wait)}
}

func logoutCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use: "logout", Short: "End the token of the context and forget it", Args: noArgs,
		Example: "  hostsched logout",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				if client.Token() == "" {
					return fmt.Errorf("%w: nobody is logged in here; 'hostsched context list' shows where", errUsage)
				}
				err := client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/logout"}, nil)
				if err != nil && !labclient.IsProblem(err, "token-not-valid") {
					return err
				}
				return forgetToken(client.Token())
			})
		},
	}
	conn.bind(cmd)
	return cmd
}

// forgetToken takes a token out of all contexts. One from elsewhere is in none.
func forgetToken(token string) error {
	return changeContexts(func(all *labclient.Contexts) error {
		for name, c := range all.Contexts {
			if c.Token == token {
				c.Token = ""
				all.Contexts[name] = c
			}
		}
		return nil
	})
}

func whoamiCommand() *cobra.Command {
	var conn connection
	show := newDisplay(func(w labapi.Whoami) string { return w.Login },
		column[labapi.Whoami]{title: "LOGIN", cell: func(w labapi.Whoami) any { return w.Login }},
		column[labapi.Whoami]{title: "ROLE", cell: func(w labapi.Whoami) any { return orDash(w.Role) }},
		column[labapi.Whoami]{title: "BY", cell: func(w labapi.Whoami) any { return w.By }},
	)
	cmd := &cobra.Command{
		Use: "whoami", Short: "Show who the lab thinks that you are", Args: noArgs, Example: "  hostsched whoami",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				var me labapi.Whoami
				if err := client.Get(ctx, "/whoami", nil, &me); err != nil {
					return err
				}
				return show.one(cmd, me)
			})
		},
	}
	conn.bind(cmd)
	show.bind(cmd)
	return cmd
}
