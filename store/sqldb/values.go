package sqldb

// Flag is a column that is 0 or 1.
func Flag(set bool) int {
	if set {
		return 1
	}
	return 0
}

// IDOrNull is a column that refers to another row, or to none if the id is 0.
func IDOrNull(id int64) any {
	if id == 0 {
		return nil
	}
	return id
}
