package shard

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// How long texts may be, in characters, wherever they come from: settings, commands, or the
// database. A column is at least as wide as what goes into it; servers cut longer texts off
// or fail in the middle of a change.
const (
	// MaxName is for names of shards, clusters, users, and whatever an audit record is about.
	MaxName = 190
	// MaxServer is the width of a name in Autotest's table servers. It leaves room for the
	// number and the mark of a process, which follow it in the fence.
	MaxServer = 128
	// MaxPause is for the reason of a pause, which every status shows.
	MaxPause = 500
	// MaxDSN is for the database that a shard has of its own.
	MaxDSN = 1024
	// MaxReason is for what people write: reasons and notes.
	MaxReason = 5000
	// MaxDetail is for the detail of an audit record: a reason, a note, a DSN and what was
	// done. It fits into the bytes of its column whatever its letters are.
	MaxDetail = 16000
)

// ErrTooLong is returned for a text that is longer than what is stored of it.
var ErrTooLong = errors.New("too long")

// Fits refuses a text that has more characters than limit.
func Fits(what, text string, limit int) error {
	if n := utf8.RuneCountInString(text); n > limit {
		return fmt.Errorf("%w: %s has %d characters, at most %d are stored; shorten it", ErrTooLong, what, n, limit)
	}
	return nil
}

// CheckServer checks the name of a server.
func CheckServer(s string) error {
	if err := Fits("it", s, MaxServer); err != nil {
		return err
	}
	return CheckName(s)
}
