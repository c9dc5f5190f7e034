package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// anyVersion is the If-Match of who does not care what was there.
const anyVersion = "*"

// lockRows locks hosts until the change ends and returns what they are now.
func (l *Lab) lockRows(ctx context.Context, tx *sql.Tx, ids []int64) ([]hostState, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	in := sqldb.List(ids)
	if err := sqldb.EachID(ctx, tx, "SELECT id FROM afe_hosts WHERE id IN "+in+" ORDER BY id"+l.db.Dialect.ForUpdate, func(int64) {}); err != nil {
		return nil, err
	}
	shards, err := l.shardNames(ctx, tx)
	if err != nil {
		return nil, err
	}
	r := &txReader{ctx: ctx, tx: tx}
	rows := l.hostRows(r, "h.id IN "+in+" ORDER BY h.id", nil, shards)
	return rows, r.err
}

// lockHost locks one host, of a version.
func (l *Lab) lockHost(ctx context.Context, tx *sql.Tx, hostname, version string) (hostState, error) {
	r := &txReader{ctx: ctx, tx: tx}
	ids := hostNames.find(r, []string{hostname})
	if r.err != nil || len(ids) == 0 {
		return hostState{}, orNoHost(r.err, hostname)
	}
	rows, err := l.lockRows(ctx, tx, []int64{ids[hostname]})
	if err != nil || len(rows) == 0 {
		return hostState{}, orNoHost(err, hostname)
	}
	if version != anyVersion && version != rows[0].version() {
		return hostState{}, fmt.Errorf("%w: host %s is now at version %s; read it again and repeat the change", ErrStale, hostname, rows[0].version())
	}
	return rows[0], nil
}

func orNoHost(err error, hostname string) error {
	if err != nil {
		return err
	}
	return noHost(hostname)
}

// relation is how a user is related to a host: by an ACL group, or by a hold that is the user's.
type relation struct{ group, lock, drain bool }

// related tells how a user is related to hosts. A host that is in no ACL group counts as being
// in Everyone, where every user is.
func (l *Lab) related(ctx context.Context, tx sqldb.Querier, login string, hosts []int64) (map[int64]relation, error) {
	out := map[int64]relation{}
	if len(hosts) == 0 {
		return out, nil
	}
	is := func(condition string) string { return "CASE WHEN " + condition + " THEN 1 ELSE 0 END" }
	query := "SELECT h.id, " + is("NOT EXISTS (SELECT 1 FROM afe_acl_groups_hosts g WHERE g.host_id = h.id)"+
		" OR EXISTS (SELECT 1 FROM afe_acl_groups_hosts g JOIN afe_acl_groups_users m ON m.aclgroup_id = g.aclgroup_id WHERE g.host_id = h.id AND m.user_id = u.id)") +
		", " + is("h.locked_by_id = u.id") + ", " + is("d.drain_since IS NOT NULL AND d.drain_by = "+l.db.Dialect.OwnText("u.login")) +
		" FROM afe_users u JOIN afe_hosts h ON h.id IN " + sqldb.List(hosts) + " LEFT JOIN hostsched_hosts d ON d.host_id = h.id WHERE u.login = ?"
	err := sqldb.EachRow(ctx, tx, query, []any{login}, func(scan sqldb.Scanner) error {
		var id int64
		var has relation
		err := scan(&id, &has.group, &has.lock, &has.drain)
		out[id] = has
		return err
	})
	return out, err
}

// mayChange refuses who may not change a host.
func (l *Lab) mayChange(ctx context.Context, tx sqldb.Querier, who access.Caller, host int64) error {
	related, err := l.related(ctx, tx, who.Login, []int64{host})
	if err != nil {
		return err
	}
	return access.ChangingHosts.Check(who, related[host].group)
}

// wish is what somebody wants a host to be; nil is what they do not care for.
type wish struct {
	labels, groups *[]string
	protection     *int
	attributes     map[string]string
	// all attributes that are not wished for go.
	exactly bool
}

// edit is what a wish changes of a host.
type edit struct {
	host                  *hostState
	addLabels, dropLabels []int64
	addGroups, dropGroups []int64
	protection            *int
	set                   map[string]string
	unset                 []string
	changes               []string
}

// refs are the ids of the names in wishes.
type refs struct {
	labels, groups map[string]int64
	// static are the names that the lab's inventory keeps, and replaced the ids of labels
	// that count as static ones only.
	static   map[string]int64
	replaced map[int64]bool
	everyone int64
}

// fixed tells whether a label is the inventory's to change.
func (r *refs) fixed(label string) bool {
	id := r.labels[label]
	return r.replaced[id] || id == 0 && r.static[label] != 0
}

