package agentapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/agentapi"
	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

var (
	root  = access.Caller{Login: "root", Role: access.Admin}
	ours  = labapi.Protocols{Least: 1, Most: labapi.AgentProtocol}
	soon  = 5 * time.Second
	waits = int64(20_000)
)

// TestDocument: the contract in the repository is the one that is served.
func TestDocument(t *testing.T) {
	served, err := agentapi.Document()
	require.NoError(t, err)
	kept, err := os.ReadFile("openapi.json")
	require.NoError(t, err)
	require.JSONEq(t, string(kept), string(served), "run 'go generate ./internal/agentapi', and read the difference")
}

// world is an API on a lab with hosts h1 and h2, which agent rack-1 serves.
type world struct {
	t      *testing.T
	db     *store.DB
	lab    *lab.Lab
	runs   *runs.Runs
	api    *agentapi.API
	config agentapi.Config
	url    string
	join   string
}

func newWorld(t *testing.T, db *store.DB) *world {
	return newWorldWith(t, db, func(*agentapi.Config) {})
}

func newWorldWith(t *testing.T, db *store.DB, change func(*agentapi.Config)) *world {
	t.Helper()
	l := lab.New(db, store.Scope{Shard: shard.Master, Shared: true})
	w := &world{t: t, db: db, lab: l, runs: runs.New(l)}
	_, err := l.AddUser(t.Context(), root, "root")
	require.NoError(t, err)
	for _, name := range []string{"h1", "h2"} {
		_, _, err := l.AddHost(t.Context(), root, labapi.HostInput{Hostname: name, Labels: []string{"board:eve"}})
		require.NoError(t, err)
	}
	added, err := l.AddAgent(t.Context(), root, labapi.AgentInput{Name: "rack-1", Hosts: []string{"h1", "h2"}})
	require.NoError(t, err)
	w.join = added.Join.Token
	w.config = agentapi.Config{
		Version: "test", Lab: func() *lab.Lab { return l }, Runs: func() *runs.Runs { return w.runs }, Waiting: func() string { return "" }, Log: hclog.NewNullLogger(),
	}
	change(&w.config)
	w.serve()
	return w
}

// serve serves the API until the test ends.
func (w *world) serve() {
	w.t.Helper()
	w.config.Watch = &lab.Watch{Frame: func(to []byte, _ *labapi.Event) []byte { return to }}
	w.api = agentapi.New(w.config)
	s := httptest.NewServer(w.api)
	w.url = s.URL
	w.t.Cleanup(func() {
		w.api.EndWaits()
		w.config.Watch.Close()
		s.Close()
		http.DefaultClient.CloseIdleConnections()
	})
}

// replica is another replica of the same lab.
func (w *world) replica() *world {
	other := *w
	other.serve()
	return &other
}

func onEachWorld(t *testing.T, test func(*testing.T, *world)) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) { test(t, newWorld(t, db)) })
}

func (w *world) client(token string) *agentclient.Client {
	w.t.Helper()
	c, err := agentclient.New(labclient.Config{Servers: []string{w.url}, Token: token})
	require.NoError(w.t, err)
	return c
}

// registered is the client of rack-1.
func (w *world) registered() *agentclient.Client {
	w.t.Helper()
	return w.client(w.token())
}

func (w *world) token() string {
	w.t.Helper()
	joined, err := w.client("").Register(w.t.Context(), labapi.AgentJoin{JoinToken: w.join, Name: "rack-1", Version: "v1", Protocols: ours})
	require.NoError(w.t, err)
	require.Equal(w.t, labapi.AgentProtocol, joined.Protocol)
	return joined.Token
}

// begins is the first call of a session, which waits for nothing.
func begins(session string) labapi.AgentSync {
	return labapi.AgentSync{Session: session, Begin: true, BootID: "boot", Version: "v1", Protocols: ours, Capacity: 2}
}

// goesOn is a later call, which waits.
func goesOn(session string) labapi.AgentSync {
	in := begins(session)
	in.Begin, in.WaitMillis = false, waits
	return in
}

// task queues a special task on a host that is given to its tasks.
func (w *world) task(host, kind string) {
	w.t.Helper()
	storetest.Exec(w.t, w.db, "UPDATE afe_hosts SET leased = 1 WHERE hostname = ?", host)
	storetest.Exec(w.t, w.db, "INSERT INTO afe_special_tasks (host_id, task, time_requested, requested_by_id) SELECT h.id, ?, "+w.db.Dialect.Now+", u.id FROM afe_hosts h, afe_users u WHERE h.hostname = ? AND u.login = 'root'", kind, host)
}

