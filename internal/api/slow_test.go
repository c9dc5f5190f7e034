package api_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
)

// hasty is a server that gives the answer to a request no more than this.
const hasty = 300 * time.Millisecond

// newHastyServer is a server whose requests end before long, unless they ask for more time.
// ended gets the route of each that is over.
func newHastyServer(t *testing.T, db *store.DB, change func(*http.Server)) (s *server, user string, ended chan string) {
	t.Helper()
	ended = make(chan string, 100)
	s = newServerWith(t, db, func(c *api.Config) {
		c.Served = func(route string, _ int, _ time.Duration) { ended <- route }
	})
	s.Close()
	s.Server = httptest.NewUnstartedServer(s.api)
	s.Config.WriteTimeout = hasty
	change(s.Config)
	s.Start()
	t.Cleanup(s.Close)
	return s, s.admin, ended
}

// smallBuffers makes connections hold little that nobody has read.
func smallBuffers(s *http.Server) {
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		if tcp, ok := conn.(*net.TCPConn); ok && state == http.StateNew {
			_ = tcp.SetWriteBuffer(16 << 10)
		}
	}
}

// longLog enters a log of many megabytes.
func (s *server) longLog(t *testing.T) (size int) {
	t.Helper()
	addRun(t, s.db, 1)
	const parts, long = 16, 512 << 10
	for i := range parts {
		s.appendLogWithin(t, int64(i*long), strings.Repeat("x", long), parts*long)
	}
	return parts * long
}

// TestLongAnswersLast: a stream and a file may take longer than other answers, as long as the
// client reads them.
func TestLongAnswersLast(t *testing.T) {
	db := storetest.NewLab(t, storetest.SQLiteFile(t))
	s, token, _ := newHastyServer(t, db, smallBuffers)
	size := s.longLog(t)
	stream := s.watch(t, token, "?kind=label.added", "")
	file := s.get(t, token, "/runs/1/logs/output", nil)
	defer func() { require.NoError(t, file.Body.Close()) }()
	began := time.Now()
	n := 0
	for buffer := make([]byte, 256<<10); ; {
		got, err := io.ReadFull(file.Body, buffer)
		n += got
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		time.Sleep(50 * time.Millisecond) // a slow reader is the point
	}
	require.Equal(t, size, n)
	require.Greater(t, time.Since(began), 3*hasty)
	require.Equal(t, http.StatusCreated, s.call(t, token, http.MethodPost, "/labels", labapi.LabelInput{Name: "after"}, nil))
	require.Equal(t, "after", stream.next(t).Subject)
}

// TestFileThatNobodyReads: a client that fetches a file and does not read it is cut off.
func TestFileThatNobodyReads(t *testing.T) {
	db := storetest.NewLab(t, storetest.SQLiteFile(t))
	s, token, ended := newHastyServer(t, db, smallBuffers)
	s.api.SetPatience(2 * hasty)
	size := s.longLog(t)
	file := s.get(t, token, "/runs/1/logs/output", nil)
	defer func() { require.NoError(t, file.Body.Close()) }()
	for {
		select {
		case route := <-ended:
			if route != "GET /runs/{id}/logs/{stream}" {
				continue
			}
			n, err := io.Copy(io.Discard, file.Body)
			require.Error(t, err)
			require.Less(t, int(n), size)
			return
		case <-time.After(20 * time.Second):
			require.FailNow(t, "the answer goes on")
		}
	}
}
