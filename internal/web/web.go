package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
)

// Config says what to serve.
type Config struct {
	Server  string
	Version string
	// Rules are the settings on which decisions depend, by their names.
	Rules map[string]string
	// Status returns the status of every shard this process serves.
	Status func() []replica.Status
	// Role says what the replica may do: primary, backup, or none and why.
	Role func() (role, why string)
	// NotServed returns the shards that no server can serve, with the reason.
	NotServed func() map[shard.Name]string
	// Recorder returns which suite holds which host of a shard, nil if it is not
	// led here.
	Recorder func(shard.Name) map[scheduler.HostID]scheduler.JobID
	// Waiting says what the replica waits for before it can take part, empty once it
	// does.
	Waiting func() string
	// MetadataFault says why queued-time records were not taken, empty if they were.
	MetadataFault func() string
	// Failing says what of the work besides scheduling fails, by its name.
	Failing func() map[string]string
	// Certificate says what is known of the certificate with which the replica answers; nil
	// without one.
	Certificate func() *certs.State
	// Unheard returns the servers whose heartbeats are not heard, with the reason.
	Unheard func() map[string]string
	// Metrics answers /metrics.
	Metrics http.Handler
}

// stuckAfter is how long a leader may go without finishing a tick before it
// counts as unhealthy. A tick of the largest lab takes seconds.
const stuckAfter = time.Minute

// ServerStatus is the answer of /v1/status.
type ServerStatus struct {
	Server  string `json:"server"`
	Version string `json:"version"`
	// Now is the time by this replica's clock.
	Now time.Time `json:"now"`
	// Role is primary, backup, or none with the reason in Why.
	Role string `json:"role"`
	Why  string `json:"why,omitempty"`
	// Rules are the settings on which its decisions depend, by their names; older versions do
	// not say.
	Rules  map[string]string `json:"rules,omitempty"`
	Shards []replica.Status  `json:"shards"`
	// NotServed are the shards that no server can serve, with the reason.
	NotServed map[shard.Name]string `json:"not_served,omitempty"`
	// MetadataFault is why the metadata endpoint did not take queued-time records.
	MetadataFault string `json:"metadata_fault,omitempty"`
	// Failing is what of the work besides scheduling fails now, by its name, with the reason.
	Failing map[string]string `json:"failing,omitempty"`
	// Certificate is that with which the replica answers over TLS.
	Certificate *certs.State `json:"certificate,omitempty"`
	// Unheard are the servers whose heartbeats this replica does not hear, with the reason:
	// only their leases tell it of their end.
	Unheard map[string]string `json:"unheard,omitempty"`
}

// Handler returns the handler of all paths.
func Handler(cfg Config) http.Handler {
	cfg.Status = onOneLine(cfg.Status)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", cfg.Metrics)
	mux.HandleFunc("GET /healthz", cfg.health)
	mux.HandleFunc("GET /readyz", cfg.ready)
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		role, why := cfg.Role()
		shards := []shardAnswer{}
		for _, s := range cfg.Status() {
			shards = append(shards, shardStatus(s))
		}
		answer(w, http.StatusOK, statusAnswer{Shards: shards, ServerStatus: ServerStatus{
			Server: cfg.Server, Version: cfg.Version, Now: time.Now().UTC(), Role: role, Why: why, Rules: cfg.Rules,
			NotServed: cfg.NotServed(), MetadataFault: cfg.MetadataFault(), Failing: cfg.Failing(),
			Certificate: cfg.Certificate(), Unheard: cfg.Unheard(),
		}})
	})
	mux.HandleFunc("GET /v1/recorder", cfg.recorder)
	return mux
}

// onOneLine returns the status of shards with what went wrong on one line each.
func onOneLine(status func() []replica.Status) func() []replica.Status {
	return func() []replica.Status {
		all := slices.Clone(status())
		for i := range all {
			s := &all[i]
			s.LastError = shard.OneLine(s.LastError)
			if why := s.NotLeading; why != nil {
				said := *why
				said.Text = shard.OneLine(said.Text)
				s.NotLeading = &said
			}
		}
		return all
	}
}

// statusAnswer is a ServerStatus as it is written.
type statusAnswer struct {
	ServerStatus
	Shards []shardAnswer `json:"shards"`
}

// shardAnswer leaves out what is not known.
type shardAnswer struct {
	replica.Status
	Waiting *int `json:"waiting,omitempty"`
}