type synced struct {
	out labapi.AgentSynced
	err error
}

// waiting begins a call that waits, and returns where its answer comes.
func (w *world) waiting(c *agentclient.Client, in labapi.AgentSync) <-chan synced {
	w.t.Helper()
	answers := make(chan synced, 1)
	go func() {
		out, err := c.Sync(w.t.Context(), in)
		answers <- synced{out, err}
	}()
	select {
	case got := <-answers:
		w.t.Fatalf("it did not wait: %+v", got)
	case <-time.After(200 * time.Millisecond):
	}
	return answers
}

// answered is the answer that comes as soon as there is something to say.
func (w *world) answered(answers <-chan synced) synced {
	w.t.Helper()
	select {
	case got := <-answers:
		return got
	case <-time.After(soon):
		w.t.Fatal("it waits although there is something to do")
		return synced{}
	}
}

// TestARunFromOfferToEnd: what is there to do is offered at once to who waits, is claimed,
// once however often it is asked, reported and finished; all of it may be repeated.
func TestARunFromOfferToEnd(t *testing.T) {
	onEachWorld(t, func(t *testing.T, w *world) {
		ctx, c := t.Context(), w.registered()
		first, err := c.Sync(ctx, begins("s1"))
		require.NoError(t, err)
		first.NextMillis = 0
		require.Equal(t, labapi.AgentSynced{Protocol: 1, LeaseMillis: w.runs.Lease.Milliseconds(), Desired: "run"}, first)
		answers := w.waiting(c, goesOn("s1"))
		w.task("h1", "Verify")
		w.api.Ring()
		got := w.answered(answers)
		require.NoError(t, got.err)
		require.Len(t, got.out.Offers, 1)
		require.Equal(t, "Verify", got.out.Offers[0].Kind)
		require.Equal(t, []string{"h1"}, got.out.Offers[0].Hosts)

		in := labapi.ClaimInput{Session: "s1", ClaimKey: "0123456789abcdef", Offer: got.out.Offers[0]}
		claimed, err := c.Claim(ctx, in)
		require.NoError(t, err)
		again, err := c.Claim(ctx, in)
		require.NoError(t, err)
		require.Equal(t, claimed, again)
		in.ClaimKey = "another key, 16 long"
		_, err = c.Claim(ctx, in)
		require.ErrorIs(t, err, agentclient.ErrOfferGone)
		in.Session = "s0"
		_, err = c.Claim(ctx, in)
		require.ErrorIs(t, err, agentclient.ErrReplaced)

		run, err := c.Run(claimed.Run, claimed.Token)
		require.NoError(t, err)
		for range 2 {
			_, err = run.State(ctx, labapi.RunState{Phase: "running"})
			require.NoError(t, err)
		}
		_, err = run.Renew(ctx)
		require.NoError(t, err)
		with := begins("s1")
		with.Runs = []labapi.AgentRun{{Run: claimed.Run, State: "running"}}
		out, err := c.Sync(ctx, with)
		require.NoError(t, err)
		require.Equal(t, []int64{claimed.Run}, out.Renewed)
		require.Empty(t, out.Offers)

		other, err := c.Run(claimed.Run+1, claimed.Token)
		require.NoError(t, err)
		_, err = other.Renew(ctx)
		require.ErrorIs(t, err, agentclient.ErrRefused, "the token is that of another run")
		unfinished, err := run.Finish(ctx, labapi.RunFinish{Result: "passed", Streams: []labapi.StreamEnd{{Stream: "stdout", Size: 5}}})
		require.ErrorIs(t, err, agentclient.ErrUnfinished)
		require.True(t, unfinished.Unfinished)
		requireSent(t, run)
		for range 2 {
			_, err = run.Finish(ctx, labapi.RunFinish{Result: "passed", Streams: []labapi.StreamEnd{{Stream: "stdout", Size: 5}}})
			require.NoError(t, err)
		}
		_, err = run.Renew(ctx)
		require.ErrorIs(t, err, agentclient.ErrRunLost)
		_, err = run.State(ctx, labapi.RunState{Phase: "running"})
		require.ErrorIs(t, err, agentclient.ErrRunLost)
		out, err = c.Sync(ctx, with)
		require.NoError(t, err)
		require.Equal(t, []int64{claimed.Run}, out.Forget)
		require.Equal(t, 1, storetest.Count(t, w.db, "SELECT COUNT(*) FROM afe_special_tasks WHERE is_complete = 1 AND success = 1"))
	})
}

