package ops

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// ClusterStatus is who is there, and who leads what.
type ClusterStatus struct {
	Cluster string `json:"cluster"`
	// Missing is what could not be asked; the rest is what the others say.
	Missing  []Missing      `json:"missing"`
	Warnings []string       `json:"warnings"`
	Servers  []ServerStatus `json:"servers"`
	Shards   []ShardStatus  `json:"shards"`
}

// Missing is a half of the facts that could not be had.
type Missing struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// ServerStatus is a replica that is there.
type ServerStatus struct {
	Server  string `json:"server"`
	Role    string `json:"role"`
	Why     string `json:"why,omitempty"`
	Leads   int    `json:"leads"`
	Weight  int    `json:"weight"`
	Since   string `json:"since"`
	Address string `json:"address"`
	Version string `json:"version"`
	// Rules are the settings on which its decisions depend, by their names.
	Rules map[string]string `json:"rules,omitempty"`
	// Avoids are shards it lately failed to lead.
	Avoids map[shard.Name]string `json:"avoids,omitempty"`
	// FencedWrites is how many writes of its terms the fence has refused since it began.
	FencedWrites int64 `json:"fenced_writes,omitempty"`
	// Error says why it does not answer, empty if it does.
	Error string `json:"error,omitempty"`
}

// ShardStatus is a shard and its leader.
type ShardStatus struct {
	Shard shard.Name `json:"shard"`
	// Row is the row of afe_shards, 0 for the master.
	Row shard.ID `json:"row"`
	// NotServed says why no replica can lead the shard, empty if one can.
	NotServed string `json:"not_served,omitempty"`
	// Leader is empty while nobody leads; WhyNobody then says why.
	Leader    string `json:"leader"`
	WhyNobody string `json:"why_nobody_leads,omitempty"`
	Term      int64  `json:"term"`
	Token     int64  `json:"token"`
	Since     string `json:"since,omitempty"`
	// LastTickAge and LastTick are milliseconds; -1 if the leader does not say.
	LastTickAge int64 `json:"last_tick_age_ms"`
	LastTick    int64 `json:"last_tick_ms"`
	// Assignments are those since the leader's process began; -1 if it does not say.
	Assignments int64 `json:"assignments"`
	// Failovers is -1 if the database does not say.
	Failovers int    `json:"failovers"`
	Paused    string `json:"paused,omitempty"`
	// Candidates campaign besides the leader. Whoever only stands by does not: the heir campaigns
	// once the leader is lost or hands over.
	Candidates []string `json:"candidates" doc:"servers that campaign besides the leader, which they do only while the shard changes hands; who stands by is in heir"`
	// Heir is the server that would follow the leader, as far as one can tell; empty if none would.
	Heir string `json:"heir,omitempty" doc:"server that would take the shard over from its leader"`
	// Ignored are keys in etcd among those of the candidates that are nobody's.
	Ignored  []string `json:"ignored,omitempty"`
	Wanted   string   `json:"wanted,omitempty"`
	Holder   string   `json:"holder"`
	Database string   `json:"database,omitempty"`
	Labels   []string `json:"labels"`
	Hosts    int      `json:"hosts"`
	// Slow says that the leader's tick hangs.
	Slow string `json:"slow,omitempty"`
	// Error says that the shard's own database or its leader does not answer.
	Error string `json:"error,omitempty"`
}

// Whole tells whether everything answered and every shard has a leader.
func (c ClusterStatus) Whole() bool {
	return len(c.Missing) == 0 &&
		!slices.ContainsFunc(c.Servers, func(s ServerStatus) bool { return s.Error != "" }) &&
		!slices.ContainsFunc(c.Shards, func(s ShardStatus) bool { return s.Leader == "" || s.Error != "" })
}

// status puts the facts together.
func (f *facts) status() ClusterStatus {
	out := ClusterStatus{Cluster: f.cluster, Missing: []Missing{}, Warnings: f.warnings(), Servers: f.servers(), Shards: []ShardStatus{}}
	if f.etcdErr != nil {
		out.Missing = append(out.Missing, Missing{"etcd", f.etcdErr.Error()})
	}
	if f.databaseErr != nil {
		out.Missing = append(out.Missing, Missing{"database", f.databaseErr.Error()})
	}
	for _, s := range f.shards() {
		st := f.shard(s)
		out.Shards = append(out.Shards, st)
		for i := range out.Servers {
			if st.Leader != "" && out.Servers[i].Server == st.Leader {
				out.Servers[i].Leads++
			}
		}
	}
	out.oneLine()
	return out
}

