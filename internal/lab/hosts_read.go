package lab

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/selector"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// HostFilter says which hosts are wanted; what is empty does not matter. All that is not
// must hold.
type HostFilter struct {
	// Labels must all be carried, and Selector must hold.
	Labels   []string
	Selector selector.Selector
	Status   string
	// State is held, broken, running or idle, as pools count hosts.
	State string
	ACL   string
	// HeldBy is who locked or drains the host.
	HeldBy string
	// UsedBy is whose job or reservation has the host.
	UsedBy string
	Locked *bool
	// Text is part of the hostname.
	Text string
}

// hostState is a host with the ids of what it refers to.
type hostState struct {
	labapi.Host
	labelIDs, groupIDs []int64
	lockedBy, shardID  int64
}

// version is what changes whenever people change anything of a host.
func (h *hostState) version() string {
	return versionOf([]any{h.ID, h.Hostname, h.Labels, h.StaticLabels, h.ACLGroups, h.Protection, h.Attributes, h.Locked, h.Lock, h.Drain, h.Bad})
}

// versionOf is the ETag of values.
func versionOf(values any) string {
	// Texts, numbers and times always have a form in JSON.
	text, _ := json.Marshal(values)
	sum := sha256.Sum256(text)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// page cuts a list that was read with one row too many, and tells where the next begins.
func page[T any](rows []T, limit int, id func(T) int64) labapi.Page[T] {
	if len(rows) <= limit {
		return labapi.Page[T]{Items: rows}
	}
	rows = rows[:limit]
	return labapi.Page[T]{Items: rows, After: Cursor(id(rows[limit-1]))}
}

// Hosts lists hosts in the order of their ids.
func (l *Lab) Hosts(ctx context.Context, filter HostFilter, after string, limit int) (labapi.Page[labapi.Host], error) {
	from, err := ParseCursor(after)
	if err != nil {
		return labapi.Page[labapi.Host]{}, err
	}
	shards, err := l.shardNames(ctx, l.db.Pool)
	if err != nil {
		return labapi.Page[labapi.Host]{}, err
	}
	condition, args := l.matching(filter)
	var rows []hostState
	err = l.read(ctx, "list the hosts", func(r *sqldb.Reader) {
		rows = l.hostRows(r, "h.id > ?"+condition+" ORDER BY h.id LIMIT ?", append(append([]any{from}, args...), int64(limit)+1), shards)
	})
	hosts := make([]labapi.Host, len(rows))
	for i := range rows {
		hosts[i] = rows[i].Host
	}
	return page(hosts, limit, func(h labapi.Host) int64 { return h.ID }), err
}

// Host returns a host with its version.
func (l *Lab) Host(ctx context.Context, hostname string) (labapi.Host, string, error) {
	shards, err := l.shardNames(ctx, l.db.Pool)
	if err != nil {
		return labapi.Host{}, "", err
	}
	var rows []hostState
	err = l.read(ctx, "read host "+hostname, func(r *sqldb.Reader) {
		rows = l.hostRows(r, "h.hostname = ? ORDER BY h.id LIMIT 1", []any{hostname}, shards)
	})
	if err == nil && len(rows) == 0 {
		err = noHost(hostname)
	}
	if err != nil {
		return labapi.Host{}, "", err
	}
	return rows[0].Host, rows[0].version(), nil
}

func noHost(hostname string) error {
	return fmt.Errorf("%w: there is no host %q; 'hostsched host list' shows all", ErrNotFound, shortened(hostname))
}

// shardNames returns what the shard of a host is called, given its shard_id column.
func (l *Lab) shardNames(ctx context.Context, q sqldb.Querier) (func(id int64) string, error) {
	if !l.scope.Shared {
		return func(int64) string { return l.scope.Shard.String() }, nil
	}
	rows, err := store.ShardRows(ctx, q, l.db.Dialect)
	names := make(map[int64]string, len(rows))
	for _, r := range rows {
		names[int64(r.ID)] = r.Name.String()
	}
	return func(id int64) string {
		if name, ok := names[id]; ok {
			return name
		}
		return shard.Master.String()
	}, l.explain(err, "read the shards")
}

// ShardNames lists the shards that the lab has, the master first.
func (l *Lab) ShardNames(ctx context.Context) ([]string, error) {
	if !l.scope.Shared {
		return []string{l.scope.Shard.String()}, nil
	}
	rows, err := store.ShardRows(ctx, l.db.Pool, l.db.Dialect)
	names := []string{shard.Master.String()}
	for _, r := range rows {
		names = append(names, r.Name.String())
	}
	return names, l.explain(err, "read the shards")
}

// matching is a filter as a condition on afe_hosts h.
func (l *Lab) matching(f HostFilter) (condition string, args []any) {
	add := func(text string, values ...any) { condition, args = condition+" AND "+text, append(args, values...) }
	for _, label := range f.Labels {
		text, values := l.carries("l.name = ?", label)
		add(text, values...)
	}
	for _, term := range f.Selector {
		text, values := termOf(term, l.carries)
		add(text, values...)
	}
	if f.Status != "" {
		add("COALESCE(h.status, 'Ready') = ?", f.Status)
	}
	if f.State != "" {
		add(stateOfHost+" = ?", f.State)
	}
	if f.ACL != "" {
		add("h.id IN (SELECT g.host_id FROM afe_acl_groups_hosts g JOIN afe_acl_groups a ON a.id = g.aclgroup_id WHERE a.name = ?)", f.ACL)
	}
	if f.UsedBy != "" {
		add("EXISTS (SELECT 1 FROM afe_host_queue_entries x JOIN afe_jobs j ON j.id = x.job_id WHERE x.host_id = h.id AND x.active = 1 AND x.complete = 0 AND j.owner = ?)", f.UsedBy)
	}
	if f.HeldBy != "" {
		add("(h.locked = 1 AND u.login = ? OR d.drain_since IS NOT NULL AND d.drain_by = ?)", f.HeldBy, f.HeldBy)
	}
	if f.Locked != nil {
		add("h.locked = ?", boolNumber(*f.Locked))
	}
	if f.Text != "" {
		add("h.hostname LIKE ? ESCAPE '!'", "%"+likeText.Replace(f.Text)+"%")
	}
	return condition, args
}

// likeText makes a text stand for itself in LIKE.
var likeText = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

func boolNumber(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// notReplaced leaves out labels l that count as static ones only.
const notReplaced = " AND NOT EXISTS (SELECT 1 FROM afe_replaced_labels r WHERE r.label_id = l.id)"

func (l *Lab) static() bool { return l.scope.Rules.RespectStaticLabels }

// carries is a condition on afe_hosts h: it carries a label l for which a condition holds.
func (l *Lab) carries(label string, args ...any) (condition string, values []any) {
	text := "h.id IN (SELECT x.host_id FROM afe_hosts_labels x JOIN afe_labels l ON l.id = x.label_id WHERE l.invalid = 0 AND " + label
	if !l.static() {
		return text + ")", args
	}
	return "(" + text + notReplaced + ") OR h.id IN (SELECT x.host_id FROM afe_static_hosts_labels x JOIN afe_static_labels l ON l.id = x.staticlabel_id WHERE l.invalid = 0 AND " + label + "))", append(slices.Clone(args), args...)
}

// termOf is a term of a selector as a condition. carries is one on what has labels l for which
// a condition holds.
func termOf(t selector.Term, carries func(label string, args ...any) (string, []any)) (condition string, args []any) {
	label, values := "(l.name = ? OR l.name LIKE ? ESCAPE '!')", []any{t.Key, likeText.Replace(t.Key) + ":%"}
	if len(t.Names) > 0 {
		label, values = "l.name IN (?"+strings.Repeat(", ?", len(t.Names)-1)+")", nil
		for _, name := range t.Names {
			values = append(values, name)
		}
	}
	condition, args = carries(label, values...)
	if t.Not {
		condition = "NOT (" + condition + ")"
	}
	return condition, args
}

const hostColumns = "SELECT h.id, h.hostname, COALESCE(h.status, 'Ready'), h.shard_id, h.protection, h.leased, h.locked, h.lock_reason, %s, h.locked_by_id, u.login, CASE WHEN " + store.SameLock +
	" THEN d.lock_until END, d.drain_since, d.drain_by, d.drain_reason, d.drain_deadline, d.drain_abort, b.bad_since, b.bad_reason FROM " + hostsHeld + " AND "

// hostsHeld are all hosts with who locks them and what else holds them.
const hostsHeld = "afe_hosts h LEFT JOIN afe_users u ON u.id = h.locked_by_id LEFT JOIN hostsched_hosts d ON d.host_id = h.id LEFT JOIN hostsched_host_epochs b ON b.host_id = h.id WHERE h.invalid = 0"

// hostRows reads hosts with all that is theirs.
func (l *Lab) hostRows(r reader, condition string, args []any, shards func(int64) string) []hostState {
	rows := []hostState{}
	r.RowsOf(fmt.Sprintf(hostColumns, l.db.Dialect.Unix("h.lock_time"))+condition, args, func(v sqldb.Row) {
		leased, locked := v.Int(5), v.Int(6)
		h := hostState{shardID: v.Int(3).N, lockedBy: v.Int(9).N, Host: labapi.Host{
			ID: v.Int(0).N, Hostname: v.Text(1), Status: v.Text(2), Shard: shards(v.Int(3).N), Protection: protectionName(v.Int(4).N),
			Leased: leased.Flag(), Locked: locked.Flag(), Labels: []string{}, ACLGroups: []string{},
		}}
		if h.Locked {
			h.Lock = &labapi.Lock{Reason: v.Text(7), By: v.Text(10), Since: secondsOf(v.Int(8)), Until: millisOf(v.Int(11))}
		}
		if since := v.Int(12); since.Valid {
			abort := v.Int(16)
			h.Drain = &labapi.Drain{By: v.Text(13), Reason: v.Text(14), Since: millisOf(since), Deadline: millisOf(v.Int(15)), Abort: abort.N != 0}
		}
		if since := v.Int(17); since.Valid {
			h.Bad = &labapi.Bad{Reason: v.Text(18), Since: millisOf(since)}
		}
		rows = append(rows, h)
	})
	for from := 0; from < len(rows); from += hostsAtOnce {
		l.addLinks(r, rows[from:min(from+hostsAtOnce, len(rows))])
	}
	return rows
}

// hostsAtOnce is of how many hosts one query reads what is theirs: a list of so many ids is
// still looked up by index.
const hostsAtOnce = 1000

// secondsOf and millisOf are times since 1970, nil if there are none.
func secondsOf(n sqldb.Integer) *time.Time {
	return millis(sql.NullInt64{Int64: n.N * 1000, Valid: n.Valid})
}

func millisOf(n sqldb.Integer) *time.Time { return millis(sql.NullInt64{Int64: n.N, Valid: n.Valid}) }

// addLinks reads the labels, ACL groups, attributes and entries of hosts.
func (l *Lab) addLinks(r reader, rows []hostState) {
	byID := make(map[int64]*hostState, len(rows))
	for i := range rows {
		byID[rows[i].ID] = &rows[i]
	}
	in := sqldb.List(sqldb.IDsOf(rows, func(h hostState) int64 { return h.ID }))
	names := sqldb.Interned{}
	each := func(query string, add func(*hostState, sqldb.Row)) {
		r.RowsOf(query, nil, func(v sqldb.Row) {
			if h := byID[v.Int(0).N]; h != nil {
				add(h, v)
			}
		})
	}
	l.addLabels(r, each, rows, in)
	each("SELECT x.host_id, g.id, g.name FROM afe_acl_groups_hosts x JOIN afe_acl_groups g ON g.id = x.aclgroup_id WHERE x.host_id IN "+in+" ORDER BY g.name", func(h *hostState, v sqldb.Row) {
		h.ACLGroups, h.groupIDs = append(h.ACLGroups, names.Text(v, 2)), append(h.groupIDs, v.Int(1).N)
	})
	each("SELECT host_id, attribute, value FROM afe_host_attributes WHERE host_id IN "+in, func(h *hostState, v sqldb.Row) {
		if h.Attributes == nil {
			h.Attributes = map[string]string{}
		}
		h.Attributes[v.Text(1)] = v.Text(2)
	})
	each("SELECT q.host_id, q.id, q.job_id, o.until, COALESCE(j.owner, ''), COALESCE(j.name, '') FROM afe_host_queue_entries q LEFT JOIN hostsched_own_jobs o ON o.job_id = q.job_id AND o.until IS NOT NULL"+
		" LEFT JOIN afe_jobs j ON j.id = o.job_id WHERE q.active = 1 AND q.host_id IN "+in, func(h *hostState, v sqldb.Row) {
		h.Entry = &labapi.HostEntry{ID: v.Int(1).N, Job: v.Int(2).N}
		if until := v.Int(3); until.Valid {
			h.Reservation = &labapi.Reservation{By: v.Text(4), Reason: v.Text(5), Until: millisOf(until)}
		}
	})
}

// addLabels reads the labels of hosts. A lab has far fewer labels than hosts carry: each name
// is read once.
func (l *Lab) addLabels(r reader, each func(string, func(*hostState, sqldb.Row)), rows []hostState, in string) {
	known, wanted := map[int64]bool{}, []int64(nil)
	each("SELECT host_id, label_id FROM afe_hosts_labels WHERE host_id IN "+in, func(h *hostState, v sqldb.Row) {
		id := v.Int(1).N
		if !known[id] {
			known[id] = true
			wanted = append(wanted, id)
		}
		h.labelIDs = append(h.labelIDs, id)
	})
	valid := map[int64]string{}
	replaced := ""
	if l.static() {
		replaced = notReplaced
	}
	for part := range slices.Chunk(wanted, hostsAtOnce) {
		r.RowsOf("SELECT l.id, l.name FROM afe_labels l WHERE l.invalid = 0"+replaced+" AND l.id IN "+sqldb.List(part), nil, func(v sqldb.Row) { valid[v.Int(0).N] = v.Text(1) })
	}
	for i := range rows {
		h := &rows[i]
		h.labelIDs = slices.DeleteFunc(h.labelIDs, func(id int64) bool { _, ok := valid[id]; return !ok })
		slices.SortFunc(h.labelIDs, func(a, b int64) int { return cmp.Compare(valid[a], valid[b]) })
		for _, id := range h.labelIDs {
			h.Labels = append(h.Labels, valid[id])
		}
	}
	if !l.static() {
		return
	}
	each("SELECT x.host_id, l.name FROM afe_static_hosts_labels x JOIN afe_static_labels l ON l.id = x.staticlabel_id WHERE l.invalid = 0 AND x.host_id IN "+in+" ORDER BY l.name", func(h *hostState, v sqldb.Row) {
		h.Labels, h.StaticLabels = append(h.Labels, v.Text(1)), append(h.StaticLabels, v.Text(1))
	})
}
