package shard

import (
	"errors"
	"fmt"
	"strings"
)

// Name identifies a shard: Master, or the hostname of a row of afe_shards.
type Name string

// Master is the shard of every host and entry that no other shard owns.
const Master Name = "master"

// maxNameLength is the width of the column that stores a name, in characters.
const maxNameLength = 190

// ErrName is returned for a name that cannot be stored or used as a key.
var ErrName = errors.New("invalid shard name")

// Parse checks a shard name. Names become a path element of an etcd key and the
// primary key of the fence table, so they must be short and hold no slash or
// white space.
func Parse(s string) (Name, error) {
	if s == "" {
		return "", fmt.Errorf("%w: it is empty; use %q or the hostname of a row of afe_shards", ErrName, Master)
	}
	if len(s) > maxNameLength {
		return "", fmt.Errorf("%w %q: %d characters, at most %d are allowed", ErrName, s, len(s), maxNameLength)
	}
	if strings.ContainsAny(s, "/ \t\r\n\x00") {
		return "", fmt.Errorf("%w %q: slashes and white space are not allowed", ErrName, s)
	}
	return Name(s), nil
}

// IsMaster tells whether this is the master shard.
func (n Name) IsMaster() bool { return n == Master }

// String returns the name itself.
func (n Name) String() string { return string(n) }