// oneLine puts what replicas, databases and the history said of faults on one line each.
func (c *ClusterStatus) oneLine() {
	var texts []*string
	for i := range c.Missing {
		texts = append(texts, &c.Missing[i].Why)
	}
	for i := range c.Warnings {
		texts = append(texts, &c.Warnings[i])
	}
	for i := range c.Servers {
		s := &c.Servers[i]
		texts = append(texts, &s.Why, &s.Error)
		s.Avoids = maps.Clone(s.Avoids)
		for name, why := range s.Avoids {
			s.Avoids[name] = shard.OneLine(why)
		}
	}
	for i := range c.Shards {
		s := &c.Shards[i]
		texts = append(texts, &s.WhyNobody, &s.Slow, &s.Error)
	}
	for _, text := range texts {
		*text = shard.OneLine(*text)
	}
}

func (f *facts) warnings() []string {
	out := []string{}
	if f.database.bare {
		out = append(out, "the database lacks hostsched's tables, or some of them; run 'hostsched migrate up'")
	}
	skew := func(whose string, ahead time.Duration) {
		if text := store.Skew(whose, ahead); text != "" {
			out = append(out, text)
		}
	}
	if f.databaseErr == nil {
		skew("the database", f.database.ahead)
	}
	for _, server := range slices.Sorted(maps.Keys(f.replicas())) {
		if a, err := f.answer(server); err == nil && !a.status.Now.IsZero() {
			skew("server "+server, a.status.Now.Sub(a.at))
		}
	}
	return append(append(out, f.rulesApart()...), f.replicaFaults()...)
}

// rulesApart says which settings the replicas have differently although decisions depend on
// them: whoever leads decides by its own. A replica that serves one shard of its own is compared
// with those that serve the same.
func (f *facts) rulesApart() (out []string) {
	type setting struct {
		only shard.Name
		name string
	}
	servers := map[setting]map[string][]string{} // by value
	for _, m := range f.etcd.view.Servers {
		a, err := f.answer(m.Server)
		if err != nil {
			continue
		}
		for name, value := range a.status.Rules {
			s := setting{m.Only, name}
			if servers[s] == nil {
				servers[s] = map[string][]string{}
			}
			servers[s][value] = append(servers[s][value], m.Server)
		}
	}
	for s, values := range servers {
		if len(values) < 2 {
			continue
		}
		var texts []string
		for _, value := range slices.Sorted(maps.Keys(values)) {
			texts = append(texts, fmt.Sprintf("%q on %s", value, strings.Join(values[value], ", ")))
		}
		out = append(out, fmt.Sprintf("the setting %s is not the same everywhere: %s; whoever leads decides by its own", s.name, strings.Join(texts, ", and ")))
	}
	slices.Sort(out)
	return out
}

// replicaFaults are what replicas say is wrong with them and with their connections.
func (f *facts) replicaFaults() (out []string) {
	for _, server := range slices.Sorted(maps.Keys(f.replicas())) {
		a, err := f.answer(server)
		if err != nil {
			continue
		}
		if c := a.status.Certificate; c != nil && c.Fault != "" {
			out = append(out, fmt.Sprintf("server %s: %s", server, c.Fault))
		}
		for _, name := range slices.Sorted(maps.Keys(a.status.Failing)) {
			out = append(out, fmt.Sprintf("server %s %s", server, a.status.Failing[name]))
		}
		for _, other := range slices.Sorted(maps.Keys(a.status.Unheard)) {
			out = append(out, fmt.Sprintf("server %s does not hear the heartbeats of server %s, so that only the lease tells it of its end: %s", server, other, a.status.Unheard[other]))
		}
	}
	return out
}

// answer returns what a server says of itself.
func (f *facts) answer(server string) (answer, error) {
	address, known := f.replicas()[server]
	a, asked := f.answers[address]
	switch {
	case !known || !asked:
		return a, fmt.Errorf("its address is not known")
	case a.err != nil:
		return a, a.err
	case a.status.Server != server:
		return a, fmt.Errorf("server %s answers at its address %s; check listen and advertise", a.status.Server, address)
	}
	return a, nil
}

