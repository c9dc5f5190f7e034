package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

var runColumns = []column[labapi.Run]{
	{title: "RUN", cell: func(r labapi.Run) any { return r.ID }},
	{title: "KIND", cell: func(r labapi.Run) any { return r.Kind }},
	{title: "STATE", cell: func(r labapi.Run) any { return r.State }},
	{title: "RESULT", cell: func(r labapi.Run) any { return orDash(r.Result) }},
	{title: "HOSTS", cell: func(r labapi.Run) any { return listed(hostsOfRun(r)) }},
	{title: "BY", cell: func(r labapi.Run) any { return orDash(firstOf(r.Agent, r.Login)) }},
	{title: "CLAIMED", cell: func(r labapi.Run) any { return utc(r.Claimed) }},
	{title: "STARTED", cell: func(r labapi.Run) any { return when(r.Started) }},
	{title: "ENDED", cell: func(r labapi.Run) any { return when(r.Ended) }},
	{title: "EXIT", cell: func(r labapi.Run) any { return numberOrDash(r.ExitCode) }},
	{title: "SIGNAL", cell: func(r labapi.Run) any { return numberOrDash(r.Signal) }},
	{title: "STOPPED", cell: func(r labapi.Run) any { return orDash(r.StopReason) }},
	{title: "NOT RUN", cell: func(r labapi.Run) any { return orDash(r.NotRunReason) }},
	{title: "CLOSED", wide: true, cell: func(r labapi.Run) any { return when(r.Closed) }},
	{title: "DETAIL", wide: true, cell: func(r labapi.Run) any { return orDash(r.Detail) }},
}

func hostsOfRun(r labapi.Run) (names []string) {
	for _, h := range r.Hosts {
		names = append(names, h.Hostname)
	}
	return names
}

func numberOrDash(n *int) string {
	if n == nil {
		return "-"
	}
	return strconv.Itoa(*n)
}

func runDisplay() *display[labapi.Run] {
	return newDisplay(func(r labapi.Run) string { return strconv.FormatInt(r.ID, 10) }, runColumns...)
}

func jobRunsCommand() *cobra.Command {
	show := runDisplay()
	return jobPartsCommand(&cobra.Command{Use: "runs ID", Short: "List the runs of a job and of its special tasks", Example: "  hostsched job runs 7 -o wide"}, show.bindWatch,
		func(ctx context.Context, cmd *cobra.Command, client *labclient.Client, job labapi.Job) error {
			return show.list(ctx, cmd, func(ctx context.Context) ([]labapi.Run, error) { return runsOf(ctx, client, job.ID) })
		})
}

// jobPartsCommand is a command about something that belongs to one job.
func jobPartsCommand(cmd *cobra.Command, bind func(*cobra.Command), do func(context.Context, *cobra.Command, *labclient.Client, labapi.Job) error) *cobra.Command {
	var conn connection
	cmd.Args = exactly("ID")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
			job, err := readJob(ctx, client, id)
			if err != nil {
				return err
			}
			return do(ctx, cmd, client, job)
		})
	}
	conn.bind(cmd)
	bind(cmd)
	cmd.ValidArgsFunction = completeFirst(&conn, jobsOf)
	return cmd
}

// ofRun is something of one run of a job.
type ofRun[T any] struct {
	Run int64 `json:"run" yaml:"run"`
	T   T     `json:"of" yaml:"of"`
}

// partsOf collects what the chosen runs of a job left.
func partsOf[T any](ctx context.Context, client *labclient.Client, job int64, choice *logChoice, name string) (out []ofRun[T], err error) {
	runs, err := runsOf(ctx, client, job)
	if err != nil {
		return nil, err
	}
	out = []ofRun[T]{}
	for _, run := range runs {
		if !choice.takes(run) {
			continue
		}
		items, err := labclient.List[T](ctx, client, runPath(run.ID, name), nil, 0)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			out = append(out, ofRun[T]{run.ID, item})
		}
	}
	return out, nil
}

