package api_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
)

// eventReader reads a stream of events.
type eventReader struct {
	events chan labapi.Event
	end    context.CancelFunc
}

func (s *server) watch(t *testing.T, token, query, lastID string) *eventReader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+api.Prefix+"/events"+query, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := http.DefaultClient.Do(req) //nolint:bodyclose // the goroutine below closes it
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	r := &eventReader{events: make(chan labapi.Event, 1000), end: cancel}
	go func() {
		defer func() { _ = res.Body.Close() }()
		defer close(r.events)
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			text, ok := strings.CutPrefix(lines.Text(), "data: ")
			var e labapi.Event
			if ok && json.Unmarshal([]byte(text), &e) == nil {
				r.events <- e
			}
		}
	}()
	return r
}

// next waits for an event.
func (r *eventReader) next(t *testing.T) labapi.Event {
	t.Helper()
	select {
	case e, ok := <-r.events:
		require.True(t, ok, "the stream ended")
		return e
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no event came")
	}
	return labapi.Event{}
}

// note writes an event with an id of the test's choice.
func note(t *testing.T, db *store.DB, id int64, host any, kind string) {
	t.Helper()
	storetest.Exec(t, db, "INSERT INTO hostsched_events (id, at, kind, host_id, who) VALUES (?, "+db.Dialect.NowMillis+", ?, ?, 'x')", id, kind, host)
}

// settle makes an event so old that none can come before it any more.
func settle(t *testing.T, db *store.DB, id int64) {
	t.Helper()
	storetest.Exec(t, db, "UPDATE hostsched_events SET at = at - 11000 WHERE id = ?", id)
}

func TestEvents(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		storetest.Exec(t, db, "DELETE FROM hostsched_events")
		for id := int64(101); id <= 105; id++ {
			note(t, db, id, id%2+1, "host.locked")
		}
		settle(t, db, 101)
		note(t, db, 107, nil, "late.gap")
		ids := func(query string) (ids []int64) {
			var page labapi.Page[labapi.Event]
			require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/events"+query, nil, &page), query)
			for _, e := range page.Items {
				ids = append(ids, e.ID)
			}
			return ids
		}
		require.Equal(t, []int64{101, 102, 103, 104, 105}, ids(""), "what could come before is not passed over")
		require.Equal(t, []int64{102, 104}, ids("?host=h1"))
		require.Equal(t, []int64{104}, ids("?host=h1&after=102"))
		require.Equal(t, []int64{101, 102}, ids("?limit=2"))
		require.Empty(t, ids("?kind=host.added"))
		note(t, db, 106, nil, "late")
		require.Equal(t, []int64{106, 107}, ids("?after=105"))

		var p problem
		for _, after := range []string{"99", "108"} {
			require.Equal(t, http.StatusGone, s.call(t, ann, http.MethodGet, "/events?after="+after, nil, &p))
			require.Equal(t, "/problems/cursor-expired", p.Type)
		}
		require.Equal(t, http.StatusNotFound, s.call(t, ann, http.MethodGet, "/events?host=h9", nil, &p))
		// A gap that stays is passed over when it is old.
		note(t, db, 109, nil, "after.rollback")
		require.Empty(t, ids("?after=107"))
		storetest.Exec(t, db, "UPDATE hostsched_events SET at = at - 11000")
		require.Equal(t, []int64{109}, ids("?after=107"))
	})
}

func TestEventStream(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		storetest.Exec(t, db, "DELETE FROM hostsched_events")
		for id := int64(1); id <= 5; id++ {
			note(t, db, 100+id, 1, "old")
		}
		settle(t, db, 101)
		again := s.watch(t, ann, "", "103")
		require.Equal(t, int64(104), again.next(t).ID)
		require.Equal(t, int64(105), again.next(t).ID)
		fresh, filtered := s.watch(t, ann, "", ""), s.watch(t, ann, "?host=h2", "")
		note(t, db, 107, 2, "second")
		note(t, db, 106, 1, "first")
		for _, r := range []*eventReader{again, fresh} {
			require.Equal(t, int64(106), r.next(t).ID)
			require.Equal(t, int64(107), r.next(t).ID)
		}
		e := filtered.next(t)
		require.Equal(t, "h2", e.Host)
		require.Equal(t, int64(107), e.ID)
		again.end()
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}})
		require.Equal(t, out.ID, fresh.next(t).Job)
	})
}