// compare finds what a wish changes.
func (w *wish) compare(h *hostState, ids *refs) edit {
	e := edit{host: h}
	if w.labels != nil {
		e.addLabels, e.dropLabels = e.compareNames("label", slices.DeleteFunc(slices.Clone(*w.labels), ids.fixed), h.Labels[:len(h.labelIDs)], h.labelIDs, ids.labels)
	}
	if w.groups != nil {
		// A host in another group is not in Everyone, and one in no other is.
		wanted := slices.DeleteFunc(slices.Clone(*w.groups), func(name string) bool { return ids.everyone != 0 && ids.groups[name] == ids.everyone })
		if len(wanted) == 0 {
			wanted = []string{Everyone}
		}
		e.addGroups, e.dropGroups = e.compareNames("ACL group", wanted, h.ACLGroups, h.groupIDs, ids.groups)
	}
	if w.protection != nil && protectionName(int64(*w.protection)) != h.Protection {
		e.protection = w.protection
		e.changes = append(e.changes, "protection "+protections[*w.protection])
	}
	e.compareAttributes(w)
	return e
}

// compareNames finds which of the wanted are not there, and which of those that are there are
// not wanted. ids has no entry for a name that is yet to be made: it counts as 0.
func (e *edit) compareNames(what string, wanted, have []string, haveIDs []int64, ids map[string]int64) (add, drop []int64) {
	want := map[int64]bool{}
	for _, name := range wanted {
		id := ids[name]
		if want[id] && id != 0 {
			continue
		}
		want[id] = true
		if id == 0 || !slices.Contains(haveIDs, id) {
			add = append(add, id)
			e.changes = append(e.changes, what+" +"+name)
		}
	}
	for i, id := range haveIDs {
		if !want[id] {
			drop = append(drop, id)
			e.changes = append(e.changes, what+" -"+have[i])
		}
	}
	return add, drop
}

func (e *edit) compareAttributes(w *wish) {
	for _, key := range slices.Sorted(maps.Keys(w.attributes)) {
		value := w.attributes[key]
		have, there := e.host.Attributes[key]
		switch {
		case value == "" && there:
			e.unset = append(e.unset, key)
			e.changes = append(e.changes, "attribute -"+key)
		case value != "" && have != value:
			if e.set == nil {
				e.set = map[string]string{}
			}
			e.set[key] = value
			e.changes = append(e.changes, "attribute "+key+"="+value)
		}
	}
	if !w.exactly {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(e.host.Attributes)) {
		if _, wanted := w.attributes[key]; !wanted {
			e.unset = append(e.unset, key)
			e.changes = append(e.changes, "attribute -"+key)
		}
	}
}

// write makes the edits of many hosts, a few statements for all.
func (l *Lab) write(ctx context.Context, tx *sql.Tx, who access.Caller, edits []edit, kind string) error {
	var labels, groups, attributes [][]any
	var events []Event
	drops := map[string][]string{}
	byProtection := map[int][]int64{}
	for i := range edits {
		e := &edits[i]
		id := e.host.ID
		for _, label := range e.addLabels {
			labels = append(labels, []any{id, label})
		}
		for _, group := range e.addGroups {
			groups = append(groups, []any{group, id})
		}
		for key, value := range e.set {
			attributes = append(attributes, []any{id, key, value})
		}
		if e.protection != nil {
			byProtection[*e.protection] = append(byProtection[*e.protection], id)
		}
		e.collectDrops(drops)
		events = append(events, Event{Kind: kind, Shard: e.host.Shard, Host: id, Who: who.Login, Subject: e.host.Hostname, Reason: strings.Join(e.changes, "; ")})
	}
	for _, table := range slices.Sorted(maps.Keys(drops)) {
		if err := deleteLinks(ctx, tx, table, drops[table]); err != nil {
			return err
		}
	}
	if err := l.dropAttributes(ctx, tx, edits); err != nil {
		return err
	}
	for p, ids := range byProtection {
		if _, err := tx.ExecContext(ctx, "UPDATE afe_hosts"+l.db.Dialect.ByKey+" SET protection = ? WHERE id IN "+sqldb.List(ids), p); err != nil {
			return err
		}
	}
	ignore := l.db.Dialect.InsertIgnore
	if err := insert(ctx, tx, ignore, "afe_hosts_labels (host_id, label_id)", "(?, ?)", labels); err != nil {
		return err
	}
	if err := insert(ctx, tx, ignore, "afe_acl_groups_hosts (aclgroup_id, host_id)", "(?, ?)", groups); err != nil {
		return err
	}
	if err := insert(ctx, tx, "INSERT INTO", "afe_host_attributes (host_id, attribute, value)", "(?, ?, ?)", attributes); err != nil {
		return err
	}
	if err := l.onePlatform(ctx, tx, sqldb.IDsOf(edits, func(e edit) int64 { return e.host.ID })); err != nil {
		return err
	}
	return l.note(ctx, tx, events...)
}

