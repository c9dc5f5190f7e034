package agent_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
)

// lab is the servers' half of the protocol, as far as an agent sees it.
type lab struct {
	t      *testing.T
	server *httptest.Server
	news   chan struct{}

	mu     sync.Mutex
	lease  time.Duration
	logCap int64
	// problem answers everything, if it is not empty; away makes every connection break.
	problem string
	away    bool
	// deaf refuses to hear that a run begins.
	deaf bool
	// reserved tells of an offer once, and again only when a call has waited its time.
	reserved bool
	told     map[int64]bool
	offers   []offered
	runs     map[int64]*labRun
	desired  string
	token    string
	// revoked is a token that was revoked.
	revoked string
	// rotated is the token that the next sync's answer has.
	rotated string
	syncs   []labapi.AgentSync
	joins   []labapi.AgentJoin
}

type offered struct {
	labapi.Offer
	manifest labapi.Manifest
	labels   []string
}

type labRun struct {
	claimed labapi.Claimed
	session string
	state   string
	stop    *labapi.Stop
	logs    map[string][]byte
	finish  *labapi.RunFinish
	lost    bool
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, news: make(chan struct{}, 1), lease: 10 * time.Second, logCap: 1 << 20, runs: map[int64]*labRun{}, told: map[int64]bool{}, desired: labapi.DesiredRun, token: "hsa_new"}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /agent/v1/register", l.register)
	mux.HandleFunc("POST /agent/v1/sync", l.sync)
	mux.HandleFunc("POST /agent/v1/claims", l.claim)
	mux.HandleFunc("POST /agent/v1/goodbye", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /agent/v1/runs/{run}/state", l.state)
	mux.HandleFunc("POST /agent/v1/runs/{run}/renew", func(w http.ResponseWriter, r *http.Request) { l.of(w, r, func(*labRun) {}) })
	mux.HandleFunc("PUT /agent/v1/runs/{run}/logs/{stream}", l.putLog)
	mux.HandleFunc("POST /agent/v1/runs/{run}/finish", l.finishRun)
	l.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		away, problem := l.away, l.problem
		l.mu.Unlock()
		switch {
		case away:
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_ = conn.Close()
			}
		case problem != "":
			l.refuse(w, problem, nil)
		default:
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(l.server.Close)
	return l
}

var statuses = map[string]int{
	labapi.ProblemToken: 401, labapi.ProblemRevoked: 403, labapi.ProblemReplaced: 409, labapi.ProblemOfferGone: 409,
	labapi.ProblemLogOffset: 409, labapi.ProblemRunLost: 410, labapi.ProblemLogFull: 413, labapi.ProblemProtocol: 426,
}

func (l *lab) refuse(w http.ResponseWriter, name string, offset *int64) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(statuses[name])
	doc := map[string]any{"type": "/problems/" + name, "title": name, "status": statuses[name], "detail": name}
	if offset != nil {
		doc["expected_offset"] = *offset
	}
	_ = json.NewEncoder(w).Encode(doc)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (l *lab) register(w http.ResponseWriter, r *http.Request) {
	var in labapi.AgentJoin
	_ = json.NewDecoder(r.Body).Decode(&in)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.joins = append(l.joins, in)
	answer(w, 200, labapi.AgentJoined{Token: l.token, Protocol: 1})
}

func (l *lab) sync(w http.ResponseWriter, r *http.Request) {
	var in labapi.AgentSync
	_ = json.NewDecoder(r.Body).Decode(&in)
	l.mu.Lock()
	if shown := r.Header.Get("Authorization"); shown != "Bearer "+l.token {
		problem := labapi.ProblemToken
		if shown == "Bearer "+l.revoked {
			problem = labapi.ProblemRevoked
		}
		l.mu.Unlock()
		l.refuse(w, problem, nil)
		return
	}
	l.syncs = append(l.syncs, in)
	for id, run := range l.runs {
		known := slices.ContainsFunc(in.Runs, func(a labapi.AgentRun) bool { return a.Run == id })
		// A call that its agent gave up may come after the claim.
		run.lost = run.lost || run.finish == nil && !known && run.session != in.Session
		if known {
			run.session = in.Session
		}
	}
	l.mu.Unlock()
	wait := time.After(time.Duration(in.WaitMillis) * time.Millisecond)
	for {
		out, something := l.synced(in)
		if something || in.WaitMillis == 0 {
			answer(w, 200, out)
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-l.news:
		case <-wait:
			answer(w, 200, out)
			return
		}
	}
}

func (l *lab) synced(in labapi.AgentSync) (labapi.AgentSynced, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := labapi.AgentSynced{Protocol: 1, LeaseMillis: l.lease.Milliseconds(), Desired: l.desired, Token: l.rotated}
	if l.rotated != "" {
		l.token, l.rotated = l.rotated, ""
	}
	news := false
	if in.Capacity > 0 && in.Unfit == "" {
		for _, o := range l.offers {
			out.Offers = append(out.Offers, o.Offer)
			news = news || !l.reserved || !l.told[o.Job]
			l.told[o.Job] = true
		}
	}
	for _, a := range in.Runs {
		run := l.runs[a.Run]
		if run == nil || run.lost {
			out.Forget = append(out.Forget, a.Run)
			continue
		}
		out.Renewed = append(out.Renewed, a.Run)
		if run.stop != nil {
			out.Stop = append(out.Stop, *run.stop)
		}
	}
	return out, news || len(out.Forget)+len(out.Stop) > 0 || out.Desired != labapi.DesiredRun
}