// TestBusyStream: where much happens, events are gathered, and the watchers get all of them with
// fewer writes.
func TestBusyStream(t *testing.T) {
	db := storetest.NewLab(t, storetest.SQLiteFile(t))
	s, ann, _ := newLabServer(t, db)
	storetest.Exec(t, db, "DELETE FROM hostsched_events")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+api.Prefix+"/events", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+ann)
	req.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close() //nolint:errcheck // it was read
	const events = 40
	go func() {
		for id := int64(1); id <= events; id++ {
			note(t, db, id, nil, "busy")
			time.Sleep(50 * time.Millisecond) // as often as the journal is read
		}
	}()
	var got []byte
	var want strings.Builder
	for id := 1; id <= events; id++ {
		fmt.Fprintf(&want, "id: %d\n", id)
	}
	ids := func() string {
		var out strings.Builder
		for line := range strings.Lines(string(got)) {
			if strings.HasPrefix(line, "id: ") {
				out.WriteString(line)
			}
		}
		return out.String()
	}
	reads, part := 0, make([]byte, 64<<10)
	for ids() != want.String() {
		n, err := res.Body.Read(part)
		require.NoError(t, err, ids())
		got, reads = append(got, part[:n]...), reads+1
	}
	require.Less(t, reads, events/2)
}

// TestGapBeforeEachEvent: where servers of a database have ids of their own, all gaps that are
// old are passed over together, and not one after the other.
func TestGapBeforeEachEvent(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		r := s.watch(t, ann, "", "")
		for id := int64(1000); id < 1300; id += 3 {
			note(t, db, id, 1, "with.gap")
		}
		storetest.Exec(t, db, "UPDATE hostsched_events SET at = at - 11000")
		for id := int64(1000); id < 1300; id += 3 {
			require.Equal(t, id, r.next(t).ID)
		}
	})
}

// TestGapOfAnotherTransaction: what is committed later, with lower ids, is not lost.
func TestGapOfAnotherTransaction(t *testing.T) {
	db := storetest.NewServerLab(t)
	s, ann, _ := newLabServer(t, db)
	r := s.watch(t, ann, "", "")
	tx, err := db.SQL().BeginTx(t.Context(), &sql.TxOptions{})
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "INSERT INTO hostsched_events (at, kind, who) VALUES ("+db.Dialect.NowMillis+", 'slow', 'x')")
	require.NoError(t, err)
	storetest.Exec(t, db, "INSERT INTO hostsched_events (at, kind, who) VALUES ("+db.Dialect.NowMillis+", 'fast', 'x')")
	select {
	case e := <-r.events:
		require.FailNow(t, "an event came too early", fmt.Sprint(e))
	case <-time.After(300 * time.Millisecond):
	}
	require.NoError(t, tx.Commit())
	require.Equal(t, "slow", r.next(t).Kind)
	require.Equal(t, "fast", r.next(t).Kind)
}

// TestFirstEventsOfAll: also in a journal in which nothing is old, what is committed later,
// with lower ids, is not lost.
func TestFirstEventsOfAll(t *testing.T) {
	db := storetest.NewServerLab(t)
	s, ann, _ := newLabServer(t, db)
	storetest.Exec(t, db, "TRUNCATE TABLE hostsched_events")
	tx, err := db.SQL().BeginTx(t.Context(), &sql.TxOptions{})
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "INSERT INTO hostsched_events (at, kind, who) VALUES ("+db.Dialect.NowMillis+", 'slow', 'x')")
	require.NoError(t, err)
	storetest.Exec(t, db, "INSERT INTO hostsched_events (at, kind, who) VALUES ("+db.Dialect.NowMillis+", 'fast', 'x')")
	r := s.watch(t, ann, "", "")
	var page labapi.Page[labapi.Event]
	require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/events", nil, &page))
	require.Empty(t, page.Items)
	require.NoError(t, tx.Commit())
	require.Equal(t, "slow", r.next(t).Kind)
	require.Equal(t, "fast", r.next(t).Kind)
	require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/events", nil, &page))
	require.Len(t, page.Items, 2)
}

