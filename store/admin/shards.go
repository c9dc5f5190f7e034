package admin

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Shard is a shard as the database knows it.
type Shard struct {
	// ID is the row of afe_shards, 0 for the master.
	ID   shard.ID   `json:"id"`
	Name shard.Name `json:"shard"`
	// NotServed says why no replica can lead it, empty if one can.
	NotServed string `json:"not_served,omitempty"`
	// Paused is why nothing is scheduled in it, as the fences of this database say; empty if it
	// is scheduled.
	Paused string `json:"paused,omitempty"`
	// Labels are the names of the labels it owns.
	Labels []string `json:"labels"`
	// DSN is the shard's own database, empty if it shares this one.
	DSN string `json:"dsn,omitempty"`
	// Hosts are the hosts that belong to it in this database; InUse of them are
	// leased.
	Hosts int `json:"hosts"`
	InUse int `json:"in_use"`
}

// Shards lists the master and every row of afe_shards, by name, the master
// first.
func (lab *Lab) Shards(ctx context.Context) ([]Shard, error) {
	byID := map[shard.ID]*Shard{shard.MasterID: {Name: shard.Master, Labels: []string{}}}
	err := lab.Read(ctx, func(r *sqldb.Reader) {
		paused := map[shard.Name]string{}
		r.Rows("SELECT shard, pause_reason FROM hostsched_fence WHERE pause_reason <> ''", func(v sqldb.Row) {
			paused[shard.Name(v.Text(0))] = v.Text(1)
		})
		layout := store.ReadLayout(r, true)
		for id, name := range layout.Names {
			byID[id] = &Shard{ID: id, Name: name, NotServed: layout.Unserved[id], Labels: []string{}}
		}
		for _, s := range byID {
			s.Paused = paused[s.Name]
		}
		r.Rows("SELECT s.shard_id, l.name FROM afe_shards_labels s JOIN afe_labels l ON l.id = s.label_id ORDER BY l.name", func(v sqldb.Row) {
			if s := byID[shard.ID(v.Int(0).N)]; s != nil {
				s.Labels = append(s.Labels, v.Text(1))
			}
		})
		r.Rows("SELECT shard_id, dsn FROM hostsched_shard_databases", func(v sqldb.Row) {
			if s := byID[shard.ID(v.Int(0).N)]; s != nil {
				s.DSN = v.Text(1)
			}
		})
		r.Rows("SELECT COALESCE(shard_id, 0), COUNT(*), SUM(CASE WHEN leased <> 0 THEN 1 ELSE 0 END) FROM afe_hosts GROUP BY COALESCE(shard_id, 0)", func(v sqldb.Row) {
			s := byID[shard.ID(v.Int(0).N)]
			if s == nil {
				s = byID[shard.MasterID]
			}
			s.Hosts, s.InUse = s.Hosts+int(v.Int(1).N), s.InUse+int(v.Int(2).N)
		})
	})
	if err != nil {
		return nil, sqldb.Explain(err, "list the shards", lab.Target())
	}
	out := make([]Shard, 0, len(byID))
	for _, s := range byID {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Shard) int {
		if first := cmp.Compare(min(a.ID, 1), min(b.ID, 1)); first != 0 {
			return first
		}
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// ShardDatabases returns the names of all shards that can be served, the master
// included, and for those that have a database of their own its DSN; and the rows
// that cannot be served. It reads little, because every replica asks several times
// a second.
func (lab *Lab) ShardDatabases(ctx context.Context) (served map[shard.Name]string, unserved []Unserved, err error) {
	rows, err := store.ShardRows(ctx, lab.Pool, lab.Dialect)
	if err != nil {
		return nil, nil, sqldb.Explain(err, "list the shards", lab.Target())
	}
	dsns := map[shard.ID]string{}
	err = sqldb.EachRow(ctx, lab.Pool, "SELECT shard_id, dsn FROM hostsched_shard_databases", nil, func(scan sqldb.Scanner) error {
		var id shard.ID
		var dsn string
		err := scan(&id, &dsn)
		dsns[id] = dsn
		return err
	})
	served = map[shard.Name]string{shard.Master: ""}
	reasons := shard.Unserved(rows)
	for _, r := range rows {
		if why, not := reasons[r.ID]; not {
			unserved = append(unserved, Unserved{r.ID, r.Name, why})
			continue
		}
		served[r.Name] = dsns[r.ID]
	}
	return served, unserved, sqldb.Explain(err, "list the databases of shards", lab.Target())
}

// RequireShard makes sure that a shard exists: the master, or a row of afe_shards. Whoever
// has the whole database under a name that nobody gave would lead it beside its leader.
func (lab *Lab) RequireShard(ctx context.Context, name shard.Name) error {
	if name.IsMaster() {
		return nil
	}
	rows, err := store.ShardRows(ctx, lab.Pool, lab.Dialect)
	if err != nil {
		return sqldb.Explain(err, "list the shards", lab.Target())
	}
	if _, ok := shard.Served(rows, name); ok {
		return nil
	}
	all := []string{shard.Master.String()}
	unserved := shard.Unserved(rows)
	for _, r := range rows {
		if unserved[r.ID] == "" {
			all = append(all, r.Name.String())
		}
	}
	slices.Sort(all)
	return fmt.Errorf("%w: %s, which the setting 'shard' names, is not in afe_shards of %s; there are %s; correct the setting, or leave it out to serve all of them", store.ErrNoShard, name, lab.Target(), strings.Join(all, ", "))
}

// Named returns the shard that the database takes a name for: a row of afe_shards, or the
// master.
func (lab *Lab) Named(ctx context.Context, name shard.Name) (id shard.ID, found bool, err error) {
	err = lab.Read(ctx, func(r *sqldb.Reader) {
		if row, ok := store.RowsNamed(r, "afe_shards", "hostname", "", []string{name.String()})[name.String()]; ok {
			id, found = shard.ID(row), true
			return
		}
		r.RowsOf("SELECT CASE WHEN "+lab.Dialect.OwnText("?")+" = '"+shard.Master.String()+"' THEN 1 ELSE 0 END", []any{name.String()}, func(v sqldb.Row) {
			id, found = shard.MasterID, v.Int(0).N != 0
		})
	})
	return id, found, sqldb.Explain(err, "look for shard "+name.String(), lab.Target())
}

// AddShard adds a row to afe_shards. dsn is the shard's own database, empty if
// it shares this one.
func (lab *Lab) AddShard(ctx context.Context, name shard.Name, dsn, who, reason string) error {
	if name.IsMaster() {
		return fmt.Errorf("%w: %s is the shard of everything that no other owns; it is always there", ErrInput, name)
	}
	if err := cmp.Or(fits("the DSN", dsn, shard.MaxDSN), FitsAudit(who, name.String(), reason)); err != nil {
		return err
	}
	return lab.change(ctx, "add shard "+name.String(), nil, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "INSERT INTO afe_shards (hostname) VALUES (?)", name.String())
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		// The database says of the row that is there now whether the name is taken.
		rows, err := store.ShardRows(ctx, tx, lab.Dialect)
		if err != nil {
			return err
		}
		if why := shard.Unserved(rows)[shard.ID(id)]; why != "" {
			return fmt.Errorf("%w: shard %s exists already, or could not be served: %s", ErrInput, name, why)
		}
		if dsn != "" {
			if _, err := tx.ExecContext(ctx, "INSERT INTO hostsched_shard_databases (shard_id, dsn) VALUES (?, ?)", id, dsn); err != nil {
				return err
			}
		}
		return lab.auditShard(ctx, tx, who, actionAdd, name, strings.TrimSpace(dsn+" "+reason))
	})
}

