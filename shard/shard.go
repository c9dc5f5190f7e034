package shard

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Name identifies a shard. It is Master or the hostname of a row of afe_shards.
type Name string

// Master is the shard of every host and entry that no other shard owns.
const Master Name = "master"

// ErrName is returned for a name that cannot be stored or used as a key.
var ErrName = errors.New("invalid shard name")

// Parse checks the name of a shard and returns it. The error says what is wrong.
func Parse(s string) (Name, error) {
	if s == "" {
		return "", fmt.Errorf("%w: it is empty; use %q or the hostname of a row of afe_shards", ErrName, Master)
	}
	if err := CheckName(s); err != nil {
		return "", fmt.Errorf("%w %q: %w", ErrName, s, err)
	}
	return Name(s), nil
}

// CheckName checks the name of a shard, a server or a cluster. Such a name becomes a path
// element of an etcd key, a file name or a primary key, so it must be short and must not
// contain a slash, white space or a control character.
func CheckName(s string) error {
	if s == "" {
		return errors.New("an empty name is not allowed")
	}
	if err := Fits("it", s, MaxName); err != nil {
		return err
	}
	if s == "." || s == ".." {
		return errors.New("it would be a folder")
	}
	if !utf8.ValidString(s) {
		return errors.New("it is not valid UTF-8")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r == '/' || unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return errors.New("slashes, white space and control characters are not allowed")
	}
	return nil
}

// IsMaster tells whether this is the master shard.
func (n Name) IsMaster() bool { return n == Master }

// String returns the name itself.
func (n Name) String() string { return string(n) }