// TestOffersAreNoAlarm: an agent that does not take an offer up is not called for it again and
// again, but hears of it; one that takes nothing gets none.
func TestOffersAreNoAlarm(t *testing.T) {
	onEachWorld(t, func(t *testing.T, w *world) {
		c := w.registered()
		w.task("h1", "Verify")
		out, err := c.Sync(t.Context(), begins("s1"))
		require.NoError(t, err)
		require.Len(t, out.Offers, 1)
		in := goesOn("s1")
		in.WaitMillis = 1000
		began := time.Now()
		out, err = c.Sync(t.Context(), in)
		require.NoError(t, err)
		require.Len(t, out.Offers, 1)
		require.GreaterOrEqual(t, time.Since(began), 700*time.Millisecond)
		for _, change := range []func(*labapi.AgentSync){func(in *labapi.AgentSync) { in.Capacity = 0 }, func(in *labapi.AgentSync) { in.Unfit = "disk full" }} {
			in := goesOn("s1")
			in.WaitMillis = 0
			change(&in)
			out, err = c.Sync(t.Context(), in)
			require.NoError(t, err)
			require.Empty(t, out.Offers)
		}
		out, err = c.Sync(t.Context(), goesOn("s1"))
		require.NoError(t, err)
		require.Len(t, out.Offers, 1, "it takes something again, and hears of it at once")
		answers := w.waiting(c, goesOn("s1"))
		w.task("h2", "Reset")
		w.api.Ring()
		require.Len(t, w.answered(answers).out.Offers, 2)
	})
}

// TestWhatEndsAWait: whatever becomes of an agent, it hears at once, also if another replica or
// a command changed it.
func TestWhatEndsAWait(t *testing.T) {
	onEachWorld(t, func(t *testing.T, w *world) {
		ctx, token := t.Context(), w.token()
		c := w.client(token)
		_, err := c.Sync(ctx, begins("s1"))
		require.NoError(t, err)

		answers := w.waiting(c, goesOn("s1"))
		_, err = w.lab.WantOfAgent(ctx, root, "rack-1", labapi.DesiredDrain, "new rack")
		require.NoError(t, err)
		got := w.answered(answers)
		require.NoError(t, got.err)
		require.Equal(t, "drain", got.out.Desired)
		answers = w.waiting(c, goesOn("s1"))
		_, err = w.lab.WantOfAgent(ctx, root, "rack-1", labapi.DesiredRun, "")
		require.NoError(t, err)
		require.Equal(t, "run", w.answered(answers).out.Desired)

		answers = w.waiting(c, goesOn("s1"))
		require.NoError(t, w.lab.RotateAgent(ctx, root, "rack-1"))
		got = w.answered(answers)
		require.NotEmpty(t, got.out.Token)
		c = w.client(got.out.Token)

		w.task("h1", "Verify")
		out, err := c.Sync(ctx, begins("s1"))
		require.NoError(t, err)
		require.Empty(t, out.Token)
		claimed, err := c.Claim(ctx, labapi.ClaimInput{Session: "s1", ClaimKey: "0123456789abcdef", Offer: out.Offers[0]})
		require.NoError(t, err)
		with := goesOn("s1")
		with.Runs = []labapi.AgentRun{{Run: claimed.Run, State: "claimed"}}
		answers = w.waiting(c, with)
		storetest.Exec(t, w.db, "UPDATE hostsched_runs SET stop_reason = 'aborted', stop_since = 1 WHERE id = ?", claimed.Run)
		w.api.Ring()
		got = w.answered(answers)
		require.NoError(t, got.err)
		require.Len(t, got.out.Stop, 1)
		require.Equal(t, "aborted", got.out.Stop[0].Reason)
		require.Equal(t, []int64{claimed.Run}, got.out.Renewed)
		answers = w.waiting(c, with) // it was told, and is at it

		_, err = c.Sync(ctx, begins("s2"))
		require.NoError(t, err)
		require.ErrorIs(t, w.answered(answers).err, agentclient.ErrReplaced)
		_, err = c.Sync(ctx, goesOn("s1"))
		require.ErrorIs(t, err, agentclient.ErrReplaced)

		answers = w.waiting(c, goesOn("s2"))
		require.NoError(t, w.lab.RevokeAgent(ctx, root, "rack-1", "stolen"))
		require.ErrorIs(t, w.answered(answers).err, agentclient.ErrRevoked)
		_, err = c.Sync(ctx, goesOn("s2"))
		require.ErrorIs(t, err, agentclient.ErrRevoked)
		require.ErrorIs(t, c.Goodbye(ctx, labapi.AgentLeave{Session: "s2"}), agentclient.ErrRevoked)
		_, err = w.client(token).Sync(ctx, goesOn("s2"))
		require.ErrorIs(t, err, agentclient.ErrToken, "the new token took its place")
	})
}