// shardStatus is what a replica says of a shard. Who does not lead it, or leads it while it is
// paused, reads no queue.
func shardStatus(s replica.Status) shardAnswer {
	out := shardAnswer{Status: s}
	if s.State == replica.StateLeader && s.Paused == "" {
		out.Waiting = &s.Waiting
	}
	return out
}

// Recorder is the answer of /v1/recorder.
type Recorder struct {
	// Hosts holds, per host, the suite that holds it.
	Hosts map[scheduler.HostID]scheduler.JobID `json:"hosts"`
}

// recorder answers with the suite recorder of the current term of a shard
// (?shard=, the first one if none is given), 503 from a follower, because only the
// leader has one, and 404 if there is no such shard.
func (c Config) recorder(w http.ResponseWriter, r *http.Request) {
	name := shard.Name(r.URL.Query().Get("shard"))
	all := c.Status()
	if name == "" && len(all) > 0 {
		name = all[0].Shard
	}
	i := slices.IndexFunc(all, func(s replica.Status) bool { return s.Shard == name })
	if i < 0 {
		answer(w, http.StatusNotFound, state{State: c.overall().State, Reason: fmt.Sprintf("this replica serves no shard %q", name)})
		return
	}
	hosts := c.Recorder(name)
	if hosts == nil {
		out := state{State: all[i].State, Reason: fmt.Sprintf("shard %s is not led here", name)}
		if why := all[i].NotLeading; why != nil {
			out.Reason += ": " + why.Text
		}
		answer(w, http.StatusServiceUnavailable, out)
		return
	}
	answer(w, http.StatusOK, Recorder{hosts})
}

type state struct {
	State  replica.State `json:"state"`
	Reason string        `json:"reason,omitempty"`
	ready  bool
}

// healthAnswer is the answer of /healthz.
type healthAnswer struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// health answers 200 unless a leader is stuck, or a replica in the last tick of a term that is
// over. A tick that hangs is said before it counts as stuck, because restarting the process
// does not help a slow database.
func (c Config) health(w http.ResponseWriter, _ *http.Request) {
	healthy := healthAnswer{Status: "ok"}
	if reason := c.Waiting(); reason != "" {
		healthy = healthAnswer{"waiting", reason}
	}
	for _, s := range c.Status() {
		if slow := s.Slow(time.Now()); slow != "" {
			healthy = healthAnswer{"slow", slow}
		}
		last := s.LastTick
		if last.Before(s.Since) {
			last = s.Since
		}
		if ticks := s.State == replica.StateLeader || !s.OverSince.IsZero(); ticks && time.Since(last) > stuckAfter {
			answer(w, http.StatusInternalServerError, healthAnswer{"stuck", fmt.Sprintf("shard %s: no tick finished since %s", s.Shard, last.UTC().Format(time.RFC3339))})
			return
		}
	}
	answer(w, http.StatusOK, healthy)
}

// ready answers 200 with the state "leader" or "follower" once the replica takes
// part in the campaign. With ?state=leader or ?state=follower it answers 200 only
// in that state, for load balancers that look for one.
func (c Config) ready(w http.ResponseWriter, r *http.Request) {
	s := c.overall()
	code := http.StatusOK
	want := replica.State(r.URL.Query().Get("state"))
	switch {
	case want != "" && want != replica.StateLeader && want != replica.StateCandidate:
		answer(w, http.StatusBadRequest, state{State: s.State, Reason: "state must be leader or follower"})
		return
	case !s.ready, want != "" && want != s.State:
		code = http.StatusServiceUnavailable
	}
	answer(w, code, s)
}

// overall is leader if any shard is led here. It is ready unless a tick hangs, or, on a
// follower, something keeps it from leading that should not.
func (c Config) overall() state {
	all := c.Status()
	leading, slow := false, ""
	for _, s := range all {
		leading = leading || s.State == replica.StateLeader
		slow = cmp.Or(slow, s.Slow(time.Now()))
	}
	if leading {
		return state{State: replica.StateLeader, Reason: slow, ready: slow == ""}
	}
	out := state{State: replica.StateStarting, Reason: c.Waiting()}
	for i, s := range all {
		why := s.NotLeading
		ready := s.State == replica.StateCandidate && (why == nil || why.Healthy())
		if i > 0 && ready {
			continue
		}
		out = state{State: s.State, ready: ready}
		if why != nil {
			out.Reason = why.Text
		}
		if !ready {
			break
		}
	}
	return out
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// The client is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(body)
}