// TestServerThatLeavesIDsOut: where a server is told to give out every third id only, nobody
// waits for those in between: watchers get events at once, in the order of their ids, and still
// what another transaction commits later. Pages have the same.
func TestServerThatLeavesIDsOut(t *testing.T) {
	server := testserver.StartAnother(t, "--auto-increment-increment=3", "--auto-increment-offset=2")
	dsn, err := server.Create("lab")
	require.NoError(t, err)
	db := storetest.NewLab(t, dsn)
	s, ann, _ := newLabServer(t, db)
	r := s.watch(t, ann, "", "")
	insert := "INSERT INTO hostsched_events (at, kind, who) VALUES (" + db.Dialect.NowMillis + ", 'slow', 'x')"
	for range 5 {
		began := time.Now()
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}})
		require.Equal(t, out.ID, r.next(t).Job)
		require.Less(t, time.Since(began), time.Second)
	}
	var last int64
	for range 5 {
		tx, err := db.SQL().BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), insert)
		require.NoError(t, err)
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}})
		select {
		case e := <-r.events:
			require.FailNow(t, "an event came too early", fmt.Sprint(e))
		case <-time.After(200 * time.Millisecond):
		}
		require.NoError(t, tx.Commit())
		require.Equal(t, "slow", r.next(t).Kind)
		e := r.next(t)
		require.Equal(t, out.ID, e.Job)
		last = e.ID
	}
	var page labapi.Page[labapi.Event]
	require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/events?limit=1000&newest=true", nil, &page))
	require.Equal(t, last, page.Items[0].ID)
	require.Equal(t, last-3, page.Items[1].ID)
}

// TestClientThatNeverReads is cut off, and others get their events all the same.
func TestClientThatNeverReads(t *testing.T) {
	db := storetest.NewServerLab(t)
	s, ann, _ := newLabServer(t, db)
	reads := s.watch(t, ann, "?kind=user.added", "")
	req, err := http.NewRequest(http.MethodGet, s.URL+api.Prefix+"/events", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+ann)
	req.Header.Set("Accept", "text/event-stream")
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, res.Body.Close()) }()
	long := strings.Repeat("x", 400)
	for range 40 {
		storetest.Exec(t, db, "INSERT INTO hostsched_events (at, kind, who, reason) VALUES "+strings.TrimSuffix(strings.Repeat("("+db.Dialect.NowMillis+", 'much', 'x', '"+long+"'), ", 1000), ", "))
	}
	storetest.Exec(t, db, "INSERT INTO hostsched_events (at, kind, who) VALUES ("+db.Dialect.NowMillis+", 'user.added', 'x')")
	require.Equal(t, "user.added", reads.next(t).Kind)
}

// TestStreamsEndWithTheReplica: a replica that ends does not wait for those who watch.
func TestStreamsEndWithTheReplica(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		r := s.watch(t, ann, "", "")
		s.api.EndStreams()
		for range r.events {
		}
		var p problem
		require.Equal(t, http.StatusServiceUnavailable, s.send(t, http.MethodGet, "/events", map[string]string{"Authorization": "Bearer " + ann, "Accept": "text/event-stream"}, nil, &p))
	})
}

// TestNewestEvents: the journal can be read backwards, page by page, and by who did what.
func TestNewestEvents(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		for i, who := range []string{"ann", "bob", "ann", "ann"} {
			storetest.Exec(t, db, fmt.Sprintf("INSERT INTO hostsched_events (id, at, kind, who) VALUES (%d, %d, '%s', '%s')", 1000+i, i+1, []string{"host.locked", "host.unlocked", "hostile", "host.locked"}[i], who))
		}
		ids := func(query string) (ids []int64, after string) {
			var page labapi.Page[labapi.Event]
			require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/events?newest=true&"+query, nil, &page))
			for _, e := range page.Items {
				ids = append(ids, e.ID)
			}
			return ids, page.After
		}
		first, after := ids("kind=host.&limit=2")
		require.Equal(t, []int64{1003, 1001}, first)
		rest, _ := ids("kind=host.&limit=2&after=" + after)
		require.Equal(t, []int64{1000}, rest)
		of, _ := ids("who=ann&kind=host.locked")
		require.Equal(t, []int64{1003, 1000}, of)
		for _, header := range []string{"application/json", "text/event-stream"} {
			require.Equal(t, http.StatusUnprocessableEntity, s.status(t, s.admin, "/events?kind=host.lockd", map[string]string{"Accept": header}))
		}
	})
}
