package ops

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/signin"
	"github.com/hostsched/hostsched/store/admin"
)

// serviceCheckTimeout bounds the question to a service that a replica calls.
const serviceCheckTimeout = 5 * time.Second

// services looks at what a replica calls besides etcd and databases, as far as it is
// configured. They are greeted only: nothing is sent to them.
func (c *Checkup) services(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, serviceCheckTimeout)
	defer cancel()
	if n := c.config.Notify; len(n.To) > 0 {
		address := net.JoinHostPort(n.SMTPHost, strconv.Itoa(n.SMTPPort))
		greeting, err := greet(ctx, address)
		c.verdict("notify", err, fmt.Sprintf("the mail server at %s answers: %s", address, greeting))
	}
	for _, to := range []struct{ setting, url string }{{"metadata.url", c.config.Metadata.URL}, {"tracing.endpoint", c.config.Tracing.Endpoint}} {
		if to.url != "" {
			c.verdict(to.setting, reach(ctx, to.url), to.url+" takes connections")
		}
	}
	if o := c.config.OIDC; o.Issuer != "" {
		err := signin.New(signin.Config{Issuer: o.Issuer}).Reach(ctx)
		c.verdict("oidc", err, o.Issuer+" says where people log in")
	}
}

// greet returns the line with which a mail server greets.
func greet(ctx context.Context, address string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("%w; check notify.smtp_host and notify.smtp_port", err)
	}
	defer func() { _ = conn.Close() }() // it was only asked
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "220") {
		err = fmt.Errorf("%s is no mail server: it greets with %q; check notify.smtp_host and notify.smtp_port", address, strings.TrimSpace(line))
	}
	return strings.TrimSpace(line), err
}

// reach opens a connection to the server of a URL.
func reach(ctx context.Context, text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // "http" and "https" are ports by name
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// fences compares the fence of each shard with the etcd that would hand out its next token:
// tokens of another etcd may be smaller than those that the database has seen.
func (c *Checkup) fences(ctx context.Context, client *clientv3.Client) {
	db, err := openToRead(ctx, c.config.Store())
	if err != nil {
		return // it was said already
	}
	defer func() { _ = db.Close() }() // it was only read
	id, err := EtcdID(ctx, client)
	if err != nil {
		return // it was said already
	}
	lab := Lab{Config: c.config, Main: admin.New(db)}
	shards, err := lab.shards(ctx)
	if err != nil {
		return // it was said already
	}
	for _, s := range served(shards) {
		name := "fence of shard " + s.Name.String()
		f, err := lab.Fence(ctx, s.Name.String())
		switch {
		case err != nil:
			c.add(name, CheckWarning, "%v", err)
		case len(f.Contradictions) > 0:
			c.add(name, CheckFailed, "its rows contradict each other: %s; 'hostsched fence adopt %s' makes them agree", strings.Join(f.Contradictions, "; "), s.Name)
		case f.Cluster != id:
			c.add(name, CheckFailed, "it belongs to etcd cluster %s, and this is %s: nobody can lead here; go back to that etcd, or run 'hostsched fence adopt %s'", f.Cluster, id, s.Name)
		default:
			c.add(name, CheckOK, "epoch %d, token %d, of this etcd", f.Epoch, f.Token)
		}
	}
}
