package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/hostsched/hostsched/shard"
)

// Output formats of commands that print facts.
const (
	outputTable = "table"
	outputWide  = "wide"
	outputJSON  = "json"
	outputYAML  = "yaml"
	outputName  = "name"
)

// output is the flag --output of a command that prints facts. A format that the
// command does not have is refused before the command does anything.
type output struct {
	format  string
	formats []string
}

var _ pflag.Value = (*output)(nil)

func (o *output) String() string { return o.format }

// Set implements pflag.Value.
func (o *output) Set(format string) error {
	if err := oneOf(format, o.formats); err != nil {
		return err
	}
	o.format = format
	return nil
}

// Type implements pflag.Value.
func (o *output) Type() string { return "format" }

// bind adds --output with table and json, and more if the command has them.
func (o *output) bind(cmd *cobra.Command, more ...string) {
	o.format, o.formats = outputTable, slices.Concat([]string{outputTable}, more, []string{outputJSON})
	cmd.Flags().VarP(o, "output", "o", "output format: "+strings.Join(o.formats, ", "))
	completeFlag(cmd, "output", cobra.FixedCompletions(o.formats, cobra.ShellCompDirectiveNoFileComp))
}

func (o *output) wide() bool { return o.format == outputWide }

// write prints a value as JSON or YAML, or by its table function.
func (o *output) write(cmd *cobra.Command, v any, table func(io.Writer) error) error {
	switch o.format {
	case outputJSON:
		return writeJSON(cmd.OutOrStdout(), v)
	case outputYAML:
		return writeYAML(cmd.OutOrStdout(), v)
	}
	return table(cmd.OutOrStdout())
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// writeYAML prints a value with the keys that it has in JSON, in their order.
func writeYAML(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return err
	}
	plainStyle(&tree)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	return errors.Join(e.Encode(&tree), e.Close())
}

// plainStyle makes blocks of what JSON has in braces.
func plainStyle(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!str" {
		n.Style = 0
	}
	for _, below := range n.Content {
		plainStyle(below)
	}
}

// printable is a value as text in which nothing can move the cursor.
func printable(v any) string { return shard.Printable(fmt.Sprint(v)) }

// oneOf refuses a value that is none of those there are, and lists them.
func oneOf(value string, all []string) error {
	if slices.Contains(all, value) {
		return nil
	}
	return fmt.Errorf("%q is unknown; it must be one of %s", value, strings.Join(all, ", "))
}

// table prints rows of cells for people. Like line, it escapes what comes from outside,
// so that every row is one line whatever somebody has written into the database.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

// row adds a row of cells. Those of a wideCells are cells of the same row.
func (t table) row(cells ...any) {
	var texts []string
	for _, c := range cells {
		more, ok := c.(wideCells)
		if !ok {
			more = wideCells{c}
		}
		for _, c := range more {
			texts = append(texts, shard.Printable(fmt.Sprint(c)))
		}
	}
	// The last cell widens no column.
	for i, text := range texts[:max(0, len(texts)-1)] {
		texts[i] = shortened(text)
	}
	// What a tabwriter cannot write is told by flush.
	_, _ = fmt.Fprintln(t.w, strings.Join(texts, "\t"))
}

// maxCell is how many characters of a cell a table shows: one long name should not push all
// other columns out of sight. Sentences are shown whole. JSON has everything.
const maxCell = 80

func shortened(text string) string {
	if utf8.RuneCountInString(text) <= maxCell || strings.Contains(text, " ") {
		return text
	}
	return string([]rune(text)[:maxCell-1]) + "…"
}

// line adds a row of one cell.
func (t table) line(format string, args ...any) { t.row(fmt.Sprintf(format, args...)) }

func (t table) flush() error { return t.w.Flush() }

// line prints a line for people.
func line(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintln(w, shard.Printable(fmt.Sprintf(format, args...)))
	return err
}

// wideCells are the cells that only a wide table has.
type wideCells []any

// inWide returns the cells for a wide table, and none for another.
func inWide(wide bool, cells ...any) wideCells {
	if !wide {
		return nil
	}
	return cells
}

// utc is a time as all commands show it.
func utc(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