// TestTwoAgentsWithOneName: the one that came last serves, whichever replica it calls; the other
// one hears at once that its seat was taken, whatever it calls and wherever.
func TestTwoAgentsWithOneName(t *testing.T) {
	onEachWorld(t, func(t *testing.T, w *world) {
		token := w.token()
		first, second := w, w.replica()
		for round, at := range [][2]*world{{first, first}, {first, second}, {second, first}} {
			older, newer := fmt.Sprint("older ", round), fmt.Sprint("newer ", round)
			at, next := at[0], at[1]
			_, err := at.client(token).Sync(t.Context(), begins(older))
			require.NoError(t, err)
			answers := at.waiting(at.client(token), goesOn(older))
			_, err = next.client(token).Sync(t.Context(), begins(newer))
			require.NoError(t, err)
			require.ErrorIs(t, w.answered(answers).err, agentclient.ErrReplaced)

			for _, r := range []*world{first, second} {
				for path, body := range map[string]string{
					"/sync":    `{"session":"` + older + `","boot_id":"boot","version":"v1","protocols":{"least":1,"most":1},"capacity":1}`,
					"/claims":  `{"session":"` + older + `","claim_key":"0123456789abcdef","offer":{"kind":"Verify","task":1,"hosts":["h1"]}}`,
					"/drain":   `{"session":"` + older + `"}`,
					"/goodbye": `{"session":"` + older + `"}`,
				} {
					status, text := r.raw(token, http.MethodPost, labapi.AgentPrefix+path, strings.NewReader(body))
					require.Equal(t, http.StatusConflict, status, "%s: %s", path, text)
					require.Contains(t, text, `"/problems/session-replaced"`, path)
					require.Contains(t, text, "another process has taken this agent's place", path)
				}
			}
			still := goesOn(newer)
			still.WaitMillis = 0
			out, err := next.client(token).Sync(t.Context(), still)
			require.NoError(t, err)
			require.Equal(t, "run", out.Desired, "the other one's calls change nothing")
		}
	})
}