// collectDrops adds the links that go, by table.
func (e *edit) collectDrops(drops map[string][]string) {
	for _, id := range e.dropLabels {
		drops["afe_hosts_labels"] = append(drops["afe_hosts_labels"], fmt.Sprintf("host_id = %d AND label_id = %d", e.host.ID, id))
	}
	for _, id := range e.dropGroups {
		drops["afe_acl_groups_hosts"] = append(drops["afe_acl_groups_hosts"], fmt.Sprintf("host_id = %d AND aclgroup_id = %d", e.host.ID, id))
	}
}

// deleteLinks deletes rows. SQLite nests an expression no deeper than a thousand levels.
func deleteLinks(ctx context.Context, tx *sql.Tx, table string, rows []string) error {
	for part := range slices.Chunk(rows, chunkRows) {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE "+strings.Join(part, " OR ")); err != nil {
			return err
		}
	}
	return nil
}

// dropAttributes deletes the attributes that go, and those that get another value.
func (l *Lab) dropAttributes(ctx context.Context, tx *sql.Tx, edits []edit) error {
	byKey := map[string][]int64{}
	for i := range edits {
		e := &edits[i]
		for key := range e.set {
			byKey[key] = append(byKey[key], e.host.ID)
		}
		for _, key := range e.unset {
			byKey[key] = append(byKey[key], e.host.ID)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		if _, err := tx.ExecContext(ctx, "DELETE FROM afe_host_attributes WHERE attribute = ? AND host_id IN "+sqldb.List(byKey[key]), key); err != nil {
			return err
		}
	}
	return nil
}

// onePlatform refuses hosts with two labels that are platforms, as Autotest's frontend does.
func (l *Lab) onePlatform(ctx context.Context, tx *sql.Tx, hosts []int64) error {
	if len(hosts) == 0 {
		return nil
	}
	var name string
	err := tx.QueryRowContext(ctx, "SELECT h.hostname FROM afe_hosts h JOIN afe_hosts_labels x ON x.host_id = h.id JOIN afe_labels l ON l.id = x.label_id WHERE l.platform = 1 AND l.invalid = 0 AND h.id IN "+
		sqldb.List(hosts)+" GROUP BY h.id, h.hostname HAVING COUNT(*) > 1 ORDER BY h.id LIMIT 1").Scan(&name)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%w: host %s would have two platform labels; remove the one that it has", ErrConflict, name)
	}
	return err
}

// PatchHost changes what a patch names, if the host is still at a version, and returns it.
func (l *Lab) PatchHost(ctx context.Context, who access.Caller, hostname, version string, p labapi.HostPatch) (labapi.Host, string, error) {
	w, err := wishOfPatch(p)
	if err != nil {
		return labapi.Host{}, "", err
	}
	err = l.change(ctx, "change host "+hostname, func(tx *sql.Tx) error {
		h, err := l.lockHost(ctx, tx, hostname, version)
		if err != nil {
			return err
		}
		if err := l.mayChange(ctx, tx, who, h.ID); err != nil {
			return err
		}
		if p.ACLGroups != nil {
			if err := access.Operating.Check(who, false); err != nil {
				return err
			}
		}
		wanted := w
		if p.Labels == nil && len(p.AddLabels)+len(p.RemoveLabels) > 0 {
			if wanted.labels, err = l.adjusted(ctx, tx, &h, p); err != nil {
				return err
			}
		}
		ids, err := l.refsOf(ctx, tx, who, []wish{wanted}, true)
		if err != nil {
			return err
		}
		if err := l.keepStatic(p, ids); err != nil {
			return err
		}
		e := wanted.compare(&h, ids)
		if len(e.changes) == 0 {
			return nil
		}
		return l.write(ctx, tx, who, []edit{e}, "host.changed")
	})
	if err != nil {
		return labapi.Host{}, "", err
	}
	return l.Host(ctx, hostname)
}

// adjusted are the labels of a host with some more and some less.
func (l *Lab) adjusted(ctx context.Context, tx *sql.Tx, h *hostState, p labapi.HostPatch) (*[]string, error) {
	r := &txReader{ctx: ctx, tx: tx}
	gone := labelNames.find(r, p.RemoveLabels)
	dropped := map[int64]bool{}
	for _, id := range gone {
		dropped[id] = true
	}
	out := slices.Clone(p.AddLabels)
	for i, id := range h.labelIDs {
		if !dropped[id] {
			out = append(out, h.Labels[i])
		}
	}
	return &out, r.err
}

// keepStatic refuses to add or remove labels that the lab's inventory keeps.
func (l *Lab) keepStatic(p labapi.HostPatch, ids *refs) error {
	for _, name := range slices.Concat(p.AddLabels, p.RemoveLabels) {
		if ids.fixed(name) {
			return fmt.Errorf("%w: label %q is a static one; change it in the lab's inventory", ErrConflict, shortened(name))
		}
	}
	return nil
}