// LabelNames lists the names of all labels.
func (lab *Lab) LabelNames(ctx context.Context) (names []string, err error) {
	err = sqldb.EachRow(ctx, lab.Pool, "SELECT name FROM afe_labels ORDER BY name", nil, func(scan sqldb.Scanner) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	})
	return names, sqldb.Explain(err, "list the labels", lab.Target())
}

// AssignLabel gives a label, and with it every host that carries it, to a shard
// (or back to the master), in one transaction under the fences of both shards.
// Plans that were made before are refused. The hosts follow tick by tick, those
// in use when they are released; until then they are their shard's.
func (lab *Lab) AssignLabel(ctx context.Context, label string, to shard.Name, who, reason string) (from shard.Name, err error) {
	for {
		source, target, err := lab.ends(ctx, lab.Pool, label, to)
		if err != nil || source.ID == target.ID {
			return source.Name, err
		}
		err = lab.change(ctx, "assign label "+label, fences(source, target), func(tx *sql.Tx) error {
			return lab.moveLabel(ctx, tx, label, source, to, who, reason)
		})
		// Somebody else moved the label first: the fence of its new owner is
		// another one. Each repetition means that another move has succeeded.
		if !errors.Is(err, errOwnerChanged) {
			return source.Name, err
		}
	}
}

