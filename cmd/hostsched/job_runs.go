package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
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
	{title: "TESTS", cell: func(r labapi.Run) any { return testsText(r) }},
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

// testOfRun and fileOfRun are what a run of a job left.
type (
	testOfRun struct {
		Run int64 `json:"run"`
		labapi.TestResult
	}
	fileOfRun struct {
		Run int64 `json:"run"`
		labapi.Artifact
	}
)

// partsOf collects what the chosen runs of a job left.
func partsOf[T, P any](ctx context.Context, client *labclient.Client, job int64, choice *logChoice, read func(run int64) ([]P, error), of func(run int64, part P) T) (out []T, err error) {
	runs, err := runsOf(ctx, client, job)
	if err != nil {
		return nil, err
	}
	out = []T{}
	for _, run := range runs {
		if !choice.takes(run) {
			continue
		}
		parts, err := read(run.ID)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			out = append(out, of(run.ID, part))
		}
	}
	return out, nil
}

func jobResultsCommand() *cobra.Command {
	choice := logChoice{tasks: true}
	var status string
	show := newDisplay(func(r testOfRun) string { return r.Name },
		column[testOfRun]{title: "RUN", cell: func(r testOfRun) any { return r.Run }},
		column[testOfRun]{title: "STATUS", cell: func(r testOfRun) any { return r.Status }},
		column[testOfRun]{title: "SECONDS", cell: func(r testOfRun) any { return fmt.Sprintf("%.3f", float64(r.Millis)/1000) }},
		column[testOfRun]{title: "NAME", cell: func(r testOfRun) any { return r.Name }},
		column[testOfRun]{title: "MESSAGE", cell: func(r testOfRun) any { return orDash(firstLine(r.Message)) }})
	return jobPartsCommand(&cobra.Command{Use: "results ID", Short: "List the results of single tests of a job", Example: "  hostsched job results 7\n  hostsched job results 7 --status failed -o json"},
		func(cmd *cobra.Command) {
			show.bind(cmd)
			bind(cmd, &choice.run, "run", 0, 1, maxID, "only those of this run")
			cmd.Flags().StringVar(&status, "status", "", "only those that ended so: "+strings.Join(testStatuses, ", "))
			completeFlag(cmd, "status", cobra.FixedCompletions(testStatuses, cobra.ShellCompDirectiveNoFileComp))
		},
		func(ctx context.Context, cmd *cobra.Command, client *labclient.Client, job labapi.Job) error {
			if status != "" {
				if err := oneOf(status, testStatuses); err != nil {
					return fmt.Errorf("%w: --status: %w", errUsage, err)
				}
			}
			return show.list(ctx, cmd, func(ctx context.Context) ([]testOfRun, error) { return testsOf(ctx, client, job.ID, &choice, status) })
		})
}

// testStatuses are how tests end, as labapi.TestResult has them.
var testStatuses = []string{"passed", "failed", "skipped", "error"}

func testsOf(ctx context.Context, client *labclient.Client, job int64, choice *logChoice, status string) ([]testOfRun, error) {
	read := func(run int64) ([]labapi.TestResult, error) {
		return labclient.List[labapi.TestResult](ctx, client, runPath(run, "results"), query("status", status), 0)
	}
	return partsOf(ctx, client, job, choice, read, func(run int64, t labapi.TestResult) testOfRun { return testOfRun{run, t} })
}

// firstLine is the beginning of a text that a table shows; JSON has all of it.
func firstLine(text string) string {
	line, rest, _ := strings.Cut(text, "\n")
	if rest != "" {
		line += " …"
	}
	return line
}

