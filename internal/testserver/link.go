package testserver

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// Direction is one of the two ways that bytes travel on a link.
type Direction int

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

var bothDirections = []Direction{ToServer, ToClient}

// Link is a network link to a server that a test can disturb. While it is cut,
// bytes vanish and connections stay open, as with a network partition.
type Link struct {
	// Addr is where clients connect.
	Addr string

	upstream string
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	cut     [2]bool          // by direction
	latency [2]time.Duration // by direction
	limit   [2]int           // bytes after which a connection breaks, by direction; 0: none
	pieces  int              // the most bytes that are delivered at once; 0: any number
	open    map[*connection]bool
	ended   bool
}

// connection has a socket on each side of the link.
type connection struct{ client, server net.Conn }

// chunk is what one read returned, and the time at which it arrives.
type chunk struct {
	data []byte
	due  time.Time
}

// Logger is told what becomes of a link: a test, or whoever else disturbs it.
type Logger interface {
	Helper()
	Logf(format string, args ...any)
}

// NewLink opens a link to the server at upstream (host:port) for one test and
// closes it when the test ends.
func NewLink(t testing.TB, upstream string) *Link {
	t.Helper()
	l, err := OpenLink(upstream)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

// LinkDatabase opens a link to a database server as NewLink does, and returns the DSN that leads
// through it.
func LinkDatabase(t testing.TB, dsn string) (link *Link, through string) {
	t.Helper()
	target, err := mysql.ParseDSN(strings.TrimPrefix(dsn, "mysql:"))
	require.NoError(t, err)
	link = NewLink(t, target.Addr)
	target.Addr = link.Addr
	return link, "mysql:" + target.FormatDSN()
}

// OpenLink opens a link to the server at upstream on a free port. The caller
// closes it.
func OpenLink(upstream string) (*Link, error) { return OpenLinkAt("127.0.0.1:0", upstream) }

// OpenLinkAt opens a link that listens at an address (host:port).
func OpenLinkAt(listen, upstream string) (*Link, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("open a link to %s: %w", upstream, err)
	}
	l := &Link{Addr: listener.Addr().String(), upstream: upstream, listener: listener, open: map[*connection]bool{}}
	l.running.Go(l.accept)
	return l, nil
}

// Cut stops the link from carrying anything in the given directions, or in both
// if none is given.
func (l *Link) Cut(log Logger, directions ...Direction) {
	log.Helper()
	if len(directions) == 0 {
		directions = bothDirections
	}
	log.Logf("link %s to %s: cut", l.Addr, l.upstream)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range directions {
		l.cut[d] = true
	}
}

// Heal lets new connections through again. Those open during the cut have lost
// bytes, so they are closed.
func (l *Link) Heal(log Logger) {
	log.Helper()
	log.Logf("link %s to %s: healed", l.Addr, l.upstream)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeAll(net.Conn.Close)
	l.cut = [2]bool{}
}

// Slow delays every answer from now on.
func (l *Link) Slow(log Logger, by time.Duration) {
	log.Helper()
	log.Logf("link %s to %s: answers take %v longer", l.Addr, l.upstream, by)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latency[ToClient] = by
}

// Limit breaks each connection as soon as it has carried more than so many bytes in
// a direction, counted from now or from its beginning, in the middle of whatever is
// being said. 0 ends that.
func (l *Link) Limit(log Logger, d Direction, bytes int) {
	log.Helper()
	log.Logf("link %s to %s: connections break after %d bytes", l.Addr, l.upstream, bytes)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit[d] = bytes
}

// Slice delivers everything in pieces of so many bytes, with a pause after each, so that
// whoever reads gets parts of messages. 0 ends that.
func (l *Link) Slice(log Logger, bytes int) {
	log.Helper()
	log.Logf("link %s to %s: delivers %d bytes at once", l.Addr, l.upstream, bytes)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pieces = bytes
}

// Point leads to another server from now on. Connections to the one before are
// closed.
func (l *Link) Point(log Logger, upstream string) {
	log.Helper()
	log.Logf("link %s to %s: leads to %s", l.Addr, l.upstream, upstream)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.upstream = upstream
	l.closeAll(net.Conn.Close)
}

