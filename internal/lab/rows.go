package lab

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/store/sqldb"
)

// reader is where rows come from: one state of the database, or a transaction that also
// changes it.
type reader interface {
	RowsOf(query string, args []any, each func(sqldb.Row))
}

// txReader reads in a transaction until the first error.
type txReader struct {
	ctx context.Context
	tx  sqldb.Querier
	err error
}

// RowsOf implements reader.
func (r *txReader) RowsOf(query string, args []any, each func(sqldb.Row)) {
	if r.err == nil {
		r.err = r.rows(query, args, each)
	}
}

func (r *txReader) rows(query string, args []any, each func(sqldb.Row)) (err error) {
	rows, err := r.tx.QueryContext(r.ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, row, into := make([]any, len(columns)), make(sqldb.Row, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, v := range values {
			row[i] = v
		}
		each(row)
	}
	return rows.Err()
}

// read runs queries that all see the same state.
func (l *Lab) read(ctx context.Context, what string, queries func(*sqldb.Reader)) error {
	return l.explain(l.db.Read(ctx, queries), what)
}

// chunkRows is how many rows one transaction changes, and one statement looks up by name.
const chunkRows = 500

// marks are n parameters.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

func texts(names []string) []any {
	args := make([]any, len(names))
	for i, n := range names {
		args[i] = n
	}
	return args
}

// named is where things with names are: the columns of the id and the name, and which rows
// count.
type named struct{ from, id, name, valid string }

var (
	hostNames   = named{"afe_hosts", "id", "hostname", "invalid = 0"}
	labelNames  = named{"afe_labels", "id", "name", "invalid = 0"}
	staticNames = named{"afe_static_labels", "id", "name", "invalid = 0"}
	groupNames  = named{"afe_acl_groups", "id", "name", "1 = 1"}
	userNames   = named{"afe_users", "id", "login", "1 = 1"}
)

// find returns the ids of the rows with these names; what is not there is left out. Which
// spellings are the same name the database says.
func (n named) find(r reader, names []string) map[string]int64 {
	ids := make(map[string]int64, len(names))
	for len(names) > 0 {
		part := names[:min(len(names), chunkRows)]
		names = names[len(part):]
		n.findSome(r, part, ids)
	}
	return ids
}

func (n named) findSome(r reader, names []string, ids map[string]int64) {
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	n.rows(r, names, func(id int64, name string) {
		if wanted[name] {
			ids[name] = id
		}
	})
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(wanted)), func(name string) bool { return ids[name] != 0 })
	if len(others) == 0 {
		return
	}
	// What is not there in this spelling may be there in another one.
	spelledOtherwise := false
	n.rows(r, others, func(int64, string) { spelledOtherwise = true })
	if !spelledOtherwise {
		return
	}
	for _, name := range others {
		n.rows(r, []string{name}, func(id int64, _ string) { ids[name] = id })
	}
}

// rows finds the rows with any of these names, that with the lowest id last.
func (n named) rows(r reader, names []string, each func(id int64, name string)) {
	query := "SELECT " + n.id + ", " + n.name + " FROM " + n.from + " WHERE " + n.valid + " AND " + n.name + " IN (" + marks(len(names)) + ") ORDER BY " + n.id + " DESC"
	r.RowsOf(query, texts(names), func(v sqldb.Row) { each(v.Int(0).N, v.Text(1)) })
}