// errOwnerChanged means that a label belongs to another shard than the one whose
// fence is locked.
var errOwnerChanged = errors.New("the label changed hands")

// fences are the shards whose fences a change needs: nobody leads what is not served.
func fences(shards ...Shard) (names []shard.Name) {
	for _, s := range shards {
		if s.NotServed == "" {
			names = append(names, s.Name)
		}
	}
	return names
}

// ends returns the shard that a label belongs to, and the one that it should go to.
func (lab *Lab) ends(ctx context.Context, q sqldb.Querier, label string, to shard.Name) (source, target Shard, err error) {
	rows, err := store.ShardRows(ctx, q, lab.Dialect)
	if err != nil {
		return source, target, sqldb.Explain(err, "list the shards", lab.Target())
	}
	source, target = Shard{Name: shard.Master}, Shard{Name: to}
	if !to.IsMaster() {
		var ok bool
		if target.ID, ok = shard.Served(rows, to); !ok {
			return source, target, noShard(to)
		}
	}
	var owner sql.NullInt64
	err = q.QueryRowContext(ctx, "SELECT s.shard_id FROM afe_labels l LEFT JOIN afe_shards_labels s ON s.label_id = l.id WHERE l.name = ?", label).Scan(&owner)
	if errors.Is(err, sql.ErrNoRows) {
		return source, target, fmt.Errorf("%w: there is no label %q", ErrInput, label)
	}
	for _, r := range rows {
		if owner.Valid && r.ID == shard.ID(owner.Int64) {
			source = Shard{ID: r.ID, Name: r.Name, NotServed: shard.Unserved(rows)[r.ID]}
		}
	}
	return source, target, sqldb.Explain(err, "look for label "+label, lab.Target())
}

func noShard(name shard.Name) error {
	return fmt.Errorf("%w: no row of afe_shards is served as %s; see 'hostsched shard list'", store.ErrNoShard, name)
}

// moveLabel changes the owner of a label, under the fences of both shards, if it
// still belongs to from.
func (lab *Lab) moveLabel(ctx context.Context, tx *sql.Tx, label string, from Shard, to shard.Name, who, reason string) error {
	source, target, err := lab.ends(ctx, tx, label, to)
	if err == nil && source.ID != from.ID {
		err = errOwnerChanged
	}
	if err != nil {
		return err
	}
	for _, s := range []Shard{source, target} {
		if err := lab.requireSharing(ctx, tx, s); err != nil {
			return err
		}
	}
	var id int64
	if err := tx.QueryRowContext(ctx, "SELECT id FROM afe_labels WHERE name = ?", label).Scan(&id); err != nil {
		return err
	}
	err = lab.runAll(ctx, tx, []step{
		{name: "take", text: "DELETE FROM afe_shards_labels WHERE label_id = ?", args: []any{id}},
		{name: "forget", text: "DELETE FROM hostsched_released_labels WHERE label_id = ?", args: []any{id}},
		{name: "give", skip: target.ID == shard.MasterID, text: "INSERT INTO afe_shards_labels (label_id, shard_id) VALUES (?, ?)", args: []any{id, int64(target.ID)}},
		{name: "release", skip: target.ID != shard.MasterID, text: "INSERT INTO hostsched_released_labels (label_id, shard_id) VALUES (?, ?)", args: []any{id, int64(source.ID)}},
	})
	if err != nil {
		return err
	}
	if err := lab.audit(ctx, tx, who, "shard assign-label", label, fmt.Sprintf("from %s to %s: %s", source.Name, to, reason)); err != nil {
		return err
	}
	return lab.reached("audit")
}

// requireSharing refuses a shard that has a database of its own: labels move only
// inside a database, because hosts and entries are rows.
func (lab *Lab) requireSharing(ctx context.Context, tx *sql.Tx, s Shard) error {
	var own int
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM hostsched_shard_databases WHERE shard_id = ?", int64(s.ID)).Scan(&own)
	if err == nil && own > 0 {
		return fmt.Errorf("%w: shard %s has a database of its own; its hosts, labels and entries are entered there", ErrInput, s.Name)
	}
	return err
}
