package admin

import (
	"context"
	"fmt"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Findings are inconsistencies in the database. Each list is empty if
// all is well.
type Findings struct {
	// Overlapping are hosts with more than one active entry (Autotest
	// get_overlapping_jobs).
	Overlapping []Finding `json:"overlapping"`
	// Unheld are leased hosts that no active entry and no special task uses and
	// that the next tick will not release either: they are locked or not Ready.
	Unheld []Finding `json:"unheld"`
	// Unleased are hosts with an active entry but without lease.
	Unleased []Finding `json:"unleased"`
	// Drift are differences between a recorder and the database.
	Drift []Finding `json:"drift"`
	// NotServed are rows of afe_shards that no replica can lead. They are found with
	// the master.
	NotServed []Finding `json:"not_served"`
	// Stranded are hosts in one shard whose labels belong to another, and that will not
	// move there until somebody changes them.
	Stranded []Finding `json:"stranded"`
	// Lost are assignments that the database had and has lost, as far as their leader
	// knew, while the shard is paused for that.
	Lost []Finding `json:"lost"`
	// Fence is where the fence rows of a shard contradict each other.
	Fence []Finding `json:"fence"`
}

// Kind is one of the lists of Findings.
type Kind struct {
	// Name is that in JSON and in metrics.
	Name string
	All  []Finding
}

// Kinds returns all lists, the worst first.
func (f *Findings) Kinds() []Kind {
	var out []Kind
	for _, k := range f.kinds() {
		out = append(out, Kind{k.name, *k.all})
	}
	return out
}

type kind struct {
	name string
	all  *[]Finding
}

func (f *Findings) kinds() []kind {
	return []kind{
		{"overlapping", &f.Overlapping}, {"lost", &f.Lost}, {"fence", &f.Fence}, {"unleased", &f.Unleased}, {"drift", &f.Drift},
		{"unheld", &f.Unheld}, {"stranded", &f.Stranded}, {"not_served", &f.NotServed},
	}
}

// NoFindings has empty lists, which are never null in JSON.
func NoFindings() Findings {
	var f Findings
	for _, k := range f.kinds() {
		*k.all = []Finding{}
	}
	return f
}

// Add adds what was found in another shard.
func (f *Findings) Add(other Findings) {
	more := other.kinds()
	for i, k := range f.kinds() {
		*k.all = append(*k.all, *more[i].all...)
	}
}

// Finding concerns one host of a shard, or a shard as a whole; then Host is 0.
type Finding struct {
	Shard    shard.Name        `json:"shard"`
	Host     scheduler.HostID  `json:"host"`
	Hostname string            `json:"hostname"`
	Entry    scheduler.EntryID `json:"entry,omitempty"`
	Job      scheduler.JobID   `json:"job,omitempty"`
	Text     string            `json:"text"`
}

// Count returns how many findings there are.
func (f *Findings) Count() (n int) {
	for _, k := range f.kinds() {
		n += len(*k.all)
	}
	return n
}

// Check looks for inconsistencies among the hosts of a shard. recorder is compared
// with one rebuilt from the database; nil leaves that out. It writes nothing.
func (lab *Lab) Check(ctx context.Context, scope store.Scope, recorder *scheduler.Recorder) (Findings, error) {
	f := NoFindings()
	const activeEntry = "SELECT 1 FROM afe_host_queue_entries q WHERE q.host_id = h.id AND q.active = 1"
	rebuilt := scheduler.NewRecorder(nil)
	hosts := map[scheduler.HostID]hostLease{}
	err := lab.Read(ctx, func(r *sqldb.Reader) {
		own := store.ReadOwnership(r, scope)
		findings(r, scope.Shard, &f.Overlapping, "SELECT h.id, h.hostname, h.status, q.id, q.job_id FROM afe_host_queue_entries q JOIN afe_hosts h ON h.id = q.host_id WHERE q.active = 1 AND q.host_id IN (SELECT host_id FROM afe_host_queue_entries WHERE active = 1 AND host_id IS NOT NULL GROUP BY host_id HAVING COUNT(*) > 1)"+own.Hosts+" ORDER BY h.id, q.id",
			"has several active entries")
		findings(r, scope.Shard, &f.Unheld, "SELECT h.id, h.hostname, h.status, NULL, NULL FROM afe_hosts h WHERE h.leased = 1 AND (h.locked = 1 OR (h.status IS NOT NULL AND h.status <> 'Ready')) AND NOT EXISTS ("+activeEntry+") AND h.id NOT IN "+store.BusyHosts+own.Hosts+" ORDER BY h.id",
			"is leased, but no entry and no special task uses it")
		findings(r, scope.Shard, &f.Unleased, "SELECT h.id, h.hostname, h.status, q.id, q.job_id FROM afe_host_queue_entries q JOIN afe_hosts h ON h.id = q.host_id WHERE q.active = 1 AND h.leased = 0"+own.Hosts+" ORDER BY h.id, q.id",
			"has an active entry, but no lease")
		f.Stranded = append(f.Stranded, readStranded(r, scope, own)...)
		for _, w := range readWaiting(r, scope) {
			f.NotServed = append(f.NotServed, Finding{Shard: w.Name, Text: w.String()})
		}
		if recorder == nil {
			return
		}
		rebuilt = store.ReadRecorder(r, own)
		r.Rows("SELECT id, hostname, leased FROM afe_hosts h WHERE 1=1"+own.Hosts, func(v sqldb.Row) {
			leased := v.Int(2)
			hosts[scheduler.HostID(v.Int(0).N)] = hostLease{v.Text(1), leased.Flag()}
		})
	})
	if err != nil {
		return f, sqldb.Explain(err, "inspect the lab", lab.Target())
	}
	lost, err := lab.lost(ctx, scope.Shard)
	if err != nil {
		return f, err
	}
	f.Lost = append(f.Lost, lost...)
	contradictions, err := lab.Contradictions(ctx, scope.Shard)
	if err != nil {
		return f, err
	}
	for _, text := range contradictions {
		f.Fence = append(f.Fence, Finding{Shard: scope.Shard, Text: "the rows of the shard in hostsched_fence contradict each other: " + text + "; run 'hostsched fence adopt " + scope.Shard.String() + "'"})
	}
	if recorder != nil {
		for _, d := range recorder.Drift(rebuilt, func(h scheduler.HostID) bool { return hosts[h].leased }) {
			f.Drift = append(f.Drift, Finding{Shard: scope.Shard, Host: d.Host, Hostname: hosts[d.Host].hostname, Text: fmt.Sprintf("the recorder counts it for suite %d, the database for suite %d", d.Kept, d.Rebuilt)})
		}
	}
	return f, nil
}

type hostLease struct {
	hostname string
	leased   bool
}

func findings(r *sqldb.Reader, name shard.Name, out *[]Finding, query, text string) {
	r.Rows(query, func(v sqldb.Row) {
		entry := v.Int(3)
		f := Finding{Shard: name, Host: scheduler.HostID(v.Int(0).N), Hostname: v.Text(1), Entry: scheduler.EntryID(entry.N), Job: scheduler.JobID(v.Int(4).N), Text: text}
		if !entry.Valid {
			f.Text += " (status " + v.Text(2) + ")"
		}
		*out = append(*out, f)
	})
}
