package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/testserver"
)

type server = testserver.Server

// galeraFaults concern nodes of Galera. While a node is lost, the others wait for it
// for some seconds.
var galeraFaults = []fault{
	{kind: "Galera node kill -9", weight: 20, cluster: galera, outage: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onNode(c.node(1), (*server).Kill, func(_ context.Context, s *server) error { return s.Restart() })
	}},
	{kind: "Galera node SIGSTOP", weight: 15, cluster: galera, outage: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onNode(c.node(0), stopServer, contServer)
	}},
	{kind: "Galera node desynced and locked", weight: 15, cluster: galera, outage: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return c.desync(ctx, c.node(0))
	}},
}

// groupFaults concern servers of a group.
var groupFaults = []fault{
	{kind: "primary of the group kill -9", weight: 30, cluster: group, outage: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return c.onNode(c.primaryNode(ctx), (*server).Kill, restartInGroup)
	}},
	{kind: "primary of the group SIGSTOP", weight: 12, cluster: group, outage: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return c.onNode(c.primaryNode(ctx), stopServer, contInGroup)
	}},
	{kind: "server of the group kill -9", weight: 8, cluster: group, outage: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return c.onNode(c.secondaryNode(ctx), (*server).Kill, restartInGroup)
	}},
}

// node draws a node of those from an index on, unless another fault concerns one:
// with two of three gone nothing works.
func (c *chaos) node(from int) *server {
	if c.database.busy {
		return nil
	}
	s, _ := pick(c, c.database.nodes[from:])
	return s
}

func (c *chaos) primaryNode(ctx context.Context) *server {
	port := c.database.primary(ctx)
	s, _ := of(c, c.database.nodes, func(s *server) bool { return s.Port == port && !c.database.busy })
	return s
}

func (c *chaos) secondaryNode(ctx context.Context) *server {
	port := c.database.primary(ctx)
	s, _ := of(c, c.database.nodes, func(s *server) bool { return port != 0 && s.Port != port && !c.database.busy })
	return s
}

// onNode breaks a node, if there is one to break, and mends it after a while.
func (c *chaos) onNode(s *server, breaks func(*server) error, mends func(context.Context, *server) error) (*broken, error) {
	if s == nil {
		return nil, nil
	}
	c.database.busy = true
	return &broken{what: fmt.Sprintf("port %d", s.Port), use: stopsServer, hold: c.between(time.Second, 8*time.Second), mend: func(ctx context.Context) error {
		c.database.busy = false
		return mends(ctx, s)
	}}, breaks(s)
}

func stopServer(s *server) error { return s.Signal(syscall.SIGSTOP) }

func contServer(_ context.Context, s *server) error { return s.Signal(syscall.SIGCONT) }

func restartInGroup(ctx context.Context, s *server) error {
	if err := s.Restart(); err != nil {
		return err
	}
	return rejoin(ctx, s)
}

// contInGroup lets a server continue. The group may have expelled it meanwhile,
// which it learns only then.
func contInGroup(ctx context.Context, s *server) error {
	if err := s.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	sleep(ctx, time.Second)
	return rejoin(ctx, s)
}

// rejoin makes a server take part again. The group refuses one that it has not
// expelled yet.
func rejoin(ctx context.Context, s *server) error {
	for {
		if s.InGroup(ctx) {
			return nil
		}
		err := s.JoinGroup()
		if err == nil || ctx.Err() != nil {
			return err
		}
		sleep(ctx, time.Second)
	}
}

// desync takes a node out of the flow control of the cluster and locks its tables,
// as a backup does: it falls behind, and the others go on.
func (c *chaos) desync(ctx context.Context, s *server) (*broken, error) {
	if s == nil {
		return nil, nil
	}
	conn, err := s.Admin().Conn(ctx)
	if err != nil {
		return nil, err
	}
	for _, text := range []string{"SET GLOBAL wsrep_desync = ON", "FLUSH TABLES WITH READ LOCK"} {
		_, xerr := conn.ExecContext(ctx, text)
		err = errors.Join(err, xerr)
	}
	c.database.busy = true
	return &broken{what: fmt.Sprintf("port %d", s.Port), hold: c.between(time.Second, 5*time.Second), mend: func(ctx context.Context) error {
		c.database.busy = false
		_, uerr := conn.ExecContext(ctx, "UNLOCK TABLES")
		discard(conn)
		_, err := s.Admin().ExecContext(ctx, "SET GLOBAL wsrep_desync = OFF")
		return errors.Join(uerr, err)
	}}, err
}
