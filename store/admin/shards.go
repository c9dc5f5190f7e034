package admin

import (
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
		layout := store.ReadLayout(r, true)
		for id, name := range layout.Names {
			byID[id] = &Shard{ID: id, Name: name, Labels: []string{}}
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
		if a.Name.IsMaster() != b.Name.IsMaster() {
			return map[bool]int{true: -1, false: 1}[a.Name.IsMaster()]
		}
		return strings.Compare(a.Name.String(), b.Name.String())
	})
	return out, nil
}

// ShardDatabases returns the names of all shards, the master included, and for
// those that have a database of their own its DSN. It reads little, because
// every replica asks several times a second.
func (lab *Lab) ShardDatabases(ctx context.Context) (map[shard.Name]string, error) {
	out := map[shard.Name]string{shard.Master: ""}
	err := sqldb.EachRow(ctx, lab.Pool, "SELECT s.hostname, d.dsn FROM afe_shards s LEFT JOIN hostsched_shard_databases d ON d.shard_id = s.id", nil, func(scan sqldb.Scanner) error {
		var name, dsn sql.NullString
		err := scan(&name, &dsn)
		out[shard.Name(name.String)] = dsn.String
		return err
	})
	return out, sqldb.Explain(err, "list the shards", lab.Target())
}

// RequireShard makes sure that a shard exists: the master, or a row of afe_shards. Whoever
// has the whole database under a name that nobody gave would lead it beside its leader.
func (lab *Lab) RequireShard(ctx context.Context, name shard.Name) error {
	if name.IsMaster() {
		return nil
	}
	all := []string{shard.Master.String()}
	err := sqldb.EachRow(ctx, lab.Pool, "SELECT hostname FROM afe_shards", nil, func(scan sqldb.Scanner) error {
		var there sql.NullString
		err := scan(&there)
		all = append(all, there.String)
		return err
	})
	if err != nil {
		return sqldb.Explain(err, "list the shards", lab.Target())
	}
	if slices.Contains(all, name.String()) {
		return nil
	}
	slices.Sort(all)
	return fmt.Errorf("%w: %s, which the setting 'shard' names, is not in afe_shards of %s; there are %s; correct the setting, or leave it out to serve all of them", store.ErrNoShard, name, lab.Target(), strings.Join(all, ", "))
}

// AddShard adds a row to afe_shards. dsn is the shard's own database, empty if
// it shares this one.
func (lab *Lab) AddShard(ctx context.Context, name shard.Name, dsn, who, reason string) error {
	if name.IsMaster() {
		return fmt.Errorf("%w: %s is the shard of everything that no other owns; it is always there", ErrInput, name)
	}
	return lab.change(ctx, "add shard "+name.String(), nil, func(tx *sql.Tx) error {
		var id int64
		err := tx.QueryRowContext(ctx, "SELECT id FROM afe_shards WHERE hostname = ?", name.String()).Scan(&id)
		if err == nil {
			return fmt.Errorf("%w: shard %s exists already", ErrInput, name)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		res, err := tx.ExecContext(ctx, "INSERT INTO afe_shards (hostname) VALUES (?)", name.String())
		if err != nil {
			return err
		}
		if id, err = res.LastInsertId(); err != nil {
			return err
		}
		if dsn != "" {
			if _, err := tx.ExecContext(ctx, "INSERT INTO hostsched_shard_databases (shard_id, dsn) VALUES (?, ?)", id, dsn); err != nil {
				return err
			}
		}
		return lab.audit(ctx, tx, who, "shard add", name.String(), strings.TrimSpace(dsn+" "+reason))
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
		from, err = lab.labelOwner(ctx, lab.Pool, label)
		if err != nil || from == to {
			return from, err
		}
		err = lab.change(ctx, "assign label "+label, []shard.Name{from, to}, func(tx *sql.Tx) error {
			return lab.moveLabel(ctx, tx, label, from, to, who, reason)
		})
		// Somebody else moved the label first: the fence of its new owner is
		// another one. Each repetition means that another move has succeeded.
		if !errors.Is(err, errOwnerChanged) {
			return from, err
		}
	}
}

// errOwnerChanged means that a label belongs to another shard than the one whose
// fence is locked.
var errOwnerChanged = errors.New("the label changed hands")

func (lab *Lab) labelOwner(ctx context.Context, q sqldb.Querier, label string) (shard.Name, error) {
	var owner sql.NullString
	err := q.QueryRowContext(ctx, "SELECT n.hostname FROM afe_labels l LEFT JOIN afe_shards_labels s ON s.label_id = l.id LEFT JOIN afe_shards n ON n.id = s.shard_id WHERE l.name = ?", label).Scan(&owner)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("%w: there is no label %q", ErrInput, label)
	}
	if !owner.Valid {
		return shard.Master, sqldb.Explain(err, "look for label "+label, lab.Target())
	}
	return shard.Name(owner.String), sqldb.Explain(err, "look for label "+label, lab.Target())
}

// moveLabel changes the owner of a label, under the fences of both shards, if it
// still belongs to from.
func (lab *Lab) moveLabel(ctx context.Context, tx *sql.Tx, label string, from, to shard.Name, who, reason string) error {
	owner, err := lab.labelOwner(ctx, tx, label)
	if err == nil && owner != from {
		err = errOwnerChanged
	}
	if err != nil {
		return err
	}
	source, err := lab.sharingShard(ctx, tx, from)
	if err != nil {
		return err
	}
	target, err := lab.sharingShard(ctx, tx, to)
	if err != nil {
		return err
	}
	var id int64
	if err := tx.QueryRowContext(ctx, "SELECT id FROM afe_labels WHERE name = ?", label).Scan(&id); err != nil {
		return err
	}
	for _, s := range []step{
		{name: "take", text: "DELETE FROM afe_shards_labels WHERE label_id = ?", args: []any{id}},
		{name: "forget", text: "DELETE FROM hostsched_released_labels WHERE label_id = ?", args: []any{id}},
		{name: "give", skip: target == shard.MasterID, text: "INSERT INTO afe_shards_labels (label_id, shard_id) VALUES (?, ?)", args: []any{id, int64(target)}},
		{name: "release", skip: target != shard.MasterID, text: "INSERT INTO hostsched_released_labels (label_id, shard_id) VALUES (?, ?)", args: []any{id, int64(source)}},
	} {
		if err := lab.run(ctx, tx, s); err != nil {
			return err
		}
	}
	if err := lab.audit(ctx, tx, who, "shard assign-label", label, fmt.Sprintf("from %s to %s: %s", from, to, reason)); err != nil {
		return err
	}
	return lab.reached("audit")
}

// sharingShard returns the id of a shard that has no database of its own: only
// between those can labels move, because hosts and entries are rows.
func (lab *Lab) sharingShard(ctx context.Context, tx *sql.Tx, name shard.Name) (shard.ID, error) {
	if name.IsMaster() {
		return shard.MasterID, nil
	}
	var id int64
	var dsn sql.NullString
	err := tx.QueryRowContext(ctx, "SELECT s.id, d.dsn FROM afe_shards s LEFT JOIN hostsched_shard_databases d ON d.shard_id = s.id WHERE s.hostname = ?", name.String()).Scan(&id, &dsn)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("%w: %s; see 'hostsched shard list'", store.ErrNoShard, name)
	}
	if dsn.Valid && err == nil {
		return 0, fmt.Errorf("%w: shard %s has a database of its own; its hosts, labels and entries are entered there", ErrInput, name)
	}
	return shard.ID(id), err
}

