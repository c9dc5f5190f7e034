package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// maxEntries bounds the queue entries of one submission.
const maxEntries = 50_000

// batch is what is submitted together, with the rows that it refers to.
type batch struct {
	who access.Caller
	// owner has id 0 if there is no such user.
	owner struct {
		id    int64
		login string
	}
	// own is true if the owner is who submits.
	own     bool
	cloneOf int64
	trace   string
	jobs    []newJob
	// missing are labels that there are no rows of, by their names.
	missing []string
	// newSuite is the suite that the jobs come with, if it is only tried.
	newSuite *labapi.SuiteInput
}

// newJob is a job that is about to be submitted.
type newJob struct {
	spec   *labapi.JobSpec
	labels []int64
	// required are those of the labels that a host must carry.
	required []int64
	entries  []newEntry
	// never says why no host can ever run the job, as far as no plan is needed to know;
	// scarce that there are fewer hosts than wanted, so that a plan should say why.
	never  string
	scarce bool
}

// placeable tells whether the planner has anything to say of a job.
func (j *newJob) placeable() bool { return len(j.entries) > 0 && j.never == "" }

// newEntry is a queue entry to be: for a host, or for any that has the labels.
type newEntry struct {
	host, meta int64
	shard      shard.Name
}

// labelRow and hostRow are what a submission needs of a label and a host.
type labelRow struct {
	id       int64
	required bool
	shardID  shard.ID
}

type hostRow struct {
	id      int64
	shardID shard.ID
}

// lookup finds the rows that specs refer to, by their names.
type lookup struct {
	l      *Lab
	r      *sqldb.Reader
	layout shard.Layout
	labels map[string]labelRow
	hosts  map[string]hostRow
	// enough are the answers of matches, by request.
	enough map[string]int
}

// prepare finds out what specs refer to, and which of them no host can ever run.
func (l *Lab) prepare(ctx context.Context, who access.Caller, owner string, specs []labapi.JobSpec) (*batch, error) {
	b := &batch{who: who, jobs: make([]newJob, len(specs))}
	n := 0
	for i := range specs {
		n += jobspec.Entries(&specs[i])
	}
	if n > maxEntries {
		return nil, fmt.Errorf("%w: the jobs ask for %d hosts; at most %d can be asked for at once", ErrInput, n, maxEntries)
	}
	err := l.db.Read(ctx, func(r *sqldb.Reader) { l.find(r, b, owner, specs) })
	return b, l.explain(err, "look up what jobs ask for")
}

func (l *Lab) find(r *sqldb.Reader, b *batch, owner string, specs []labapi.JobSpec) {
	b.owner.login = owner
	users := store.RowsNamed(r, "afe_users", "login", "", []string{owner, b.who.Login})
	b.own = owner == b.who.Login || users[owner] != 0 && users[owner] == users[b.who.Login]
	if id := users[owner]; id != 0 {
		b.owner.id = id
		r.RowsOf("SELECT login FROM afe_users WHERE id = ?", []any{id}, func(v sqldb.Row) { b.owner.login = v.Text(0) })
	}
	k := &lookup{l: l, r: r, enough: map[string]int{}}
	if l.scope.Shared {
		k.layout = store.ReadLayout(r, true)
	}
	k.findLabels(specs)
	k.findHosts(specs)
	missing := map[string]bool{}
	for i := range specs {
		b.jobs[i] = k.newJob(b, &specs[i], missing)
	}
	for name := range missing {
		b.missing = append(b.missing, name)
	}
	slices.Sort(b.missing)
}

func (k *lookup) findLabels(specs []labapi.JobSpec) {
	names := distinct(specs, func(s *labapi.JobSpec) []string { return s.Labels })
	ids := store.RowsNamed(k.r, "afe_labels", "name", " AND invalid = 0", names)
	k.labels = make(map[string]labelRow, len(ids))
	kept := map[int64]string{}
	for chunk := range slices.Chunk(values(ids), sqldb.MaxListed) {
		k.r.Rows("SELECT id, name FROM afe_labels WHERE id IN "+sqldb.List(chunk), func(v sqldb.Row) { kept[v.Int(0).N] = v.Text(1) })
	}
	for name, id := range ids {
		k.labels[name] = labelRow{id: id, required: k.l.scope.Rules.Actions.Required(kept[id]), shardID: k.layout.OfLabel(id)}
	}
}

// findHosts looks up by exact names first: afe_hosts has no index on them, and a scan for
// each name of thousands would take long.
func (k *lookup) findHosts(specs []labapi.JobSpec) {
	names := distinct(specs, func(s *labapi.JobSpec) []string { return s.Hosts })
	k.hosts = make(map[string]hostRow, len(names))
	if len(names) == 0 {
		return
	}
	all := map[int64]shard.ID{}
	k.r.Rows("SELECT id, hostname, shard_id FROM afe_hosts WHERE invalid = 0 ORDER BY id DESC", func(v sqldb.Row) {
		all[v.Int(0).N] = shard.ID(v.Int(2).N)
		if _, wanted := slices.BinarySearch(names, v.Text(1)); wanted {
			k.hosts[v.Text(1)] = hostRow{v.Int(0).N, shard.ID(v.Int(2).N)}
		}
	})
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, found := k.hosts[name]; return found })
	// Whoever names that many hosts which there are not has the wrong list.
	for name, id := range store.RowsNamed(k.r, "afe_hosts", "hostname", " AND invalid = 0", rest[:min(len(rest), maxOddNames)]) {
		k.hosts[name] = hostRow{id, all[id]}
	}
}

