package testserver_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hostsched/hostsched/internal/testserver"
)

const (
	patience = 10 * time.Second
	// silence is how long nothing must arrive before a test believes that nothing
	// does.
	silence = 100 * time.Millisecond
)

// ends are the two ends of a connection over a link.
type ends struct {
	link           *testserver.Link
	listener       net.Listener
	client, server net.Conn
}

func newEnds(t *testing.T) *ends {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	e := &ends{link: testserver.NewLink(t, listener.Addr().String()), listener: listener}
	e.connect(t)
	return e
}

// connect makes another connection; the one before stays open until the test
// ends.
func (e *ends) connect(t *testing.T) {
	t.Helper()
	var err error
	e.client, err = net.Dial("tcp", e.link.Addr)
	require.NoError(t, err)
	e.server, err = e.listener.Accept()
	require.NoError(t, err)
	for _, c := range []net.Conn{e.client, e.server} {
		t.Cleanup(func() { _ = c.Close() }) // some tests close it themselves
	}
}

func send(t *testing.T, from net.Conn, text string) {
	t.Helper()
	_, err := from.Write([]byte(text))
	require.NoError(t, err)
}

func requireArrives(t *testing.T, at net.Conn, text string) {
	t.Helper()
	require.NoError(t, at.SetReadDeadline(time.Now().Add(patience)))
	got := make([]byte, len(text))
	_, err := io.ReadFull(at, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

func readError(t *testing.T, at net.Conn, within time.Duration) error {
	t.Helper()
	require.NoError(t, at.SetReadDeadline(time.Now().Add(within)))
	n, err := at.Read(make([]byte, 1))
	require.Zero(t, n, "nothing arrives")
	return err
}

func requireNothingArrives(t *testing.T, at net.Conn) {
	t.Helper()
	require.ErrorIs(t, readError(t, at, silence), os.ErrDeadlineExceeded, "the connection stays open")
}

func (e *ends) requireCarriesBothWays(t *testing.T) {
	t.Helper()
	send(t, e.client, "question")
	requireArrives(t, e.server, "question")
	send(t, e.server, "answer")
	requireArrives(t, e.client, "answer")
}

func TestLinkCutInBothDirections(t *testing.T) {
	e := newEnds(t)
	e.requireCarriesBothWays(t)
	e.link.Cut(t)
	send(t, e.client, "lost")
	send(t, e.server, "lost")
	requireNothingArrives(t, e.server)
	requireNothingArrives(t, e.client)
	e.link.Heal(t)
	require.ErrorIs(t, readError(t, e.client, patience), io.EOF)
	require.ErrorIs(t, readError(t, e.server, patience), io.EOF)
	e.connect(t)
	e.requireCarriesBothWays(t)
}

func TestLinkCutInOneDirection(t *testing.T) {
	e := newEnds(t)
	e.link.Cut(t, testserver.ToServer)
	send(t, e.client, "lost")
	requireNothingArrives(t, e.server)
	send(t, e.server, "answer")
	requireArrives(t, e.client, "answer")
	e.link.Heal(t)

	e.connect(t)
	e.link.Cut(t, testserver.ToClient)
	send(t, e.server, "lost")
	requireNothingArrives(t, e.client)
	send(t, e.client, "question")
	requireArrives(t, e.server, "question")
}

// TestLinkCutHidesTheEnd: during a partition the server does not notice that a
// client has gone.
func TestLinkCutHidesTheEnd(t *testing.T) {
	e := newEnds(t)
	e.link.Cut(t)
	require.NoError(t, e.client.Close())
	requireNothingArrives(t, e.server)
	e.link.Heal(t)
	require.ErrorIs(t, readError(t, e.server, patience), io.EOF)
}

func TestLinkPassesTheEndOn(t *testing.T) {
	e := newEnds(t)
	require.NoError(t, e.client.Close())
	require.ErrorIs(t, readError(t, e.server, patience), io.EOF)
	e.connect(t)
	require.NoError(t, e.server.Close())
	require.ErrorIs(t, readError(t, e.client, patience), io.EOF)
}

// TestLinkSlow: latency delays an answer once, however long it is, and no
// question.
func TestLinkSlow(t *testing.T) {
	const latency = 200 * time.Millisecond
	e := newEnds(t)
	e.link.Slow(t, latency)
	send(t, e.client, "question")
	requireArrives(t, e.server, "question")
	long := bytes.Repeat([]byte("answer"), 200_000)
	began := time.Now()
	go func() { _, _ = e.server.Write(long) }() // more than the sockets buffer
	requireArrives(t, e.client, string(long))
	require.GreaterOrEqual(t, time.Since(began), latency)
	require.Less(t, time.Since(began), 5*latency)
	e.link.Slow(t, 0)
	e.requireCarriesBothWays(t)
}

func TestLinkReset(t *testing.T) {
	e := newEnds(t)
	e.requireCarriesBothWays(t)
	e.link.Reset(t)
	require.ErrorIs(t, readError(t, e.client, patience), syscall.ECONNRESET)
	require.ErrorIs(t, readError(t, e.server, patience), syscall.ECONNRESET)
	e.connect(t)
	e.requireCarriesBothWays(t)
}

// TestLinkLimit: a connection breaks in the middle of what is being said, and so
// does each that follows, until there is no limit any more.
func TestLinkLimit(t *testing.T) {
	e := newEnds(t)
	e.requireCarriesBothWays(t)
	e.link.Limit(t, testserver.ToClient, len("ans"))
	for range 2 {
		send(t, e.client, "question")
		requireArrives(t, e.server, "question")
		send(t, e.server, "answer")
		requireArrives(t, e.client, "ans")
		require.ErrorIs(t, readError(t, e.client, patience), io.EOF)
		e.connect(t)
	}
	e.link.Limit(t, testserver.ToClient, 0)
	e.requireCarriesBothWays(t)
}

// TestLinkPoint: a link that leads elsewhere ends the connections to where it led.
func TestLinkPoint(t *testing.T) {
	e := newEnds(t)
	e.requireCarriesBothWays(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	e.link.Point(t, other.Addr().String())
	require.ErrorIs(t, readError(t, e.client, patience), io.EOF)
	client, err := net.Dial("tcp", e.link.Addr)
	require.NoError(t, err)
	server, err := other.Accept()
	require.NoError(t, err)
	send(t, client, "question")
	requireArrives(t, server, "question")
	require.NoError(t, client.Close())
	require.NoError(t, server.Close())
}

// TestSlice delivers all bytes, in pieces.
func TestSlice(t *testing.T) {
	e := newEnds(t)
	e.link.Slice(t, 3)
	text := "a message in several pieces"
	send(t, e.server, text)
	data := make([]byte, len(text))
	n, err := e.client.Read(data)
	require.NoError(t, err)
	require.Less(t, n, len(text), "the reader gets parts")
	_, err = io.ReadFull(e.client, data[n:])
	require.NoError(t, err)
	require.Equal(t, text, string(data))
	e.link.Slice(t, 0)
	send(t, e.client, "whole")
	n, err = e.server.Read(data)
	require.NoError(t, err)
	require.Equal(t, "whole", string(data[:n]))
}
