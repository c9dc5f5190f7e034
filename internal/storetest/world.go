package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/hostsched/hostsched/internal/simlab"
)

// World is a scenario's database and the names of its rows.
type World struct {
	db *sql.DB

	users, acls, labels, statics, shards, hosts map[string]int64
	hostname                                    map[int64]string
	login                                       map[int64]string
	hostRows                                    map[string]Host
	jobRows                                     map[int64]Job
	entries                                     map[int64]HQE
}

// NewWorld fills an empty database with a scenario's input.
func NewWorld(ctx context.Context, db *sql.DB, input Rows) (*World, error) {
	w := &World{
		db:    db,
		users: map[string]int64{}, acls: map[string]int64{}, labels: map[string]int64{}, statics: map[string]int64{},
		shards: map[string]int64{}, hosts: map[string]int64{}, hostname: map[int64]string{}, login: map[int64]string{},
		hostRows: map[string]Host{}, jobRows: map[int64]Job{}, entries: map[int64]HQE{},
	}
	return w, w.add(ctx, input)
}

// ref looks a name up in one of the world's maps.
func ref(m map[string]int64, name string, errs *[]error) any {
	id, ok := m[name]
	if !ok {
		*errs = append(*errs, fmt.Errorf("the scenario refers to %q, which it does not define", name))
	}
	return id
}

func refOrNull(m map[string]int64, name *string, errs *[]error) any {
	if name == nil {
		return nil
	}
	return ref(m, *name, errs)
}