// TestEndOfAReplica answers all who wait, and lets nobody wait any more.
func TestEndOfAReplica(t *testing.T) {
	w := newWorld(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	c := w.registered()
	_, err := c.Sync(t.Context(), begins("s1"))
	require.NoError(t, err)
	answers := w.waiting(c, goesOn("s1"))
	w.api.EndWaits()
	require.NoError(t, w.answered(answers).err)
	began := time.Now()
	_, err = c.Sync(t.Context(), goesOn("s1"))
	require.NoError(t, err)
	require.Less(t, time.Since(began), soon)
}

// TestLeaving: an agent asks for its drain, and says that it ends.
func TestLeaving(t *testing.T) {
	onEachWorld(t, func(t *testing.T, w *world) {
		ctx, c := t.Context(), w.registered()
		_, err := c.Sync(ctx, begins("s1"))
		require.NoError(t, err)
		require.ErrorIs(t, c.Drain(ctx, labapi.AgentLeave{Session: "s0"}), agentclient.ErrReplaced)
		require.NoError(t, c.Drain(ctx, labapi.AgentLeave{Session: "s1", Reason: "upgrade"}))
		w.task("h1", "Verify")
		out, err := c.Sync(ctx, begins("s1"))
		require.NoError(t, err)
		require.Equal(t, "drain", out.Desired)
		require.Empty(t, out.Offers)
		require.NoError(t, c.Goodbye(ctx, labapi.AgentLeave{Session: "s1"}))
		a, err := w.lab.Agent(ctx, "rack-1")
		require.NoError(t, err)
		require.Equal(t, labapi.AgentStopped, a.State)
		_, err = c.Sync(ctx, begins("s2"))
		require.NoError(t, err)
	})
}

// TestReboot: the runs of a machine that was booted again are given up at once.
func TestReboot(t *testing.T) {
	onEachWorld(t, func(t *testing.T, w *world) {
		ctx, c := t.Context(), w.registered()
		w.task("h1", "Verify")
		out, err := c.Sync(ctx, begins("s1"))
		require.NoError(t, err)
		claimed, err := c.Claim(ctx, labapi.ClaimInput{Session: "s1", ClaimKey: "0123456789abcdef", Offer: out.Offers[0]})
		require.NoError(t, err)
		in := begins("s2")
		in.BootID = "another boot"
		in.Runs = []labapi.AgentRun{{Run: claimed.Run, State: "running"}}
		out, err = c.Sync(ctx, in)
		require.NoError(t, err)
		require.Equal(t, []int64{claimed.Run}, out.Forget)
		require.Equal(t, 1, storetest.Count(t, w.db, "SELECT COUNT(*) FROM hostsched_runs WHERE state = 'lost'"))
		in.Begin, in.Runs = false, nil
		_, err = c.Sync(ctx, in)
		require.NoError(t, err)
		require.Equal(t, 1, storetest.Count(t, w.db, "SELECT COUNT(*) FROM hostsched_agents WHERE boot_id = 'another boot'"))
	})
}

// TestProtocols: a version older than the servers is served with a warning, others are refused
// before they are offered anything.
func TestProtocols(t *testing.T) {
	for _, tt := range []struct {
		least, most, ours, chosen int
		warns                     bool
		says                      string
	}{
		{1, 1, 1, 1, false, ""}, {1, 3, 3, 3, false, ""}, {1, 9, 3, 3, false, ""}, {3, 4, 3, 3, false, ""},
		{1, 2, 3, 2, true, ""}, {2, 2, 3, 2, true, ""},
		{1, 1, 3, 0, false, "upgrade the agent"}, {4, 4, 3, 0, false, "upgrade the servers first"}, {5, 6, 3, 0, false, "upgrade the servers first"}, {3, 2, 3, 0, false, "upgrade"},
	} {
		got, warning, err := agentapi.Choose(labapi.Protocols{Least: tt.least, Most: tt.most}, tt.ours)
		require.Equal(t, tt.chosen, got, "%+v", tt)
		require.Equal(t, tt.warns, warning != "", "%+v", tt)
		require.Equal(t, tt.chosen == 0, err != nil, "%+v", tt)
		if err != nil {
			require.ErrorContains(t, err, tt.says)
		}
	}
	w := newWorld(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	tooNew := labapi.Protocols{Least: labapi.AgentProtocol + 1, Most: labapi.AgentProtocol + 2}
	_, err := w.client("").Register(t.Context(), labapi.AgentJoin{JoinToken: w.join, Name: "rack-1", Protocols: tooNew})
	require.ErrorIs(t, err, agentclient.ErrProtocol)
	c := w.registered()
	in := begins("s1")
	in.Protocols = tooNew
	_, err = c.Sync(t.Context(), in)
	require.ErrorIs(t, err, agentclient.ErrProtocol)
	require.Zero(t, storetest.Count(t, w.db, "SELECT COUNT(*) FROM hostsched_agents WHERE session <> ''"))
}

// TestAutotest: where Autotest runs the jobs, agents are told so.
func TestAutotest(t *testing.T) {
	w := newWorld(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	c := w.registered()
	w.runs.Off = true
	_, err := c.Sync(t.Context(), begins("s1"))
	require.ErrorIs(t, err, agentclient.ErrAutotest)
	_, err = w.client("").Register(t.Context(), labapi.AgentJoin{JoinToken: w.join, Name: "rack-1", Protocols: ours})
	require.ErrorIs(t, err, agentclient.ErrAutotest)
}

// TestPauses: however many agents there are, they do not call too often, nor so seldom that
// they count as silent.
func TestPauses(t *testing.T) {
	require.Less(t, agentapi.LongestSilence, store.AgentSilentAfter)
	for _, tt := range []struct {
		agents      int
		wait        time.Duration
		least, most time.Duration
	}{
		{1, 20 * time.Second, 0, 0}, {1000, 20 * time.Second, 0, 0}, {1200, 20 * time.Second, 3200 * time.Millisecond, 4 * time.Second}, {3000, 20 * time.Second, 8 * time.Second, 10 * time.Second}, {100_000, 0, 24 * time.Second, 30 * time.Second}, {100, 0, 1600 * time.Millisecond, 2 * time.Second}, {0, 0, 0, 0},
	} {
		for range 100 {
			got := agentapi.NextMillis(tt.agents, tt.wait)
			require.GreaterOrEqual(t, got, tt.least)
			require.LessOrEqual(t, got, tt.most)
		}
	}
}
