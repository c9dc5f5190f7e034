package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/shim"
)

// Protocols are those that this program speaks.
var Protocols = labapi.Protocols{Least: 1, Most: labapi.AgentProtocol}

func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// keepToken is for the agent's user alone.
func (a *Agent) keepToken(token string) error {
	dir, name := filepath.Split(a.cfg.TokenFile)
	if dir == "" {
		dir = "."
	}
	if err := shim.Folder(dir).WriteFile(name, []byte(token+"\n")); err != nil {
		return fmt.Errorf("keep the agent's token: %w", err)
	}
	return nil
}

// enter gets the agent's token: from its file, or for a join token. A join token that was
// renewed means that an administrator wants another token.
func (a *Agent) enter(ctx context.Context, client *agentclient.Client) (*agentclient.Client, error) {
	token, err := readToken(a.cfg.TokenFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: token_file: %w", ErrConfig, err)
	}
	if token != "" {
		return client.As(token)
	}
	if a.cfg.JoinTokenFile == "" {
		return nil, fmt.Errorf("%w: %s has no token yet, and there is no join_token_file; 'hostsched agent add %s' or 'hostsched agent join-token %s' makes a join token", ErrConfig, a.cfg.TokenFile, a.cfg.Name, a.cfg.Name)
	}
	join, err := readToken(a.cfg.JoinTokenFile)
	if err != nil {
		return nil, fmt.Errorf("%w: join_token_file: %w", ErrConfig, err)
	}
	a.joined = join
	return a.register(ctx, client, join)
}

func (a *Agent) register(ctx context.Context, client *agentclient.Client, join string) (*agentclient.Client, error) {
	var joined labapi.AgentJoined
	err := agentclient.Keep(ctx, func() (err error) {
		joined, err = client.Register(ctx, labapi.AgentJoin{JoinToken: join, Name: a.cfg.Name, Version: a.Version, Protocols: Protocols})
		if errors.Is(err, agentclient.ErrToken) {
			return fmt.Errorf("%w: the join token is not valid (any more): 'hostsched agent join-token %s' makes another one: %s", ErrJoin, a.cfg.Name, oneLine(err))
		}
		return err
	}, a.away("register"))
	if err != nil {
		return nil, err
	}
	if err := a.keepToken(joined.Token); err != nil {
		return nil, err
	}
	a.Log.Info("the agent is registered", "agent", a.cfg.Name, "token_file", a.cfg.TokenFile)
	return client.As(joined.Token)
}

// ErrJoin does not pass by itself.
var ErrJoin = errors.New("this agent cannot join")

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
