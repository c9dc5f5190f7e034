package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/testserver"
)

// The kinds of cluster that the database can be; none is one server.
const (
	galera = "galera"
	group  = "group"
	nodes  = 3
	// oneServer marks faults that a cluster must not have.
	oneServer = "one server"
)

// database is the server, or the servers of a cluster.
type database struct {
	nodes []*testserver.Server
	// front is how root reaches it: the first node of Galera, the primary of a group.
	front *link
	// busy means that a fault concerns a server as a whole.
	busy bool
}

func (c *chaos) startDatabase() (err error) {
	dir := filepath.Join(c.dir, "database")
	switch c.o.cluster {
	case galera:
		c.database.nodes, err = testserver.StartGalera(dir, nodes)
	case group:
		c.database.nodes, err = testserver.StartGroup(dir, nodes)
	case "":
		var s *testserver.Server
		s, err = testserver.Start(testserver.Kind(c.o.database), dir)
		c.database.nodes = []*testserver.Server{s}
	default:
		err = fmt.Errorf("cluster is %q; it must be %s, %s or nothing", c.o.cluster, galera, group)
	}
	if err != nil {
		return err
	}
	c.database.front, err = testserver.OpenLink(address(c.database.nodes[0]))
	return err
}

func address(s *testserver.Server) string { return "127.0.0.1:" + strconv.Itoa(s.Port) }

// nodeOf is the server that replica n works with at first: in Galera each has a node
// of its own.
func (d *database) nodeOf(c *chaos, n int) *testserver.Server {
	if c.o.cluster == galera {
		return d.nodes[(n-1)%len(d.nodes)]
	}
	return d.nodes[0]
}

// route leads all links to the primary of a group, as a router does for its clients,
// until ctx ends.
func (c *chaos) route(ctx context.Context) error {
	if c.o.cluster != group {
		return nil
	}
	for at := c.database.nodes[0].Port; ctx.Err() == nil; sleep(ctx, watchPoll) {
		to := c.database.primary(ctx)
		if to == 0 || to == at {
			continue
		}
		at = to
		c.journal.say("the primary of the group listens on port %d now", at)
		for _, l := range append(c.databaseLinks(), c.database.front) {
			l.Point(c.journal, "127.0.0.1:"+strconv.Itoa(at))
		}
	}
	return nil
}

func (c *chaos) databaseLinks() (out []*link) {
	for _, r := range c.replicas {
		out = append(out, r.db)
	}
	return out
}

// primary asks the nodes who takes the writes, until one that takes part in the
// group knows.
func (d *database) primary(ctx context.Context) (port int) {
	const bound = time.Second // a stopped one does not answer
	for _, s := range d.nodes {
		ctx, cancel := context.WithTimeout(ctx, bound)
		if s.InGroup(ctx) {
			port, _ = s.Primary(ctx) // or the next one knows
		}
		cancel()
		if port != 0 {
			break
		}
	}
	return port
}

func (d *database) stop() error {
	if d.front != nil {
		d.front.Close()
	}
	if len(d.nodes) == 1 {
		return d.nodes[0].Stop()
	}
	for _, s := range d.nodes {
		if err := s.Kill(); err != nil { // their data is thrown away
			return err
		}
	}
	return nil
}

// sayWhoWaits lists the sessions of the database that do something, or are inside of a
// transaction, into the journal: one of them may be why a shard stands still.
func (c *chaos) sayWhoWaits(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	const sessions = "SELECT p.id, p.user, p.command, p.time, COALESCE(p.state, ''), COALESCE(t.trx_state, ''), COALESCE(LEFT(p.info, 200), '')" +
		" FROM information_schema.processlist p LEFT JOIN information_schema.innodb_trx t ON t.trx_mysql_thread_id = p.id" +
		" WHERE (p.command <> 'Sleep' OR t.trx_id IS NOT NULL) AND p.id <> CONNECTION_ID() ORDER BY p.time DESC LIMIT 40"
	err := simlab.Each(ctx, c.db.SQL(), sessions, func(rows *sql.Rows) error {
		var id, seconds int64
		var user, command, state, trx, text string
		err := rows.Scan(&id, &user, &command, &seconds, &state, &trx, &text)
		c.journal.say("session %d of %s: %s for %d s, %s, transaction %s: %s", id, user, command, seconds, state, trx, text)
		return err
	})
	if err != nil {
		c.journal.say("cannot see who waits in the database: %v", err)
	}
}
