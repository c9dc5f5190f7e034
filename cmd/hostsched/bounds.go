package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hostsched/hostsched/internal/durations"
	"github.com/hostsched/hostsched/store"
)

// The bounds of flags that wait, and of those that count.
const (
	minWait  = time.Millisecond
	maxWait  = 24 * time.Hour
	maxTicks = 1_000_000_000
)

// bounded is the value of a flag that is a number or a duration. One that is out of its
// bounds is refused before the command does anything, in the words of the settings.
type bounded[T int | int64 | time.Duration] struct {
	value     *T
	low, high T
}

var _ pflag.Value = bounded[int]{}

// bind declares a flag with bounds, both allowed. The default may be outside of them, and
// says then that nothing was given.
func bind[T int | int64 | time.Duration](cmd *cobra.Command, value *T, name string, def, low, high T, usage string) {
	*value = def
	cmd.Flags().Var(bounded[T]{value, low, high}, name, usage)
}

// String is the default as --help shows it, which leaves 0 out.
func (b bounded[T]) String() string {
	if b.value == nil || *b.value == 0 {
		return "0"
	}
	return fmt.Sprint(*b.value)
}

// Type implements pflag.Value.
func (b bounded[T]) Type() string {
	if _, ok := any(b.low).(time.Duration); ok {
		return "duration"
	}
	return "int"
}

// Set implements pflag.Value.
func (b bounded[T]) Set(text string) error {
	v, err := b.parse(text)
	if err != nil {
		return err
	}
	if v < b.low || v > b.high {
		return fmt.Errorf("%s is out of bounds; it must be from %s to %s", text, boundText(b.low), boundText(b.high))
	}
	*b.value = v
	return nil
}

func boundText(bound any) string {
	if d, ok := bound.(time.Duration); ok {
		return durations.Text(d)
	}
	return fmt.Sprint(bound)
}

func (b bounded[T]) parse(text string) (T, error) {
	if b.Type() == "duration" {
		d, ok := durations.Parse(text)
		if !ok {
			return 0, fmt.Errorf("%q is not a duration, like 50ms, 5s, 1h30m or 2d", text)
		}
		return T(d), nil
	}
	n, err := strconv.ParseInt(text, 10, strconv.IntSize)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number, or too large", text)
	}
	return T(n), nil
}

// bindRows declares --limit of a command that shows the latest rows of a log.
func bindRows(cmd *cobra.Command, rows *int, usage string) {
	bind(cmd, rows, "limit", defaultRows, 1, store.MaxRows, usage)
}
