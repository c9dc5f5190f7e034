package shard

import "fmt"

// Row is a row of afe_shards, with the names that the database takes for its own. How
// names compare is the database's decision: it may disregard case, accents and trailing
// blanks, and two tables of it may differ in that.
type Row struct {
	ID   ID
	Name Name
	// Same are the lowest ids of the rows whose names are the same as this one, to each of
	// the tables that a shard is looked up in by its name.
	Same [2]ID
	// Master tells that the name is the same as the master's to one of these tables.
	Master bool
}

// Unserved returns the rows that no replica can lead, with the reason for each. Two leaders
// whose names are the same to the database would have one fence, and end each other's
// terms. So only the first of such rows is served that has a name which can be used.
// The rows are in the order of their ids.
func Unserved(rows []Row) map[ID]string {
	unserved := map[ID]string{}
	var served [2]map[ID]Row
	for i := range served {
		served[i] = map[ID]Row{}
	}
	for _, r := range rows {
		if why := r.unusable(served); why != "" {
			unserved[r.ID] = why
			continue
		}
		for i, first := range r.Same {
			served[i][first] = r
		}
	}
	return unserved
}

// unusable says why a row cannot be served beside those that are, empty if it can.
func (r Row) unusable(served [2]map[ID]Row) string {
	if _, err := Parse(r.Name.String()); err != nil {
		return err.Error()
	}
	if r.Master {
		return "the database takes its name for the master's, and the master has no row"
	}
	for i, first := range r.Same {
		if other, ok := served[i][first]; ok {
			return fmt.Sprintf("the database takes its name for that of shard %s, which is row %d", other.Name, other.ID)
		}
	}
	return ""
}

// Served returns the row that is served under a name; ok is false if there is none.
func Served(rows []Row, name Name) (id ID, ok bool) {
	unserved := Unserved(rows)
	for _, r := range rows {
		if _, not := unserved[r.ID]; r.Name == name && !not {
			return r.ID, true
		}
	}
	return 0, false
}