// maxOddNames bounds the names that are compared by the database, one after the other.
const maxOddNames = 100

func (k *lookup) newJob(b *batch, spec *labapi.JobSpec, missing map[string]bool) newJob {
	j := newJob{spec: spec}
	meta := k.sortLabels(&j, spec, missing)
	for _, name := range spec.Hosts {
		h, found := k.hosts[name]
		if !found {
			j.never = fmt.Sprintf("there is no host %q", name)
			return j
		}
		j.entries = append(j.entries, newEntry{host: h.id, shard: k.shardName(k.layout.OfHost(h.shardID))})
	}
	for len(j.entries) < jobspec.Entries(spec) {
		j.entries = append(j.entries, newEntry{meta: meta.id, shard: k.shardName(meta.shardID)})
	}
	switch {
	case j.never != "":
	case spec.Synch > len(j.entries):
		j.never = fmt.Sprintf("%d hosts should run together, but only %d are asked for", spec.Synch, len(j.entries))
	case k.l.scope.Rules.RespectStaticLabels && len(j.required) > 0:
		j.scarce = true // only the planner knows which labels count as static ones
	default:
		j.scarce = k.matches(b, &j, meta.shardID) < len(j.entries)
	}
	return j
}

// sortLabels fills in the labels of a job, and returns the one by which a shard finds its
// entries: one that belongs to a shard, or else the first.
func (k *lookup) sortLabels(j *newJob, spec *labapi.JobSpec, missing map[string]bool) (meta labelRow) {
	for _, name := range spec.Labels {
		row, found := k.labels[name]
		if !found {
			missing[name] = true
			if j.never == "" {
				j.never = fmt.Sprintf("needs %s: there is no such label", name)
			}
			continue
		}
		if slices.Contains(j.labels, row.id) {
			continue
		}
		j.labels = append(j.labels, row.id)
		if row.required {
			j.required = append(j.required, row.id)
		}
		if meta.id == 0 || meta.shardID == shard.MasterID && row.shardID != shard.MasterID {
			meta = row
		}
	}
	return meta
}

func (k *lookup) shardName(id shard.ID) shard.Name {
	if !k.l.scope.Shared {
		return k.l.scope.Shard
	}
	return k.layout.Name(id)
}

// matches counts the hosts that could run a job, up to as many as it wants. Requests that are
// the same are counted once.
func (k *lookup) matches(b *batch, j *newJob, owner shard.ID) int {
	hosts := ""
	wanted := len(j.entries)
	if len(j.spec.Hosts) > 0 {
		ids := sqldb.IDsOf(j.entries, func(e newEntry) int64 { return e.host })
		slices.Sort(ids)
		if len(slices.Compact(slices.Clone(ids))) < len(ids) {
			j.never = "a host is named twice"
		}
		hosts = " AND h.id IN " + sqldb.List(ids)
	}
	sorted := slices.Sorted(slices.Values(j.required))
	key := fmt.Sprint(sorted, hosts, owner)
	if n, known := k.enough[key]; known && n >= wanted {
		return n
	} else if known && n < 0 {
		return -n - 1 // as many as there are
	}
	n := 0
	where := hosts + carries(sorted) + k.reachable(owner, hosts != "")
	k.r.RowsOf("SELECT COUNT(*) FROM (SELECT h.id FROM afe_hosts h WHERE h.invalid = 0"+where+
		" AND EXISTS (SELECT 1 FROM afe_acl_groups_hosts g JOIN afe_acl_groups_users u ON u.aclgroup_id = g.aclgroup_id WHERE g.host_id = h.id AND u.user_id = ?) LIMIT ?) x",
		[]any{b.owner.id, int64(wanted)}, func(v sqldb.Row) { n = int(v.Int(0).N) })
	k.enough[key] = n
	if n < wanted {
		k.enough[key] = -n - 1
	}
	return n
}

// carries is the condition that a host h carries all these labels.
func carries(labels []int64) string {
	var b strings.Builder
	for _, id := range labels {
		fmt.Fprintf(&b, " AND EXISTS (SELECT 1 FROM afe_hosts_labels x WHERE x.host_id = h.id AND x.label_id = %d)", id)
	}
	return b.String()
}

// reachable is the condition that the shard of an entry has a host h, or will have it as soon
// as nobody uses it (shard.Layout.Home).
func (k *lookup) reachable(owner shard.ID, named bool) string {
	if !k.l.scope.Shared {
		if named && k.l.scope.Shard.IsMaster() {
			return " AND h.shard_id IS NULL"
		}
		return ""
	}
	if named || len(k.layout.Names) == 0 {
		return ""
	}
	const claim = "EXISTS (SELECT 1 FROM afe_hosts_labels c JOIN afe_shards_labels s ON s.label_id = c.label_id WHERE c.host_id = h.id"
	if owner == shard.MasterID {
		return " AND (h.shard_id IS NULL OR h.shard_id NOT IN (SELECT id FROM afe_shards)) AND NOT " + claim + ")"
	}
	return fmt.Sprintf(" AND (h.shard_id = %d OR %s AND s.shard_id = %d) AND NOT %s AND s.shard_id = h.shard_id))", owner, claim, owner, claim)
}

// distinct are the texts of all specs, sorted, each once.
func distinct(specs []labapi.JobSpec, of func(*labapi.JobSpec) []string) (all []string) {
	for i := range specs {
		all = append(all, of(&specs[i])...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func values(ids map[string]int64) (all []int64) {
	for _, id := range ids {
		all = append(all, id)
	}
	return all
}