// servers are those of etcd, or, if it does not answer, those that led lately.
func (f *facts) servers() []ServerStatus {
	out := []ServerStatus{}
	for _, m := range f.etcd.view.Servers {
		out = append(out, ServerStatus{Server: m.Server, Role: m.Role, Why: m.Why, Weight: max(1, m.Weight), Since: m.Since, Address: m.Address, Version: m.Version, Avoids: m.Avoids})
	}
	if f.etcdErr != nil {
		for server, address := range f.replicas() {
			out = append(out, ServerStatus{Server: server, Address: address})
		}
		slices.SortFunc(out, func(a, b ServerStatus) int { return strings.Compare(a.Server, b.Server) })
	}
	for i := range out {
		st := &out[i]
		a, err := f.answer(st.Server)
		if err != nil {
			st.Error = err.Error()
			continue
		}
		if st.Role == "" {
			st.Role, st.Why, st.Version = a.status.Role, a.status.Why, a.status.Version
		}
		if st.Why == "" {
			st.Why = ailing(a.status.Shards)
		}
		st.Rules = a.status.Rules
		for _, s := range a.status.Shards {
			st.FencedWrites += s.FencedWrites
		}
	}
	return out
}

// ailing says what keeps a replica from leading any shard.
func ailing(shards []replica.Status) string {
	for _, s := range shards {
		if s.NotLeading == nil {
			continue
		}
		switch s.NotLeading.Reason {
		case replica.WaitingForEtcd, replica.DatabaseAway, replica.OldVersion:
			return s.NotLeading.Text
		}
	}
	return ""
}

// shards are those of the database, and those that only etcd or the replicas know.
func (f *facts) shards() []admin.Shard {
	out := slices.Clone(f.database.shards)
	known := map[shard.Name]bool{}
	for _, s := range out {
		known[s.Name] = true
	}
	var others []admin.Shard
	add := func(name shard.Name) {
		if !known[name] {
			known[name] = true
			others = append(others, admin.Shard{Name: name, Labels: []string{}})
		}
	}
	for name, elected := range f.etcd.view.Shards {
		if len(elected.Candidates) > 0 {
			add(name)
		}
	}
	if f.databaseErr != nil {
		for _, a := range f.answers {
			for _, s := range a.status.Shards {
				add(s.Shard)
			}
		}
	}
	slices.SortFunc(others, func(a, b admin.Shard) int { return strings.Compare(a.Name.String(), b.Name.String()) })
	return append(out, others...)
}

func (f *facts) shard(s admin.Shard) ShardStatus {
	st := ShardStatus{Shard: s.Name, Row: s.ID, NotServed: s.NotServed, LastTickAge: -1, LastTick: -1, Assignments: -1, Failovers: -1, Candidates: []string{}, Database: s.DSN, Labels: s.Labels, Hosts: s.Hosts}
	if s.NotServed != "" {
		st.WhyNobody = "not served: " + s.NotServed
		return st // what etcd and the fence say of its name is another shard's
	}
	elected := f.etcd.view.Shards[s.Name]
	st.Wanted = elected.Wanted
	st.Heir, _ = heir(f.etcd.view, s.Name) // without one it is empty
	for i, k := range elected.Candidates {
		if i == 0 && k.State == election.StateLeader {
			st.Leader, st.Token, st.Since, st.Paused = k.Server, k.Token, k.Since, k.Paused
			continue
		}
		st.Candidates = append(st.Candidates, k.Server)
	}
	for _, key := range elected.Ignored {
		st.Ignored = append(st.Ignored, key.String())
	}
	if f.etcdErr != nil {
		st.Leader = f.claims(s.Name)
	}
	f.readFence(&st)
	f.readLeader(&st)
	if st.Leader == "" {
		st.WhyNobody = f.whyNobody(&st)
	}
	return st
}

// claims is the server that says that it leads a shard, for when etcd does not answer.
func (f *facts) claims(name shard.Name) string {
	for _, a := range f.answers {
		if s := statusOf(a, name); s != nil && s.State == replica.StateLeader {
			return a.status.Server
		}
	}
	return ""
}

func statusOf(a answer, name shard.Name) *replica.Status {
	if a.err != nil {
		return nil
	}
	i := slices.IndexFunc(a.status.Shards, func(s replica.Status) bool { return s.Shard == name })
	if i < 0 {
		return nil
	}
	return &a.status.Shards[i]
}

// readFence takes over what the shard's database says.
func (f *facts) readFence(st *ShardStatus) {
	d, err := f.database, f.databaseErr
	if own, has := f.own[st.Shard]; has {
		d, err = own.databaseFacts, own.err
	}
	if err != nil {
		if f.databaseErr == nil {
			st.Error = err.Error()
		}
		return
	}
	st.Failovers = d.histories[st.Shard].Failovers
	if fence, led := d.fences[st.Shard]; led {
		st.Term, st.Holder, st.Paused = fence.Epoch, fence.Holder, fence.Paused
	}
}