// Reset breaks all connections with a TCP reset, on both sides.
func (l *Link) Reset(log Logger) {
	log.Helper()
	log.Logf("link %s to %s: connections reset", l.Addr, l.upstream)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeAll(func(c net.Conn) error {
		// Without lingering, the kernel sends a reset instead of an orderly end.
		return errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close())
	})
}

// LeadTo makes new connections end at another server, as a proxy does after a
// failover. Open ones stay where they are.
func (l *Link) LeadTo(log Logger, upstream string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	log.Logf("link %s leads to %s now, no more to %s", l.Addr, upstream, l.upstream)
	l.upstream = upstream
}

// Close ends the link and all connections over it.
func (l *Link) Close() {
	_ = l.listener.Close() // it has nothing to lose
	l.mu.Lock()
	l.ended = true
	l.closeAll(net.Conn.Close)
	l.mu.Unlock()
	l.running.Wait()
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return // closed by Close
		}
		l.running.Go(func() { l.connect(client) })
	}
}

func (l *Link) connect(client net.Conn) {
	l.mu.Lock()
	upstream := l.upstream
	l.mu.Unlock()
	server, err := net.Dial("tcp", upstream)
	if err != nil {
		_ = client.Close() // nobody listens: the client sees its connection end
		return
	}
	c := &connection{client: client, server: server}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		c.close(net.Conn.Close)
		return
	}
	l.open[c] = true
	l.running.Go(func() { l.carry(c, client, server, ToServer) })
	l.running.Go(func() { l.carry(c, server, client, ToClient) })
}

// carry reads what one side sends until it ends. Delivery is separate, so that
// latency delays bytes without making them fewer.
func (l *Link) carry(c *connection, from, to net.Conn, d Direction) {
	const backlog = 1024
	chunks := make(chan chunk, backlog)
	defer close(chunks)
	l.running.Go(func() { l.deliver(c, to, d, chunks) })
	for {
		data := make([]byte, 32<<10)
		n, err := from.Read(data)
		if n > 0 {
			_, latency := l.state(d)
			chunks <- chunk{data[:n], time.Now().Add(latency)}
		}
		if err != nil {
			return
		}
	}
}

func (l *Link) deliver(c *connection, to net.Conn, d Direction, chunks <-chan chunk) {
	carried := 0 // since there is a limit
	for next := range chunks {
		time.Sleep(time.Until(next.due))
		if cut, _ := l.state(d); cut {
			continue
		}
		data, limit := next.data, l.limited(d)
		if limit > 0 {
			data = data[:min(len(data), max(0, limit-carried))]
			carried += len(next.data)
		}
		if err := l.write(to, data); err != nil || len(data) < len(next.data) {
			l.close(c)
		}
	}
	// The end of a connection does not pass a cut either.
	if cut, _ := l.state(d); !cut {
		l.close(c)
	}
}

// piecePause is how long a piece is alone on its way.
const piecePause = 200 * time.Microsecond

// write writes data, in pieces if it is sliced.
func (l *Link) write(to net.Conn, data []byte) error {
	l.mu.Lock()
	pieces := l.pieces
	l.mu.Unlock()
	if pieces == 0 {
		_, err := to.Write(data)
		return err
	}
	for piece := range slices.Chunk(data, pieces) {
		if _, err := to.Write(piece); err != nil {
			return err
		}
		time.Sleep(piecePause)
	}
	return nil
}

func (l *Link) state(d Direction) (cut bool, latency time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut[d], l.latency[d]
}

func (l *Link) limited(d Direction) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit[d]
}

func (l *Link) close(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[c] {
		delete(l.open, c)
		c.close(net.Conn.Close)
	}
}

// closeAll needs the lock.
func (l *Link) closeAll(by func(net.Conn) error) {
	for c := range l.open {
		c.close(by)
	}
	clear(l.open)
}

func (c *connection) close(by func(net.Conn) error) {
	for _, side := range []net.Conn{c.client, c.server} {
		_ = by(side) // the other end may have closed it already
	}
}