// add inserts rows.
func (w *World) add(ctx context.Context, rows Rows) error {
	tables := w.tables(rows)
	if err := errors.Join(tables.errs...); err != nil {
		return err
	}
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, t := range tables.order {
		if err := simlab.Insert(ctx, tx, t.name, t.columns, t.rows); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

type table struct {
	name, columns string
	rows          [][]any
}

type tables struct {
	order []table
	errs  []error
}

func (t *tables) put(name, columns string, rows [][]any) {
	t.order = append(t.order, table{name, columns, rows})
}

func (w *World) tables(rows Rows) *tables {
	t := &tables{}
	w.people(rows, t)
	w.labelRows(rows, t)
	w.hostTables(rows, t)
	w.jobTables(rows, t)
	w.taskRows(rows, t)
	return t
}

func (w *World) people(rows Rows, t *tables) {
	var users, acls, members [][]any
	for _, u := range rows.Users {
		w.users[u.Login], w.login[u.ID] = u.ID, u.Login
		users = append(users, []any{u.ID, u.Login, 0, 0})
	}
	for _, a := range rows.ACLGroups {
		w.acls[a.Name] = a.ID
		acls = append(acls, []any{a.ID, a.Name})
		for _, login := range a.Users {
			members = append(members, []any{a.ID, ref(w.users, login, &t.errs)})
		}
	}
	t.put("afe_users", simlab.UserColumns, users)
	t.put("afe_acl_groups", "id, name", acls)
	t.put("afe_acl_groups_users", "aclgroup_id, user_id", members)
}

func (w *World) labelRows(rows Rows, t *tables) {
	var labels, statics, replaced, shards, shardLabels [][]any
	for _, l := range rows.Labels {
		w.labels[l.Name] = l.ID
		labels = append(labels, []any{l.ID, l.Name, l.Invalid, false, l.Platform})
	}
	for _, l := range rows.StaticLabels {
		w.statics[l.Name] = l.ID
		statics = append(statics, []any{l.ID, l.Name, l.Invalid, false, l.Platform})
	}
	for _, name := range rows.ReplacedLabels {
		replaced = append(replaced, []any{ref(w.labels, name, &t.errs)})
	}
	for _, s := range rows.Shards {
		w.shards[s.Hostname] = s.ID
		shards = append(shards, []any{s.ID, s.Hostname})
		for _, l := range s.Labels {
			shardLabels = append(shardLabels, []any{s.ID, ref(w.labels, l, &t.errs)})
		}
	}
	t.put("afe_labels", simlab.LabelColumns, labels)
	t.put("afe_static_labels", simlab.LabelColumns, statics)
	t.put("afe_replaced_labels", "label_id", replaced)
	t.put("afe_shards", "id, hostname", shards)
	t.put("afe_shards_labels", "shard_id, label_id", shardLabels)
}

var protections = []string{"No protection", "Repair software only", "Repair filesystem only", "Do not repair", "Do not verify"}

var reboots = []string{"Never", "If dirty", "Always"}

func (w *World) hostTables(rows Rows, t *tables) {
	var hosts, links, statics, acls [][]any
	for _, h := range rows.Hosts {
		w.hosts[h.Hostname], w.hostname[h.ID], w.hostRows[h.Hostname] = h.ID, h.Hostname, h
		hosts = append(hosts, []any{h.ID, h.Hostname, h.Status, h.Locked, h.Invalid, h.Leased, h.Dirty,
			slices.Index(protections, h.Protection), refOrNull(w.shards, h.Shard, &t.errs)})
		for _, l := range h.Labels {
			links = append(links, []any{h.ID, ref(w.labels, l, &t.errs)})
		}
		for _, l := range h.StaticLabels {
			statics = append(statics, []any{h.ID, ref(w.statics, l, &t.errs)})
		}
		for _, a := range h.ACLs {
			acls = append(acls, []any{h.ID, ref(w.acls, a, &t.errs)})
		}
	}
	t.put("afe_hosts", simlab.HostColumns, hosts)
	t.put("afe_hosts_labels", "host_id, label_id", links)
	t.put("afe_static_hosts_labels", "host_id, staticlabel_id", statics)
	t.put("afe_acl_groups_hosts", "host_id, aclgroup_id", acls)
}

const createdOn = "2019-04-03 12:00:00"

func (w *World) jobTables(rows Rows, t *tables) {
	var jobs, deps, keyvals, entries [][]any
	for _, j := range rows.Jobs {
		w.jobRows[j.ID] = j
		jobs = append(jobs, append([]any{j.ID, j.Owner, j.Name, j.Priority, j.Parent, j.SynchCount, j.RunVerify, j.RunReset,
			slices.Index(reboots, j.RebootBefore), refOrNull(w.shards, j.Shard, &t.errs)}, simlab.JobTail(createdOn)...))
		for _, l := range j.Dependencies {
			deps = append(deps, []any{j.ID, ref(w.labels, l, &t.errs)})
		}
		for k, v := range j.Keyvals {
			keyvals = append(keyvals, []any{j.ID, k, v})
		}
	}
	for _, q := range rows.HQEs {
		w.entries[q.ID] = q
		entries = append(entries, []any{q.ID, q.Job, refOrNull(w.hosts, q.Host, &t.errs), refOrNull(w.labels, q.MetaHost, &t.errs),
			q.Status, q.Active, q.Complete, q.Aborted, false, ""})
	}
	t.put("afe_jobs", simlab.JobColumns, jobs)
	t.put("afe_jobs_dependency_labels", "job_id, label_id", deps)
	t.put("afe_job_keyvals", "job_id, `key`, value", keyvals)
	t.put("afe_host_queue_entries", simlab.EntryColumns, entries)
}

func (w *World) taskRows(rows Rows, t *tables) {
	var tasks [][]any
	for _, task := range rows.SpecialTasks {
		tasks = append(tasks, []any{ref(w.hosts, task.Host, &t.errs), task.Task, task.HQE,
			ref(w.users, task.RequestedBy, &t.errs), task.IsActive, task.IsComplete, createdOn})
	}
	t.put("afe_special_tasks", simlab.TaskColumns, tasks)
}

// Do carries out a step other than tick and restart.
func (w *World) Do(ctx context.Context, s Step) error {
	switch s.Op {
	case "add":
		return w.add(ctx, s.Rows)
	case "finish_hqe":
		return w.each(s.EntryIDs, func(id int64) []statement {
			return []statement{
				{"UPDATE afe_host_queue_entries SET status = ?, active = 0, complete = 1 WHERE id = ?", []any{s.Status, id}},
				{"UPDATE afe_special_tasks SET is_active = 0, is_complete = 1 WHERE queue_entry_id = ?", []any{id}},
				{hostOfEntry, []any{s.HostStatus, id}},
			}
		}).run(ctx, w.db)
	case "requeue_hqe":
		return w.each(s.EntryIDs, func(id int64) []statement {
			return []statement{
				{"UPDATE afe_special_tasks SET is_active = 0, is_complete = 1 WHERE queue_entry_id = ?", []any{id}},
				{hostOfEntry, []any{s.HostStatus, id}},
				{"DELETE FROM afe_ineligible_host_queues WHERE EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.id = ? AND q.meta_host IS NOT NULL AND q.host_id = afe_ineligible_host_queues.host_id AND q.job_id = afe_ineligible_host_queues.job_id)", []any{id}},
				{"UPDATE afe_host_queue_entries SET status = 'Queued', active = 0, complete = 0, host_id = CASE WHEN meta_host IS NULL THEN host_id END WHERE id = ?", []any{id}},
			}
		}).run(ctx, w.db)
	case "abort_hqe":
		return w.each(s.EntryIDs, func(id int64) []statement {
			return []statement{{"UPDATE afe_host_queue_entries SET aborted = 1 WHERE id = ?", []any{id}}}
		}).run(ctx, w.db)
	case "set_hqe":
		return w.set("afe_host_queue_entries", "id", s.HQE, s.Set).run(ctx, w.db)
	case "set_host":
		return w.set("afe_hosts", "hostname", s.Host, s.Set).run(ctx, w.db)
	case "finish_task":
		return script{{"UPDATE afe_special_tasks SET is_active = 0, is_complete = 1 WHERE is_complete = 0 AND host_id = ? AND task = ?", []any{w.hosts[s.Host], s.Task}}}.run(ctx, w.db)
	}
	return fmt.Errorf("unknown step %q", s.Op)
}

const hostOfEntry = "UPDATE afe_hosts SET status = ? WHERE id = (SELECT q.host_id FROM afe_host_queue_entries q WHERE q.id = ?)"

type statement struct {
	text string
	args []any
}

type script []statement

func (w *World) each(ids []int64, statements func(id int64) []statement) script {
	var s script
	for _, id := range ids {
		s = append(s, statements(id)...)
	}
	return s
}

// set makes a plain column update. Names in it stand for ids.
func (w *World) set(table, key string, id any, set map[string]any) script {
	var s script
	for column, value := range set {
		name, isName := value.(string)
		switch column {
		case "host":
			column, value = "host_id", nullable(w.hosts, name, isName)
		case "meta_host":
			value = nullable(w.labels, name, isName)
		case "shard":
			column, value = "shard_id", nullable(w.shards, name, isName)
		case "protection":
			value = slices.Index(protections, name)
		}
		s = append(s, statement{"UPDATE " + table + " SET " + column + " = ? WHERE " + key + " = ?", []any{value, id}})
	}
	return s
}

func nullable(m map[string]int64, name string, isName bool) any {
	if !isName {
		return nil
	}
	return m[name]
}

func (s script) run(ctx context.Context, db *sql.DB) error {
	for _, st := range s {
		if _, err := db.ExecContext(ctx, st.text, st.args...); err != nil {
			return fmt.Errorf("%w, in: %s", err, st.text)
		}
	}
	return nil
}
