package testserver

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// SMTP is a mail server that keeps what it is sent.
type SMTP struct {
	Port int

	mu    sync.Mutex
	mails []string
}

// NewSMTP starts a mail server for one test.
func NewSMTP(t testing.TB) *SMTP {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &SMTP{Port: l.Addr().(*net.TCPAddr).Port}
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed below
			}
			sessions.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		sessions.Wait()
	})
	return s
}

// Mails returns the mails received so far, headers and all.
func (s *SMTP) Mails() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mails...)
}

func (s *SMTP) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }() // the client may have closed it first
	say := func(line string) { fmt.Fprintf(conn, "%s\r\n", line) }
	say("220 test")
	in := bufio.NewScanner(conn)
	for in.Scan() {
		switch verb, _, _ := strings.Cut(strings.ToUpper(in.Text()), " "); verb {
		case "DATA":
			say("354 go on")
			s.receive(in)
			say("250 kept")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *SMTP) receive(in *bufio.Scanner) {
	var b strings.Builder
	for in.Scan() && in.Text() != "." {
		b.WriteString(in.Text() + "\n")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, b.String())
}
