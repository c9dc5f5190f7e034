package sqldb

import "strconv"

// Integer decodes an integer column without ever failing: MySQL guarantees what
// is in it, SQLite stores whatever it is given. A value that is no integer is
// bad, and the row is reported instead of stopping the tick.
type Integer struct {
	N     int64
	Valid bool // not NULL and not bad
	bad   bool
}

// Scan implements sql.Scanner.
func (v *Integer) Scan(src any) error {
	v.decode(src)
	return nil
}

func (v *Integer) decode(src any) {
	*v = Integer{}
	switch s := src.(type) {
	case nil:
	case int64:
		v.N, v.Valid = s, true
	case []byte:
		v.parse(string(s))
	case string:
		v.parse(s)
	default:
		v.bad = true
	}
}

func (v *Integer) parse(s string) {
	n, err := strconv.ParseInt(s, 10, 64)
	v.N, v.Valid, v.bad = n, err == nil, err != nil
}

// Flag is the value of a boolean column; NULL and nonsense count as set.
// Autotest compares such columns with 0, so only a plain 0 is clear.
func (v *Integer) Flag() bool { return !v.Valid || v.N != 0 }

// AnyBad tells whether one of the values is no integer.
func AnyBad(values ...*Integer) bool {
	for _, v := range values {
		if v.bad {
			return true
		}
	}
	return false
}