// RemoveShard deletes a shard to which nothing belongs any more, in one
// transaction under its fence and the master's. Whoever led it is fenced.
// A pause ends with it: a later shard of that name is another one.
func (lab *Lab) RemoveShard(ctx context.Context, name shard.Name, who, reason string) error {
	if name.IsMaster() {
		return fmt.Errorf("%w: the master shard cannot be removed", ErrInput)
	}
	return lab.change(ctx, "remove shard "+name.String(), []shard.Name{name, shard.Master}, func(tx *sql.Tx) error {
		var id int64
		err := tx.QueryRowContext(ctx, "SELECT id FROM afe_shards WHERE hostname = ?", name.String()).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: %s; see 'hostsched shard list'", store.ErrNoShard, name)
		}
		if err != nil {
			return err
		}
		var labels, hosts, jobs int
		err = tx.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM afe_shards_labels WHERE shard_id = ?), (SELECT COUNT(*) FROM afe_hosts WHERE shard_id = ?), (SELECT COUNT(*) FROM afe_jobs WHERE shard_id = ?)", id, id, id).Scan(&labels, &hosts, &jobs)
		if err != nil {
			return err
		}
		if labels+hosts+jobs > 0 {
			return fmt.Errorf("%w: %d labels, %d hosts and %d jobs still belong to shard %s", ErrInUse, labels, hosts, jobs, name)
		}
		for _, s := range []step{
			{name: "forget", text: "DELETE FROM hostsched_released_labels WHERE shard_id = ?", args: []any{id}},
			{name: "database", text: "DELETE FROM hostsched_shard_databases WHERE shard_id = ?", args: []any{id}},
			{name: "delete", text: "DELETE FROM afe_shards WHERE id = ?", args: []any{id}},
			{name: "fence", text: "UPDATE hostsched_fence SET epoch = epoch + 1, holder = '', cluster_name = '', shard_id = 0, pause_reason = '', paused_by = '', paused_at = 0 WHERE shard = ?", args: []any{name.String()}},
		} {
			if err := lab.run(ctx, tx, s); err != nil {
				return err
			}
		}
		return lab.audit(ctx, tx, who, "shard remove", name.String(), reason)
	})
}

// releasedJobs is how many jobs ReleaseJobs changes at once: it takes no longer
// than other clients can wait.
const releasedJobs = 500

// ReleaseJobs takes afe_jobs.shard_id of a shard away, which only refers to it.
// It returns how many jobs it changed, at most releasedJobs.
func (lab *Lab) ReleaseJobs(ctx context.Context, name shard.Name) (int, error) {
	var ids []int64
	err := sqldb.EachRow(ctx, lab.Pool, "SELECT j.id FROM afe_jobs j JOIN afe_shards s ON s.id = j.shard_id WHERE s.hostname = ? ORDER BY j.id LIMIT ?", []any{name.String(), releasedJobs}, func(scan sqldb.Scanner) error {
		var id int64
		err := scan(&id)
		ids = append(ids, id)
		return err
	})
	if err != nil || len(ids) == 0 {
		return 0, sqldb.Explain(err, "look for jobs of shard "+name.String(), lab.Target())
	}
	_, err = lab.Pool.ExecContext(ctx, "UPDATE afe_jobs SET shard_id = NULL WHERE id IN "+sqldb.List(ids))
	return len(ids), sqldb.Explain(err, "release the jobs of shard "+name.String(), lab.Target())
}
