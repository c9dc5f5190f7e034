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
	if err := l.lockHosts(ctx, tx, ids); err != nil {
		return nil, err
	}
	shards, err := l.shardNames(ctx, tx)
	if err != nil {
		return nil, err
	}
	r := &txReader{ctx: ctx, tx: tx}
	rows := l.hostRows(r, "h.id IN "+sqldb.List(ids)+" ORDER BY h.id", nil, shards)
	return rows, r.err
}

// lockHosts locks hosts until the change ends.
func (l *Lab) lockHosts(ctx context.Context, tx *sql.Tx, ids []int64) error {
	return sqldb.EachID(ctx, tx, "SELECT id FROM afe_hosts WHERE id IN "+sqldb.List(ids)+" ORDER BY id"+l.db.Dialect.ForUpdate, func(int64) {})
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