// readLeader takes over what the leader says of itself.
func (f *facts) readLeader(st *ShardStatus) {
	if st.Leader == "" {
		return
	}
	a, err := f.answer(st.Leader)
	if err != nil {
		st.Error = strings.TrimPrefix(st.Error+"; the leader does not answer: "+err.Error(), "; ")
		return
	}
	r := statusOf(a, st.Shard)
	if r == nil || r.State != replica.StateLeader {
		return // it has just won, or lost
	}
	// Ages are told by the replica's own clock.
	now := a.status.Now
	st.Assignments, st.Slow = r.Assignments, r.Slow(now)
	if len(r.Recent) > 0 {
		st.LastTickAge = max(0, now.Sub(r.LastTick).Milliseconds())
		st.LastTick = r.Recent[len(r.Recent)-1].Milliseconds()
	}
	if st.Token == 0 {
		st.Token, st.Since = r.Token, r.Since.UTC().Format(time.RFC3339)
	}
}

// whyNobody says why nobody leads a shard, and who did last.
func (f *facts) whyNobody(st *ShardStatus) string {
	why := f.reason(st)
	d := f.database
	if own, has := f.own[st.Shard]; has {
		d = own.databaseFacts
	}
	latest := d.histories[st.Shard].Latest
	if server, _ := store.SplitHolder(latest.Holder); server != "" && latest.Ended.IsZero() {
		why += "; last led by " + server
	} else if server != "" {
		why += fmt.Sprintf("; last led by %s until %s: %s", server, latest.Ended.Format(time.RFC3339), latest.Cause)
	}
	return why
}

func (f *facts) reason(st *ShardStatus) string {
	name, members := st.Shard, f.etcd.view.Servers
	if why := f.notServed(name); why != "" {
		return "not served: " + why
	}
	failures := f.failures(name)
	switch {
	case f.etcdErr != nil:
		return "etcd does not answer, so nobody can lead for long"
	case len(members) == 0 && len(f.etcd.clusters) > 0:
		return fmt.Sprintf("etcd has no cluster %q; it has %s; check the setting cluster", f.cluster, strings.Join(quoted(f.etcd.clusters), ", "))
	case len(members) == 0:
		return "no replica is running: etcd has no key under " + election.ServersPrefix(f.cluster)
	case !slices.ContainsFunc(members, func(m election.Member) bool { return m.Role != election.RoleNone }):
		return "no server may lead; see WHY of each, and 'hostsched server list'"
	case failures != "":
		return failures
	case len(st.Candidates) > 0:
		return "server " + st.Candidates[0] + " is taking the shard over"
	}
	return "no replica campaigns for it yet"
}

func quoted(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = fmt.Sprintf("%q", name)
	}
	return out
}

// notServed says why no server can serve a shard.
func (f *facts) notServed(name shard.Name) string {
	for _, a := range f.answers {
		if why := a.status.NotServed[name]; a.err == nil && why != "" {
			return why
		}
	}
	if _, err := shard.Parse(name.String()); err != nil {
		return err.Error()
	}
	return ""
}

// failures says what keeps the replicas from leading a shard. Servers with the same
// reason are named together.
func (f *facts) failures(name shard.Name) string {
	why := map[string]string{}
	for _, m := range f.etcd.view.Servers {
		if text := m.Avoids[name]; text != "" {
			why[m.Server] = text
		}
		a, err := f.answer(m.Server)
		if err != nil {
			continue
		}
		s := statusOf(a, name)
		if s == nil || s.NotLeading == nil {
			continue
		}
		switch s.NotLeading.Reason {
		case replica.TakeOverFailed, replica.DatabaseAway, replica.OldVersion, replica.TickHangs, replica.WaitingForEtcd:
			why[m.Server] = s.NotLeading.Text
		}
	}
	servers, texts := map[string][]string{}, map[string]string{}
	for _, server := range slices.Sorted(maps.Keys(why)) {
		kind := recurring.Kind(why[server])
		servers[kind], texts[kind] = append(servers[kind], server), why[server]
	}
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(servers)) {
		out = append(out, strings.Join(servers[kind], ", ")+": "+texts[kind])
	}
	return strings.Join(out, "; ")
}
