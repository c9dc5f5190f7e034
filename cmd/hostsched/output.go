package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Output formats of commands that print facts.
const (
	outputTable = "table"
	outputWide  = "wide"
	outputJSON  = "json"
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

// write prints a value as JSON, or by its table function.
func (o *output) write(cmd *cobra.Command, v any, table func(io.Writer) error) error {
	if o.format != outputJSON {
		return table(cmd.OutOrStdout())
	}
	e := json.NewEncoder(cmd.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// oneOf refuses a value that is none of those there are, and lists them.
func oneOf(value string, all []string) error {
	if slices.Contains(all, value) {
		return nil
	}
	return fmt.Errorf("%q is unknown; it must be one of %s", value, strings.Join(all, ", "))
}

// limit is the flag --limit of a command that shows the latest rows of a log.
type limit int

var _ pflag.Value = (*limit)(nil)

func (l *limit) String() string { return strconv.Itoa(int(*l)) }

// Set implements pflag.Value.
func (l *limit) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return fmt.Errorf("it must be a number, at least 1")
	}
	*l = limit(n)
	return nil
}

// Type implements pflag.Value.
func (l *limit) Type() string { return "int" }

func (l *limit) bind(cmd *cobra.Command, usage string) {
	*l = defaultRows
	cmd.Flags().Var(l, "limit", usage)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
