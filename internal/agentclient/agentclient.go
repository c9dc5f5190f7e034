package agentclient

import (
	"context"
	"net/http"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// callTimeout bounds a call, beside the time that its answer waits on purpose. It is shorter
// than people's: meanwhile a lease runs.
const callTimeout = 15 * time.Second

// Client makes the calls of an agent. Several goroutines may use it at the same time.
type Client struct{ lab *labclient.Client }

// New checks a configuration; nobody is called yet. The token is the agent's, empty before it
// has one.
func New(cfg labclient.Config) (*Client, error) {
	cfg.Prefix = labapi.AgentPrefix
	lab, err := labclient.New(cfg)
	if err != nil {
		return nil, err
	}
	return &Client{lab}, nil
}

// As returns a client of the same servers with another token.
func (c *Client) As(token string) (*Client, error) {
	lab, err := c.lab.As(token)
	if err != nil {
		return nil, err
	}
	return &Client{lab}, nil
}

// post makes a call of which twice is the same as once.
func post(ctx context.Context, lab *labclient.Client, path string, wait time.Duration, in, out any) error {
	return typed(lab.Do(ctx, labclient.Call{Method: http.MethodPost, Path: path, Body: in, Repeatable: true, Timeout: wait + callTimeout}, out))
}

// Register shows a join token, and gets the agent's own.
func (c *Client) Register(ctx context.Context, in labapi.AgentJoin) (out labapi.AgentJoined, err error) {
	return out, post(ctx, c.lab, "/register", 0, in, &out)
}

// Sync tells the servers all about the agent and returns what it is to do, after at most
// in.WaitMillis.
func (c *Client) Sync(ctx context.Context, in labapi.AgentSync) (out labapi.AgentSynced, err error) {
	return out, post(ctx, c.lab, "/sync", time.Duration(in.WaitMillis)*time.Millisecond, in, &out)
}

// Claim takes an offer up, with ErrOfferGone if another was faster.
func (c *Client) Claim(ctx context.Context, in labapi.ClaimInput) (out labapi.Claimed, err error) {
	return out, post(ctx, c.lab, "/claims", 0, in, &out)
}

// Drain asks the servers to offer this agent nothing new, until a person lets it go on.
func (c *Client) Drain(ctx context.Context, in labapi.AgentLeave) error {
	return post(ctx, c.lab, "/drain", 0, in, nil)
}

// Goodbye ends the session: the agent's process is about to end. Its runs go on.
func (c *Client) Goodbye(ctx context.Context, in labapi.AgentLeave) error {
	return post(ctx, c.lab, "/goodbye", 0, in, nil)
}