func jobResultsCommand() *cobra.Command {
	choice := logChoice{tasks: true}
	show := newDisplay(func(r ofRun[labapi.TestResult]) string { return r.T.Name },
		column[ofRun[labapi.TestResult]]{title: "RUN", cell: func(r ofRun[labapi.TestResult]) any { return r.Run }},
		column[ofRun[labapi.TestResult]]{title: "STATUS", cell: func(r ofRun[labapi.TestResult]) any { return r.T.Status }},
		column[ofRun[labapi.TestResult]]{title: "SECONDS", cell: func(r ofRun[labapi.TestResult]) any { return fmt.Sprintf("%.3f", float64(r.T.Millis)/1000) }},
		column[ofRun[labapi.TestResult]]{title: "NAME", cell: func(r ofRun[labapi.TestResult]) any { return r.T.Name }},
		column[ofRun[labapi.TestResult]]{title: "MESSAGE", wide: true, cell: func(r ofRun[labapi.TestResult]) any { return orDash(r.T.Message) }})
	return jobPartsCommand(&cobra.Command{Use: "results ID", Short: "List the results of single tests of a job", Example: "  hostsched job results 7 -o wide"},
		func(cmd *cobra.Command) {
			show.bind(cmd)
			bind(cmd, &choice.run, "run", 0, 1, maxID, "only those of this run")
		},
		func(ctx context.Context, cmd *cobra.Command, client *labclient.Client, job labapi.Job) error {
			return show.list(ctx, cmd, func(ctx context.Context) ([]ofRun[labapi.TestResult], error) {
				return partsOf[labapi.TestResult](ctx, client, job.ID, &choice, "results")
			})
		})
}

func jobArtifactsCommand() *cobra.Command {
	choice := logChoice{tasks: true}
	var to string
	show := newDisplay(func(a ofRun[labapi.Artifact]) string { return a.T.Path },
		column[ofRun[labapi.Artifact]]{title: "RUN", cell: func(a ofRun[labapi.Artifact]) any { return a.Run }},
		column[ofRun[labapi.Artifact]]{title: "SIZE", cell: func(a ofRun[labapi.Artifact]) any { return a.T.Size }},
		column[ofRun[labapi.Artifact]]{title: "PATH", cell: func(a ofRun[labapi.Artifact]) any { return a.T.Path }},
		column[ofRun[labapi.Artifact]]{title: "SHA256", wide: true, cell: func(a ofRun[labapi.Artifact]) any { return a.T.SHA256 }})
	return jobPartsCommand(&cobra.Command{Use: "artifacts ID", Short: "List or fetch the files that the runs of a job left", Example: "  hostsched job artifacts 7\n  hostsched job artifacts 7 --to results"},
		func(cmd *cobra.Command) {
			show.bind(cmd)
			bind(cmd, &choice.run, "run", 0, 1, maxID, "only those of this run")
			cmd.Flags().StringVar(&to, "to", "", "fetch them into this folder, each run's into a folder with its id")
		},
		func(ctx context.Context, cmd *cobra.Command, client *labclient.Client, job labapi.Job) error {
			files, err := partsOf[labapi.Artifact](ctx, client, job.ID, &choice, "artifacts")
			if err != nil || to == "" {
				return firstError(err, func() error {
					return show.list(ctx, cmd, func(context.Context) ([]ofRun[labapi.Artifact], error) { return files, nil })
				})
			}
			return forEach(ctx, cmd, files, "", func(ctx context.Context, a ofRun[labapi.Artifact]) error { return fetch(ctx, cmd, client, a, to) })
		})
}

func firstError(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// fetch writes a file below a folder, and nowhere else whatever its path says.
func fetch(ctx context.Context, cmd *cobra.Command, client *labclient.Client, a ofRun[labapi.Artifact], to string) (err error) {
	if !a.T.Complete {
		return fmt.Errorf("%s of run %d has not come whole", a.T.Path, a.Run)
	}
	if !filepath.IsLocal(filepath.FromSlash(a.T.Path)) {
		return fmt.Errorf("%w: %q would not be below %s", errUsage, a.T.Path, to)
	}
	if err := os.MkdirAll(to, 0o755); err != nil { //nolint:gosec // results are for everybody who may read the folder
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, root.Close) }()
	name := path.Join(strconv.FormatInt(a.Run, 10), a.T.Path)
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	err = client.ReadBytes(ctx, runPath(a.Run, "artifacts", a.T.Path), 0, f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return line(cmd.OutOrStdout(), "%s", strings.Join([]string{strings.TrimSuffix(to, "/"), name}, "/"))
}

// phasesTable shows what became of each run of a job.
func phasesTable(w io.Writer, runs []labapi.Run) error {
	if len(runs) == 0 {
		return nil
	}
	t := newTable(w)
	t.line("")
	t.row("RUN", "KIND", "STATE", "RESULT", "HOSTS", "CLAIMED", "STARTED", "ENDED", "EXIT", "SIGNAL", "STOPPED", "NOT RUN")
	for _, r := range runs {
		t.row(r.ID, r.Kind, r.State, orDash(r.Result), listed(hostsOfRun(r)), utc(r.Claimed), when(r.Started), when(r.Ended), numberOrDash(r.ExitCode), numberOrDash(r.Signal), orDash(r.StopReason), orDash(r.NotRunReason))
	}
	return t.flush()
}
