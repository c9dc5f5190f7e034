package testserver

import (
	"bufio"
	"crypto/hmac"
	"crypto/md5" // what CRAM-MD5 is made of
	"encoding/base64"
	"encoding/hex"
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
	// password is that of every user who logs in.
	password string
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

// SetPassword changes the password of every user. Nobody needs to log in.
func (s *SMTP) SetPassword(password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password = password
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
		case "EHLO":
			say("250-test")
			say("250 AUTH CRAM-MD5")
		case "AUTH":
			const challenge = "<1@test>"
			say("334 " + base64.StdEncoding.EncodeToString([]byte(challenge)))
			if !in.Scan() || !s.lets(in.Text(), challenge) {
				say("535 the password is wrong")
				continue
			}
			say("235 welcome")
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

// lets tells whether an answer to a challenge was made with the password, as RFC 2195
// says: the user, a space, and a sum in hexadecimal.
func (s *SMTP) lets(answer, challenge string) bool {
	text, err := base64.StdEncoding.DecodeString(answer)
	if err != nil {
		return false
	}
	s.mu.Lock()
	sum := hmac.New(md5.New, []byte(s.password))
	s.mu.Unlock()
	sum.Write([]byte(challenge))
	return strings.HasSuffix(string(text), " "+hex.EncodeToString(sum.Sum(nil)))
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
