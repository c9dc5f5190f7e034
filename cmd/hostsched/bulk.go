package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/selector"
)

// bulk is the things that a command does the same with: arguments, and the lines of a file,
// or what has such labels.
type bulk struct {
	from string
	selecting
	selected labSelected
}

// labSelected lists what a selector chooses.
type labSelected func(ctx context.Context, client *labclient.Client, selector string) ([]string, error)

// selecting chooses things by their labels.
type selecting struct{ selector string }

func (s *selecting) bindSelector(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&s.selector, "selector", "", what+", like 'board=eve,pool in (bvt,cq),!broken'")
}

// check refuses what is no selector. An empty one may be an unset variable of a script, and
// would choose everything.
func (s *selecting) check(cmd *cobra.Command) error {
	if !cmd.Flags().Changed("selector") {
		return nil
	}
	if _, err := selector.Parse(s.selector); err != nil {
		return fmt.Errorf("%w: --selector: %w", errUsage, err)
	}
	return nil
}

// bindSelected lets a command also take what a selector chooses.
func (b *bulk) bindSelected(cmd *cobra.Command, what string, selected labSelected) {
	b.selected = selected
	b.bindSelector(cmd, what+", instead of named ones")
}

func selectedHosts(ctx context.Context, client *labclient.Client, selector string) ([]string, error) {
	all, err := labclient.List[labapi.Host](ctx, client, "/hosts", query("selector", selector), maxLimit)
	return namesOf(all, func(h labapi.Host) string { return h.Hostname }), err
}

// selectedJobs are those that have not ended.
func selectedJobs(ctx context.Context, client *labclient.Client, selector string) ([]string, error) {
	var out []string
	for _, state := range []labapi.JobState{labapi.JobQueued, labapi.JobRunning} {
		all, err := labclient.List[labapi.Job](ctx, client, "/jobs", query("selector", selector, "state", string(state)), maxLimit)
		if err != nil {
			return nil, err
		}
		out = append(out, namesOf(all, func(j labapi.Job) string { return idText(j.ID) })...)
	}
	// A job may have begun between the two calls.
	slices.Sort(out)
	return slices.Compact(out), nil
}

// resolve returns the names of what is meant: those that were given, or what the selector
// chooses.
func (b *bulk) resolve(ctx context.Context, client *labclient.Client, names []string) ([]string, error) {
	if b.selector == "" {
		return names, nil
	}
	out, err := b.selected(ctx, client, b.selector)
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%w: nothing fits --selector %q", errUsage, b.selector)
	}
	return out, err
}

// count says how many things are meant, or which.
func (b *bulk) count(n int, noun string) string {
	if b.selector == "" {
		return countOf(n, noun)
	}
	return fmt.Sprintf("all %ss that fit %q", noun, b.selector)
}

func (b *bulk) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.from, "from", "", "file with more of them, one a line; - for standard input")
}

// names are all things that are meant, each once and in the order given.
func (b *bulk) names(cmd *cobra.Command, args []string) ([]string, error) {
	out := slices.Clone(args)
	if b.from != "" {
		text, err := readInput(cmd, b.from)
		if err != nil {
			return nil, err
		}
		for l := range strings.Lines(string(text)) {
			if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
				out = append(out, l)
			}
		}
	}
	seen := map[string]bool{}
	out = slices.DeleteFunc(out, func(name string) bool {
		again := seen[name]
		seen[name] = true
		return again
	})
	for _, name := range out {
		if strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("%w: a name is empty; see '%s --help'", errUsage, cmd.CommandPath())
		}
	}
	if len(out) > 0 && b.selector != "" {
		return nil, fmt.Errorf("%w: give names, or --selector, not both", errUsage)
	}
	return out, b.check(cmd)
}

// required is names for a command that has no other way to say what is meant.
func (b *bulk) required(cmd *cobra.Command, args []string) ([]string, error) {
	out, err := b.names(cmd, args)
	if err == nil && len(out) == 0 && b.selector == "" {
		err = nothingNamed(cmd)
	}
	return out, err
}

func nothingNamed(cmd *cobra.Command) error {
	_, what, _ := strings.Cut(cmd.Use, " ")
	return fmt.Errorf("%w: %s is missing; see '%s --help'", errUsage, strings.TrimSuffix(what, "..."), cmd.CommandPath())
}

// ids are the numbers of jobs and suites.
func (b *bulk) ids(cmd *cobra.Command, args []string) ([]int64, error) {
	names, err := b.required(cmd, args)
	if err != nil {
		return nil, err
	}
	return parseIDs(names)
}

func parseIDs(names []string) ([]int64, error) {
	out := make([]int64, 0, len(names))
	for _, name := range names {
		id, err := parseID(name)
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, nil
}

func parseID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, fmt.Errorf("%w: %q is no id, which is a number from 1", errUsage, text)
	}
	return id, nil
}

// forEach does the same with several things and says of each what became of it. What
// failed does not keep the others from being done, unless no server answers.
func forEach[T any](ctx context.Context, cmd *cobra.Command, things []T, done string, do func(context.Context, T) error) error {
	var failed error
	for _, thing := range things {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := do(ctx, thing)
		if len(things) == 1 && err != nil || errors.Is(err, labclient.ErrAway) {
			return err
		}
		if err != nil {
			failed = coded{code: exitFailed}
			fmt.Fprintf(cmd.ErrOrStderr(), "hostsched: %v: %s\n", printable(thing), printable(oneLine(err)))
			continue
		}
		if done == "" {
			continue // it was said already
		}
		if err := line(cmd.OutOrStdout(), "%v %s", thing, done); err != nil {
			return err
		}
	}
	return failed
}

// maxInput is the largest file that a command reads: more than any that the API takes.
const maxInput = 64 << 20

// readInput reads a file, or standard input if it is -.
func readInput(cmd *cobra.Command, file string) ([]byte, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	text, err := io.ReadAll(bufio.NewReader(io.LimitReader(in, maxInput+1)))
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", errUsage, file, err)
	}
	if len(text) > maxInput {
		return nil, fmt.Errorf("%w: %s has more than %d MiB", errUsage, file, maxInput>>20)
	}
	return text, nil
}
