package lab

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

const labelQuery = "SELECT l.id, l.name, COUNT(h.id), (SELECT MIN(s.shard_id) FROM afe_shards_labels s WHERE s.label_id = l.id) FROM afe_labels l LEFT JOIN afe_hosts_labels x ON x.label_id = l.id" +
	" LEFT JOIN afe_hosts h ON h.id = x.host_id AND h.invalid = 0 WHERE l.invalid = 0 AND "

type labelState struct {
	labapi.Label
	id int64
}

func (l *Lab) labelRows(ctx context.Context, q sqldb.Querier, condition string, args ...any) ([]labelState, error) {
	shards, err := l.shardNames(ctx, q)
	if err != nil {
		return nil, err
	}
	rows := []labelState{}
	err = sqldb.EachRow(ctx, q, labelQuery+condition, args, func(scan sqldb.Scanner) error {
		var row labelState
		var name sql.NullString
		var shard sql.NullInt64
		err := scan(&row.id, &name, &row.Hosts, &shard)
		row.Name = name.String
		if shard.Valid {
			row.Shard = shards(shard.Int64)
		}
		rows = append(rows, row)
		return err
	})
	return rows, l.explain(err, "list the labels")
}

// Labels lists labels in the order of their ids.
func (l *Lab) Labels(ctx context.Context, text, after string, limit int) (labapi.Page[labapi.Label], error) {
	from, err := ParseCursor(after)
	if err != nil {
		return labapi.Page[labapi.Label]{}, err
	}
	rows, err := l.labelRows(ctx, l.db.Pool, "l.id > ? AND l.name LIKE ? ESCAPE '!' GROUP BY l.id, l.name ORDER BY l.id LIMIT ?", from, "%"+likeText.Replace(text)+"%", limit+1)
	p := page(rows, limit, func(r labelState) int64 { return r.id })
	out := labapi.Page[labapi.Label]{Items: make([]labapi.Label, len(p.Items)), After: p.After}
	for i, r := range p.Items {
		out.Items[i] = r.Label
	}
	return out, err
}

// Label returns one label.
func (l *Lab) Label(ctx context.Context, name string) (labapi.Label, error) {
	row, err := l.label(ctx, l.db.Pool, name)
	return row.Label, err
}

func (l *Lab) label(ctx context.Context, q sqldb.Querier, name string) (labelState, error) {
	rows, err := l.labelRows(ctx, q, "l.name = ? GROUP BY l.id, l.name", name)
	if err != nil {
		return labelState{}, err
	}
	if len(rows) == 0 {
		return labelState{}, fmt.Errorf("%w: there is no label %q", ErrNotFound, shortened(name))
	}
	return rows[0], nil
}

// AddLabel enters a label.
func (l *Lab) AddLabel(ctx context.Context, who access.Caller, name string) (labapi.Label, error) {
	if err := checkName("a label", name, maxName); err != nil {
		return labapi.Label{}, err
	}
	err := l.change(ctx, "enter label "+name, func(tx *sql.Tx) error {
		r := &txReader{ctx: ctx, tx: tx}
		if there := labelNames.find(r, []string{name}); len(there) > 0 {
			return fmt.Errorf("%w: label %s", ErrExists, name)
		}
		if r.err != nil {
			return r.err
		}
		return l.makeLabels(ctx, tx, who, []string{name}, map[string]int64{})
	})
	if err != nil {
		return labapi.Label{}, err
	}
	return l.Label(ctx, name)
}

// RemoveLabel removes a label that nothing needs. With fromHosts it is also taken from the
// hosts that carry it.
func (l *Lab) RemoveLabel(ctx context.Context, who access.Caller, name string, fromHosts bool) error {
	return l.change(ctx, "remove label "+name, func(tx *sql.Tx) error {
		row, err := l.label(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := l.labelIsFree(ctx, tx, row, fromHosts); err != nil {
			return err
		}
		hosts, err := sqldb.SelectIDs(ctx, tx, "SELECT host_id FROM afe_hosts_labels WHERE label_id = ? ORDER BY host_id"+l.db.Dialect.ForUpdate, row.id)
		if err != nil {
			return err
		}
		if err := l.noteHostsChanged(ctx, tx, who, hosts, "label -"+row.Name); err != nil {
			return err
		}
		for _, text := range []string{"DELETE FROM afe_hosts_labels WHERE label_id = ?", "UPDATE afe_labels SET invalid = 1 WHERE id = ?"} {
			if _, err := tx.ExecContext(ctx, text, row.id); err != nil {
				return err
			}
		}
		return l.note(ctx, tx, Event{Kind: "label.removed", Who: who.Login, Subject: row.Name, Reason: fmt.Sprintf("%d hosts carried it", row.Hosts)})
	})
}

func (l *Lab) labelIsFree(ctx context.Context, tx *sql.Tx, row labelState, fromHosts bool) error {
	if row.Shard != "" {
		return fmt.Errorf("%w: label %s belongs to shard %s; give it back first with 'hostsched shard assign'", ErrConflict, row.Name, row.Shard)
	}
	if row.Hosts > 0 && !fromHosts {
		return fmt.Errorf("%w: %d hosts carry label %s; take it from them first, or with from_hosts ('hostsched label remove --from-hosts')", ErrConflict, row.Hosts, row.Name)
	}
	var waiting, replaced int
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*), (SELECT COUNT(*) FROM afe_replaced_labels r WHERE r.label_id = ?) FROM afe_host_queue_entries q WHERE q.complete = 0 AND (q.meta_host = ? OR q.job_id IN (SELECT d.job_id FROM afe_jobs_dependency_labels d WHERE d.label_id = ?))",
		row.id, row.id, row.id).Scan(&waiting, &replaced)
	switch {
	case err != nil:
		return err
	case waiting > 0:
		return fmt.Errorf("%w: %d queue entries ask for label %s; abort their jobs first", ErrConflict, waiting, row.Name)
	case replaced > 0:
		return fmt.Errorf("%w: label %s is a static one; change it in the lab's inventory", ErrConflict, row.Name)
	}
	return nil
}
