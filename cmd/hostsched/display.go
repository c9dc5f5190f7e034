package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// column is a column of a table of things.
type column[T any] struct {
	title string
	// wide columns are shown in wide tables and if they are named.
	wide bool
	cell func(T) any
}

// display is how a command shows things of one kind: a table of chosen columns, JSON,
// YAML, or just their names.
type display[T any] struct {
	output
	all      []column[T]
	name     func(T) string
	columns  []string
	watch    bool
	interval time.Duration
}

func newDisplay[T any](name func(T) string, columns ...column[T]) *display[T] {
	return &display[T]{all: columns, name: name}
}

func (d *display[T]) bind(cmd *cobra.Command) {
	d.output.bind(cmd, outputWide, outputYAML, outputName)
	var titles []string
	for _, c := range d.all {
		titles = append(titles, strings.ToLower(c.title))
	}
	cmd.Flags().StringSliceVar(&d.columns, "columns", nil, "columns of the table: "+strings.Join(titles, ", "))
	completeFlag(cmd, "columns", cobra.FixedCompletions(titles, cobra.ShellCompDirectiveNoFileComp))
	// What is wrong with them is said before anybody is called.
	cmd.PreRunE = func(*cobra.Command, []string) error {
		_, err := d.chosen()
		return err
	}
}

// bindWatch is bind for a command that may show its things again and again.
func (d *display[T]) bindWatch(cmd *cobra.Command) {
	d.bind(cmd)
	cmd.Flags().BoolVarP(&d.watch, "watch", "w", false, "show it again and again, until Ctrl-C")
	bind(cmd, &d.interval, "interval", 2*time.Second, minWatchInterval, maxWatchInterval, "with --watch, how often")
}

// chosen are the columns of the table.
func (d *display[T]) chosen() ([]column[T], error) {
	if len(d.columns) == 0 {
		return slices.DeleteFunc(slices.Clone(d.all), func(c column[T]) bool { return c.wide && !d.wide() }), nil
	}
	var out []column[T]
	for _, want := range d.columns {
		i := slices.IndexFunc(d.all, func(c column[T]) bool { return strings.EqualFold(c.title, strings.TrimSpace(want)) })
		if i < 0 {
			return nil, fmt.Errorf("%w: there is no column %q; --help lists them", errUsage, want)
		}
		out = append(out, d.all[i])
	}
	return out, nil
}

// list shows things. With --watch it reads and shows them again and again.
func (d *display[T]) list(ctx context.Context, cmd *cobra.Command, read func(context.Context) ([]T, error)) error {
	columns, err := d.chosen()
	if err != nil {
		return err
	}
	for {
		items, err := read(ctx)
		if err != nil {
			return err
		}
		if err := d.show(cmd, items, items, columns); err != nil || !d.watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d.interval):
		}
	}
}

// one shows a single thing, in JSON and YAML without a list around it.
func (d *display[T]) one(cmd *cobra.Command, item T) error {
	columns, err := d.chosen()
	if err != nil {
		return err
	}
	return d.show(cmd, item, []T{item}, columns)
}

func (d *display[T]) show(cmd *cobra.Command, value any, items []T, columns []column[T]) error {
	return d.write(cmd, value, func(w io.Writer) error {
		if d.format == outputName {
			for _, item := range items {
				if err := line(w, "%s", d.name(item)); err != nil {
					return err
				}
			}
			return nil
		}
		t := newTable(w)
		t.row(cells(columns, func(c column[T]) any { return c.title })...)
		for _, item := range items {
			t.row(cells(columns, func(c column[T]) any { return c.cell(item) })...)
		}
		return t.flush()
	})
}

func cells[T any](columns []column[T], cell func(column[T]) any) []any {
	out := make([]any, 0, len(columns))
	for _, c := range columns {
		out = append(out, cell(c))
	}
	return out
}

// Cells of what may not be there.

func listed(names []string) string { return orDash(strings.Join(names, " ")) }

func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return utc(*t)
}

func idOrDash(id int64) string {
	if id == 0 {
		return "-"
	}
	return fmt.Sprint(id)
}