func (l *lab) claim(w http.ResponseWriter, r *http.Request) {
	var in labapi.ClaimInput
	_ = json.NewDecoder(r.Body).Decode(&in)
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.offers, func(o offered) bool { return o.Job == in.Offer.Job && o.Task == in.Offer.Task })
	if i < 0 {
		l.refuse(w, labapi.ProblemOfferGone, nil)
		return
	}
	o := l.offers[i]
	l.offers = slices.Delete(l.offers, i, i+1)
	id := int64(len(l.runs) + 1)
	c := labapi.Claimed{Run: id, Token: fmt.Sprintf("hsr_%d", id), LeaseMillis: l.lease.Milliseconds(), Manifest: o.manifest}
	for _, h := range o.Hosts {
		c.Hosts = append(c.Hosts, labapi.RunHost{Hostname: h, Epoch: id, Labels: o.labels})
	}
	l.runs[id] = &labRun{claimed: c, session: in.Session, state: "claimed", logs: map[string][]byte{}}
	answer(w, 201, c)
}

// of answers a call of a run.
func (l *lab) of(w http.ResponseWriter, r *http.Request, do func(*labRun)) {
	id, _ := strconv.ParseInt(r.PathValue("run"), 10, 64)
	l.mu.Lock()
	defer l.mu.Unlock()
	run := l.runs[id]
	if run == nil || run.lost || r.Header.Get("Authorization") != "Bearer "+run.claimed.Token {
		l.refuse(w, labapi.ProblemRunLost, nil)
		return
	}
	do(run)
	answer(w, 200, labapi.RunAnswer{LeaseMillis: l.lease.Milliseconds(), Stop: run.stop})
}

func (l *lab) state(w http.ResponseWriter, r *http.Request) {
	var in labapi.RunState
	_ = json.NewDecoder(r.Body).Decode(&in)
	l.mu.Lock()
	deaf := l.deaf
	l.mu.Unlock()
	if deaf {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	l.of(w, r, func(run *labRun) { run.state = in.Phase })
}

func (l *lab) putLog(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	id, _ := strconv.ParseInt(r.PathValue("run"), 10, 64)
	offset, _ := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	l.mu.Lock()
	defer l.mu.Unlock()
	run := l.runs[id]
	if run == nil || run.lost {
		l.refuse(w, labapi.ProblemRunLost, nil)
		return
	}
	stream := r.PathValue("stream")
	end := int64(len(run.logs[stream]))
	if offset != end {
		l.refuse(w, labapi.ProblemLogOffset, &end)
		return
	}
	run.logs[stream] = append(run.logs[stream], data...)
	answer(w, 200, labapi.LogEnd{End: end + int64(len(data)), RunAnswer: labapi.RunAnswer{LeaseMillis: l.lease.Milliseconds()}})
}

func (l *lab) finishRun(w http.ResponseWriter, r *http.Request) {
	var in labapi.RunFinish
	_ = json.NewDecoder(r.Body).Decode(&in)
	id, _ := strconv.ParseInt(r.PathValue("run"), 10, 64)
	l.mu.Lock()
	run := l.runs[id]
	missing := run != nil && slices.ContainsFunc(in.Streams, func(e labapi.StreamEnd) bool {
		return e.Size != int64(len(run.logs[e.Stream])) || e.SHA256 != fmt.Sprintf("%x", sha256.Sum256(run.logs[e.Stream]))
	})
	l.mu.Unlock()
	if missing {
		answer(w, 202, labapi.RunAnswer{LeaseMillis: l.lease.Milliseconds(), Unfinished: true})
		return
	}
	l.of(w, r, func(run *labRun) { run.finish, run.state = &in, "done" })
}

// offer offers a job, or a special task, and returns the number that its run will have if it is
// the next one.
func (l *lab) offer(o offered) {
	l.mu.Lock()
	l.offers = append(l.offers, o)
	l.mu.Unlock()
	l.ring()
}

func (l *lab) ring() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

func (l *lab) change(do func()) {
	l.mu.Lock()
	do()
	l.mu.Unlock()
	l.ring()
}

// run is a copy of a run, false if it was not claimed.
func (l *lab) run(id int64) (labRun, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	run := l.runs[id]
	if run == nil {
		return labRun{}, false
	}
	out := *run
	out.logs = map[string][]byte{}
	for k, v := range run.logs {
		out.logs[k] = slices.Clone(v)
	}
	return out, true
}

// bound is how long anything may take on a busy machine.
const bound = 30 * time.Second

func (l *lab) until(id int64, what string, is func(labRun) bool) labRun {
	l.t.Helper()
	var run labRun
	require.Eventually(l.t, func() bool {
		var ok bool
		run, ok = l.run(id)
		return ok && is(run)
	}, bound, 5*time.Millisecond, "run %d: %s", id, what)
	return run
}

func (l *lab) finished(id int64) labRun {
	l.t.Helper()
	return l.until(id, "does not end", func(r labRun) bool { return r.finish != nil })
}

// says waits for a line of a run.
func (l *lab) says(id int64, line string) {
	l.t.Helper()
	l.until(id, "does not say "+line, func(r labRun) bool {
		return slices.Contains(slices.Collect(lines(r.logs["stdout"])), line)
	})
}
