package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/traceid"
)

// Where a lab is looked for if nobody says where it is: the socket of a standalone server
// in its default folders, that of the example configuration, the default address.
var (
	defaultSockets = []string{"hostsched-data/hostsched.sock", "/var/lib/hostsched/hostsched.sock", "/run/hostsched.sock"}
	defaultAddress = "http://127.0.0.1:8470"
)

// maxTokenFile is more than any token needs.
const maxTokenFile = 64 << 10

// connection is the flags of a command that calls the API.
type connection struct {
	servers                    []string
	context, tokenFile, caFile string
}

func (c *connection) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&c.servers, "server", nil, "address of the lab, several with commas: https://HOST:PORT or unix:/PATH (env "+config.ServerEnv+")")
	f.StringVar(&c.context, "context", "", "one of the labs of 'hostsched context list' (env "+config.ContextEnv+")")
	f.StringVar(&c.tokenFile, "token-file", "", "file with the token, - for standard input (env "+config.TokenEnv+" has a token)")
	f.StringVar(&c.caFile, "ca-file", "", "authorities of the servers' certificates, in PEM form")
	completeFlag(cmd, "context", contextNames)
}

// config says which lab is meant, and as whom it is called.
func (c *connection) config(cmd *cobra.Command) (labclient.Config, error) {
	chosen, err := c.chosen()
	if err != nil {
		return labclient.Config{}, err
	}
	out := labclient.Config{Servers: chosen.Servers, Token: chosen.Token, CAFile: chosen.CAFile}
	if _, ok := traceid.Parse(os.Getenv(traceid.Variable)); ok {
		out.Trace = os.Getenv(traceid.Variable)
	}
	if c.caFile != "" {
		out.CAFile = c.caFile
	}
	if len(out.Servers) == 0 {
		out.Servers = []string{defaultServer()}
	}
	switch file := firstOf(c.tokenFile, chosen.TokenFile); {
	case c.tokenFile == "" && os.Getenv(config.TokenEnv) != "":
		out.Token = strings.TrimSpace(os.Getenv(config.TokenEnv))
	case file != "":
		out.Token, err = readToken(cmd, file)
	}
	return out, err
}

// chosen is the context that is meant. The token of a context is for its servers alone: who
// names other servers brings another token.
func (c *connection) chosen() (labclient.Context, error) {
	servers := c.servers
	if env := os.Getenv(config.ServerEnv); len(servers) == 0 && c.context == "" && labclient.IsAddress(env) {
		servers = strings.Split(env, ",")
	}
	if len(servers) > 0 {
		if c.context != "" {
			return labclient.Context{}, fmt.Errorf("%w: --context names servers, too; leave --server or --context out", errUsage)
		}
		return labclient.Context{Servers: servers}, nil
	}
	path, err := labclient.ContextsFile()
	if err != nil {
		return labclient.Context{}, err
	}
	all, err := labclient.ReadContexts(path)
	if err != nil {
		return labclient.Context{}, err
	}
	name := firstOf(c.context, os.Getenv(config.ContextEnv), all.Current)
	if name == "" {
		return labclient.Context{}, nil
	}
	chosen, ok := all.Contexts[name]
	if !ok {
		return labclient.Context{}, noContext(name, all)
	}
	return chosen, nil
}

// defaultServer finds the lab of this machine.
func defaultServer() string {
	dir, err := os.Getwd()
	for _, path := range defaultSockets {
		if !strings.HasPrefix(path, "/") {
			if err != nil {
				continue
			}
			path = dir + "/" + path
		}
		if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
			return "unix:" + path
		}
	}
	return defaultAddress
}

// standaloneFolder is the folder of the standalone server whose socket commands call if nobody
// names another lab; empty if it is none.
func standaloneFolder() string {
	chosen, err := new(connection).chosen()
	if err != nil {
		return ""
	}
	if len(chosen.Servers) == 0 {
		chosen.Servers = []string{defaultServer()}
	}
	path, local := strings.CutPrefix(chosen.Servers[0], "unix:")
	if dir := filepath.Dir(path); local && len(chosen.Servers) == 1 && config.IsFolder(dir) {
		return dir
	}
	return ""
}

func readToken(cmd *cobra.Command, file string) (string, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("%w: the token: %w", errUsage, err)
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxTokenFile))
	if err != nil {
		return "", fmt.Errorf("%w: the token: %w", errUsage, err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("%w: there is no token in %s", errUsage, file)
	}
	return token, nil
}

// call calls the lab that is meant. Ctrl-C ends it.
func (c *connection) call(cmd *cobra.Command, work func(context.Context, *labclient.Client) error) error {
	cfg, err := c.config(cmd)
	if err != nil {
		return err
	}
	client, err := labclient.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := untilSignalled(cmd.Context())
	defer stop()
	err = work(ctx, client)
	if errors.Is(err, labclient.ErrAway) && slices.Equal(client.Servers(), []string{defaultAddress}) {
		err = fmt.Errorf("%w; name the lab with --server, %s or 'hostsched context add', as https://HOST:PORT or as the unix:/PATH that a standalone server prints", err, config.ServerEnv)
	}
	return err
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// The exit codes of commands that call the API.
const (
	exitDenied  = 3
	exitNever   = 4
	exitTimeout = 5
	exitAborted = 6
	exitAway    = 7
	// exitDetached is what a shell says of a program that Ctrl-C ended.
	exitDetached = 130
)

// apiExitCode is the exit code for what a server answered, and whether it is about that.
func apiExitCode(err error) (int, bool) {
	var p *labclient.Problem
	switch {
	case errors.Is(err, labclient.ErrAway):
		return exitAway, true
	case errors.Is(err, labclient.ErrSetting):
		return exitInput, true
	case !errors.As(err, &p):
		return 0, false
	}
	switch p.Status {
	case 401, 403:
		return exitDenied, true
	case 408, 409, 410, 412, 425, 429:
		return exitFailed, true
	}
	switch {
	case p.Name() == "no-host-can-ever-run":
		return exitNever, true
	case p.Status >= 500:
		return exitAway, true
	}
	return exitInput, true
}

// exitCodesCommand is a topic of help.
func exitCodesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Commands that call the API (job, suite, host, pool, label, acl, user, role, token,
event, api, login, logout, whoami, context) end with

  0  done; for 'job wait' and 'job submit --wait': the job passed
  1  failed: the job failed, an item of several failed, or the present state does
     not allow it
  2  bad input: the command line, a file, or what it names is wrong; nothing was
     changed
  3  not authorised: no token, a token that is not valid, or not allowed
  4  no host can ever run the job
  5  timed out waiting (--wait-timeout)
  6  the job was aborted
  7  infrastructure: no server answers, or the servers cannot do their work
  130  Ctrl-C while waiting; the job goes on

'hostsched run' ends with the exit code of its command, so that its own are such as
commands seldom have:

  128 and a number  that signal ended the command, or the waiting for a host
  124  no host was there in time (--wait-timeout), or the command did not end in time
       (--timeout)
  125  hostsched itself failed or was used wrongly, no host can ever run this, or the
       claim of the host was lost
  126  the command cannot be executed
  127  there is no such command

'hostsched agent --config' ends with 2 if its file does not fit, and with 3 if it was
revoked or another process serves in its place.

All others end with 0 (done), 1 (failed) and 2 (bad input); 'plan' with 0, 1, 2 and
255 ('hostsched plan --help').`,
		Example: "  hostsched job submit job.yaml --wait; echo $?",
		Args:    noArgs, RunE: showHelp,
	}
}