func jobArtifactsCommand() *cobra.Command {
	choice := logChoice{tasks: true}
	var to, get string
	show := newDisplay(func(a fileOfRun) string { return a.Path },
		column[fileOfRun]{title: "RUN", cell: func(a fileOfRun) any { return a.Run }},
		column[fileOfRun]{title: "SIZE", cell: func(a fileOfRun) any { return a.Size }},
		column[fileOfRun]{title: "PATH", cell: func(a fileOfRun) any { return a.Path }},
		column[fileOfRun]{title: "SHA256", wide: true, cell: func(a fileOfRun) any { return a.SHA256 }})
	return jobPartsCommand(&cobra.Command{Use: "artifacts ID", Short: "List or fetch the files that the runs of a job left",
		Example: "  hostsched job artifacts 7\n  hostsched job artifacts 7 --get report.xml\n  hostsched job artifacts 7 --to results"},
		func(cmd *cobra.Command) {
			show.bind(cmd)
			bind(cmd, &choice.run, "run", 0, 1, maxID, "only those of this run")
			cmd.Flags().StringVar(&to, "to", "", "fetch them into this folder, each run's into a folder with its id")
			cmd.Flags().StringVar(&get, "get", "", "the file of this path, to standard output unless --to says where; of the latest run that left it")
		},
		func(ctx context.Context, cmd *cobra.Command, client *labclient.Client, job labapi.Job) error {
			// They come in one page.
			read := func(run int64) ([]labapi.Artifact, error) {
				var page labapi.Page[labapi.Artifact]
				err := client.Get(ctx, runPath(run, "artifacts"), nil, &page)
				return page.Items, err
			}
			files, err := partsOf(ctx, client, job.ID, &choice, read, func(run int64, a labapi.Artifact) fileOfRun { return fileOfRun{run, a} })
			if err == nil && get != "" {
				files, err = latest(files, job.ID, get)
			}
			switch {
			case err != nil:
				return err
			case to != "":
				return forEach(ctx, cmd, files, "", func(ctx context.Context, a fileOfRun) error { return fetch(ctx, cmd, client, a, to) })
			case get != "":
				return client.ReadBytes(ctx, runPath(files[0].Run, "artifacts", get), 0, cmd.OutOrStdout())
			}
			return show.list(ctx, cmd, func(context.Context) ([]fileOfRun, error) { return files, nil })
		})
}

// latest is the file of a path that the latest run left.
func latest(files []fileOfRun, job int64, path string) ([]fileOfRun, error) {
	for _, f := range slices.Backward(files) {
		if f.Path == path && f.Complete {
			return []fileOfRun{f}, nil
		}
	}
	return nil, fmt.Errorf("%w: no run of job %d left a file %q; 'hostsched job artifacts %[2]d' lists them", errUsage, job, path)
}

func firstError(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// fetch writes a file below a folder, and nowhere else whatever its path says.
func fetch(ctx context.Context, cmd *cobra.Command, client *labclient.Client, a fileOfRun, to string) (err error) {
	if !a.Complete {
		return fmt.Errorf("%s of run %d has not come whole", a.Path, a.Run)
	}
	if !filepath.IsLocal(filepath.FromSlash(a.Path)) {
		return fmt.Errorf("%w: %q would not be below %s", errUsage, a.Path, to)
	}
	if err := os.MkdirAll(to, 0o755); err != nil { //nolint:gosec // results are for everybody who may read the folder
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, root.Close) }()
	name := path.Join(strconv.FormatInt(a.Run, 10), a.Path)
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	err = client.ReadBytes(ctx, runPath(a.Run, "artifacts", a.Path), 0, f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return line(cmd.OutOrStdout(), "%s", strings.Join([]string{strings.TrimSuffix(to, "/"), name}, "/"))
}

// testsText says how many tests there were and failed.
func testsText(r labapi.Run) string {
	switch {
	case r.Tests == 0 && r.TestsFailed == 0:
		return "-"
	case r.Tests == 0:
		return fmt.Sprintf("%d failed", r.TestsFailed) // the job said no more
	}
	return fmt.Sprintf("%d, %d failed", r.Tests, r.TestsFailed)
}

// remarks says what is to be known of runs beside their phases: why they were not run, what
// could not be kept, and which tests failed.
func remarks(w io.Writer, runs []labapi.Run, failed []testOfRun) error {
	for _, r := range runs {
		if r.Detail != "" {
			if err := line(w, "run %d: %s", r.ID, r.Detail); err != nil {
				return err
			}
		}
	}
	for i, t := range failed {
		if i == shownFailed {
			return line(w, "… and %d more tests that did not pass: 'hostsched job results ID' lists them", len(failed)-i)
		}
		if err := line(w, "run %d: %s %s: %s", t.Run, t.Status, t.Name, orDash(firstLine(t.Message))); err != nil {
			return err
		}
	}
	return nil
}

// shownFailed is how many tests are named that did not pass.
const shownFailed = 20

// phasesTable shows what became of each run of a job.
func phasesTable(w io.Writer, runs []labapi.Run) error {
	if len(runs) == 0 {
		return nil
	}
	t := newTable(w)
	t.line("")
	t.row("RUN", "KIND", "STATE", "RESULT", "HOSTS", "CLAIMED", "STARTED", "ENDED", "EXIT", "SIGNAL", "STOPPED", "NOT RUN", "TESTS")
	for _, r := range runs {
		t.row(r.ID, r.Kind, r.State, orDash(r.Result), listed(hostsOfRun(r)), utc(r.Claimed), when(r.Started), when(r.Ended), numberOrDash(r.ExitCode), numberOrDash(r.Signal), orDash(r.StopReason), orDash(r.NotRunReason), testsText(r))
	}
	return t.flush()
}