func wishOfPatch(p labapi.HostPatch) (w wish, err error) {
	if p.Labels != nil && len(p.AddLabels)+len(p.RemoveLabels) > 0 {
		return w, fmt.Errorf("%w: labels says all of them; leave add_labels and remove_labels out", ErrInput)
	}
	w = wish{labels: p.Labels, groups: p.ACLGroups, attributes: p.Attributes}
	if p.Protection != nil {
		n, err := parseProtection(*p.Protection)
		if err != nil {
			return w, err
		}
		w.protection = &n
	}
	if err := w.check(); err != nil {
		return w, err
	}
	for _, name := range slices.Concat(p.AddLabels, p.RemoveLabels) {
		if err := checkName("a label", name, maxName); err != nil {
			return w, err
		}
	}
	return w, nil
}

// check refuses names and texts that make no sense.
func (w *wish) check() error {
	if w.labels != nil {
		for _, name := range *w.labels {
			if err := checkName("a label", name, maxName); err != nil {
				return err
			}
		}
	}
	if w.groups != nil {
		for _, name := range *w.groups {
			if err := checkName("an ACL group", name, maxName); err != nil {
				return err
			}
		}
	}
	for key, value := range w.attributes {
		if err := checkName("an attribute", key, maxAttribute); err != nil {
			return err
		}
		if err := checkText("attribute "+key, value, maxValue); err != nil {
			return err
		}
	}
	return nil
}

// refsOf looks up the labels and ACL groups of wishes, and makes the labels that there are
// not yet.
func (l *Lab) refsOf(ctx context.Context, tx *sql.Tx, who access.Caller, wishes []wish, create bool) (*refs, error) {
	var labels, groups []string
	for i := range wishes {
		if wishes[i].labels != nil {
			labels = append(labels, *wishes[i].labels...)
		}
		if wishes[i].groups != nil {
			groups = append(groups, *wishes[i].groups...)
		}
	}
	labels, groups = distinctNames(labels), distinctNames(append(groups, Everyone))
	r := &txReader{ctx: ctx, tx: tx}
	ids := &refs{labels: labelNames.find(r, labels), groups: groupNames.find(r, groups), replaced: map[int64]bool{}}
	if l.static() {
		ids.static = staticNames.find(r, labels)
		r.RowsOf("SELECT label_id FROM afe_replaced_labels", nil, func(v sqldb.Row) { ids.replaced[v.Int(0).N] = true })
	}
	if r.err != nil {
		return nil, r.err
	}
	for _, name := range groups {
		if _, ok := ids.groups[name]; !ok && name != Everyone {
			return nil, fmt.Errorf("%w: there is no ACL group %q; make it first", ErrInput, shortened(name))
		}
	}
	ids.everyone = ids.groups[Everyone]
	if !create {
		return ids, nil
	}
	if ids.everyone == 0 {
		id, err := l.ensureEveryone(ctx, tx)
		if err != nil {
			return nil, err
		}
		ids.groups[Everyone], ids.everyone = id, id
	}
	missing := slices.DeleteFunc(labels, func(name string) bool { return ids.labels[name] != 0 || ids.fixed(name) })
	return ids, l.makeLabels(ctx, tx, who, missing, ids.labels)
}

// makeLabels enters labels. One that was removed earlier comes back without hosts.
func (l *Lab) makeLabels(ctx context.Context, tx *sql.Tx, who access.Caller, names []string, ids map[string]int64) error {
	if len(names) == 0 {
		return nil
	}
	var rows [][]any
	var events []Event
	for _, name := range names {
		rows = append(rows, []any{name})
		events = append(events, Event{Kind: "label.added", Who: who.Login, Subject: name})
	}
	for part := range slices.Chunk(names, chunkRows) {
		if _, err := tx.ExecContext(ctx, "UPDATE afe_labels SET invalid = 0 WHERE invalid <> 0 AND name IN ("+marks(len(part))+")", texts(part)...); err != nil {
			return err
		}
	}
	if err := insert(ctx, tx, l.db.Dialect.InsertIgnore, "afe_labels (name, kernel_config, platform, invalid, only_if_needed)", "(?, '', 0, 0, 0)", rows); err != nil {
		return err
	}
	r := &txReader{ctx: ctx, tx: tx}
	maps.Copy(ids, labelNames.find(r, names))
	if r.err != nil {
		return r.err
	}
	for _, name := range names {
		if ids[name] == 0 {
			return fmt.Errorf("%w: the database cannot keep label %q as it is written", ErrInput, shortened(name))
		}
	}
	return l.note(ctx, tx, events...)
}

func distinctNames(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}
