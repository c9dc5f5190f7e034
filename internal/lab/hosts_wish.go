package lab

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

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

// collectDrops adds the links that go, by table.
func (e *edit) collectDrops(drops map[string][]string) {
	for _, id := range e.dropLabels {
		drops["afe_hosts_labels"] = append(drops["afe_hosts_labels"], fmt.Sprintf("host_id = %d AND label_id = %d", e.host.ID, id))
	}
	for _, id := range e.dropGroups {
		drops["afe_acl_groups_hosts"] = append(drops["afe_acl_groups_hosts"], fmt.Sprintf("host_id = %d AND aclgroup_id = %d", e.host.ID, id))
	}
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
