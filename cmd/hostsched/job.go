package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// jobStates are those by which jobs are listed.
var jobStates = []string{string(labapi.JobQueued), string(labapi.JobRunning), string(labapi.JobPassed), string(labapi.JobFailed), string(labapi.JobAborted)}

func jobCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "job", Short: "Submit, follow and abort jobs",
		Long: `A job wants hosts: those that it names, or any that carry all its labels. Its
entries wait in the queue until they get one.`,
		Example: "  hostsched job submit job.yaml --follow",
	}, jobSubmitCommand(), jobListCommand(), jobShowCommand(), jobExplainCommand(), jobWaitCommand(), jobLogsCommand(), jobRunsCommand(), jobArtifactsCommand(), jobResultsCommand(), jobAbortCommand(), jobRequeueCommand())
}

// submission is the flags that add to the file of a job.
type submission struct {
	labels          []string
	count, priority int
	suite           int64
	name, owner     string
	dryRun          bool
	key             string
}

// bounds of what is asked for, those of the job spec.
const (
	maxCount    = 10_000
	maxPriority = 2_000_000_000
	maxID       = 1<<31 - 1
	// notGiven is the priority of who says none; it is out of bounds.
	notGiven = -maxPriority - 1
)

func (s *submission) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&s.labels, "label", "l", nil, "one more label that the host must carry")
	bind(cmd, &s.count, "count", 0, 1, maxCount, "hosts wanted; what the file says if left out")
	bind(cmd, &s.priority, "priority", notGiven, -maxPriority, maxPriority, "priority; what the file says if left out")
	f.Lookup("priority").DefValue = ""
	bind(cmd, &s.suite, "suite", 0, 1, maxID, "the suite that the job belongs to")
	f.StringVar(&s.name, "name", "", "another name")
	f.StringVar(&s.owner, "owner", "", "whose job; yours if left out")
	f.BoolVar(&s.dryRun, "dry-run", false, "show what the planner would do, and submit nothing")
	f.StringVar(&s.key, "idempotency-key", "", "a text of your own: submits with the same one are one job, for a day")
}

// read is the job of a file, with what the flags say.
func (s *submission) read(cmd *cobra.Command, file string) (labapi.JobSpec, error) {
	text, err := readInput(cmd, file)
	if err != nil {
		return labapi.JobSpec{}, err
	}
	job, err := jobspec.ReadJob(contentTypeOf(file), text)
	if err != nil {
		return job, fmt.Errorf("%s: %w", file, err)
	}
	job.Labels = append(job.Labels, s.labels...)
	job.Name, job.Owner = firstOf(s.name, job.Name), firstOf(s.owner, job.Owner)
	if s.count > 0 {
		job.Count = s.count
	}
	if s.priority != notGiven {
		job.Priority = s.priority
	}
	if s.suite > 0 {
		job.Suite = s.suite
	}
	return job, jobspec.CheckJob(&job)
}

// contentTypeOf tells the form of a file by its name. YAML also reads what is JSON.
func contentTypeOf(file string) string {
	if strings.HasSuffix(strings.ToLower(file), ".json") {
		return "application/json"
	}
	return "application/yaml"
}

func jobSubmitCommand() *cobra.Command {
	var conn connection
	var s submission
	var f following
	var out output
	cmd := &cobra.Command{
		Use: "submit FILE", Short: "Submit a job", Args: exactly("FILE"),
		Long: `Submit the job of a file in YAML or JSON, - for standard input, and print its id.

With --wait the command ends when the job does, and its exit code says how; with
--follow it also says meanwhile why the job waits and what runs. Ctrl-C leaves the
job alone.

A job that no host can ever run is refused with exit code 4. A submit whose answer
was lost is repeated by itself and makes no second job.`,
		Example: `  hostsched job submit job.yaml --follow
  hostsched job submit job.yaml -l board:eve --count 4 --dry-run
  echo '{name: try, labels: [board:eve], script: "true"}' | hostsched job submit - --wait`,
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := s.read(cmd, args[0])
			if err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				done, err := submit[labapi.Submitted](ctx, client, "/jobs", s.dryRun, s.key, job)
				if err != nil {
					return err
				}
				if err := out.write(cmd, done, func(w io.Writer) error { return submittedText(w, done) }); err != nil || s.dryRun {
					return err
				}
				return f.wait(ctx, cmd, client, done.ID)
			})
		},
	}
	conn.bind(cmd)
	out.bind(cmd, outputYAML, outputName)
	s.bind(cmd)
	f.bind(cmd)
	cmd.Flags().BoolVar(&f.wanted, "wait", false, "wait until the job has ended")
	completeLab(cmd, &conn, "label", labelsOf)
	return cmd
}

// submit sends a job or a suite, under a key by which a repeated call is no second one.
func submit[T any](ctx context.Context, client *labclient.Client, path string, dryRun bool, key string, body any) (T, error) {
	var out T
	return out, client.Do(ctx, submitCall(path, dryRun, key, body), &out)
}

// submitCall is a call that submits something, once however often it is made.
func submitCall(path string, dryRun bool, key string, body any) labclient.Call {
	call := labclient.Call{Method: http.MethodPost, Path: path, Query: query("dry_run", boolText(dryRun)), Body: body}
	if !dryRun {
		call.Header = http.Header{"Idempotency-Key": {strconv.Quote(firstOf(key, rand.Text()))}}
	}
	return call
}

func submittedText(w io.Writer, s labapi.Submitted) error {
	if s.ID != 0 {
		return line(w, "%d", s.ID)
	}
	if s.Explain == nil {
		return line(w, "it would be queued")
	}
	return explanationTable(w, *s.Explain)
}

// holdersText names some of the entries that have hosts, or get them.
func holdersText(r labapi.Reason) string {
	const shown = 5
	if len(r.Entries) == 0 {
		return ""
	}
	names, noun, more := []string{}, "entry", ""
	for _, id := range r.Entries[:min(len(r.Entries), shown)] {
		names = append(names, strconv.FormatInt(id, 10))
	}
	if len(names) > 1 {
		noun = "entries"
	}
	if len(r.Entries) > len(names) {
		more = " and others"
	}
	return fmt.Sprintf(" (%s %s%s)", noun, strings.Join(names, ", "), more)
}

func explanationTable(w io.Writer, e labapi.Explanation) error {
	if err := line(w, "%s", e.Text); err != nil {
		return err
	}
	t := newTable(w)
	for _, entry := range e.Entries {
		var why []string
		for _, r := range entry.Reasons {
			text := r.Reason
			if r.Hosts > 0 {
				text = countOf(r.Hosts, "host") + " " + text + holdersText(r)
			}
			why = append(why, text)
		}
		reason := strings.Join(why, "; ")
		if reason == e.Text {
			reason = "" // it was said above
		}
		name := idOrDash(entry.Entry)
		if entry.Job != "" {
			name = entry.Job
		}
		t.row("entry", name, "host", orDash(entry.Host), reason)
	}
	return t.flush()
}

var jobColumns = []column[labapi.Job]{
	{title: "ID", cell: func(j labapi.Job) any { return j.ID }},
	{title: "NAME", cell: func(j labapi.Job) any { return j.Name }},
	{title: "STATE", cell: func(j labapi.Job) any { return j.State }},
	{title: "OWNER", cell: func(j labapi.Job) any { return j.Owner }},
	{title: "PRIORITY", cell: func(j labapi.Job) any { return j.Priority }},
	{title: "SUITE", cell: func(j labapi.Job) any { return idOrDash(j.Suite) }},
	{title: "LABELS", wide: true, cell: func(j labapi.Job) any { return listed(j.Labels) }},
	{title: "CREATED", cell: func(j labapi.Job) any { return utc(j.Created) }},
	{title: "STARTED", wide: true, cell: func(j labapi.Job) any { return when(j.Started) }},
	{title: "ENDED", wide: true, cell: func(j labapi.Job) any { return when(j.Ended) }},
}

func jobDisplay() *display[labapi.Job] {
	return newDisplay(func(j labapi.Job) string { return strconv.FormatInt(j.ID, 10) }, jobColumns...)
}

func jobListCommand() *cobra.Command {
	var conn connection
	var state, owner, label string
	var suite int64
	var limit int
	var mine bool
	var chosen selecting
	show := jobDisplay()
	cmd := &cobra.Command{
		Use: "list", Short: "List jobs, the newest first", Args: noArgs,
		Example: `  hostsched job list --mine --state queued
  hostsched job list -l board:eve -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if state != "" {
				if err := oneOf(state, jobStates); err != nil {
					return fmt.Errorf("%w: --state: %w", errUsage, err)
				}
			}
			if err := chosen.check(cmd); err != nil {
				return err
			}
			if mine && owner != "" {
				return fmt.Errorf("%w: leave --mine or --owner out", errUsage)
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				if mine {
					me, err := whoAmI(ctx, client)
					if err != nil {
						return err
					}
					owner = me.Owner
				}
				q := query("state", state, "owner", owner, "label", label, "selector", chosen.selector, "suite", idText(suite))
				return show.list(ctx, cmd, func(ctx context.Context) ([]labapi.Job, error) {
					return labclient.List[labapi.Job](ctx, client, "/jobs", q, limit)
				})
			})
		},
	}
	conn.bind(cmd)
	show.bindWatch(cmd)
	chosen.bindSelector(cmd, "only those that depend on labels that fit")
	f := cmd.Flags()
	f.BoolVar(&mine, "mine", false, "only your own")
	f.StringVar(&state, "state", "", "only those in this state: "+strings.Join(jobStates, ", "))
	f.StringVar(&owner, "owner", "", "only those of this user")
	f.StringVarP(&label, "label", "l", "", "only those that depend on this label")
	bind(cmd, &suite, "suite", 0, 1, maxID, "only those of this suite")
	bindLimit(cmd, &limit)
	completeFlag(cmd, "state", cobra.FixedCompletions(jobStates, cobra.ShellCompDirectiveNoFileComp))
	completeLab(cmd, &conn, "label", labelsOf)
	return cmd
}

// defaultLimit is how much of a long list is shown, and maxLimit the most.
const (
	defaultLimit = 100
	maxLimit     = 1_000_000
)

func bindLimit(cmd *cobra.Command, limit *int) {
	bind(cmd, limit, "limit", defaultLimit, 1, maxLimit, "how many at most")
}

func idText(id int64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatInt(id, 10)
}

func whoAmI(ctx context.Context, client *labclient.Client) (labapi.Whoami, error) {
	var me labapi.Whoami
	return me, client.Get(ctx, "/whoami", nil, &me)
}

func jobPath(id int64, more ...string) string {
	return labclient.Path(append([]string{"jobs", strconv.FormatInt(id, 10)}, more...)...)
}

func readJob(ctx context.Context, client *labclient.Client, id int64) (labapi.Job, error) {
	var job labapi.Job
	return job, client.Get(ctx, jobPath(id), nil, &job)
}

func jobShowCommand() *cobra.Command {
	show := jobDisplay()
	return jobPartsCommand(&cobra.Command{Use: "show ID", Short: "Show a job with its entries and runs", Example: "  hostsched job show 7 -o yaml"}, show.bind,
		func(ctx context.Context, cmd *cobra.Command, client *labclient.Client, job labapi.Job) error {
			if show.format == outputName {
				return show.one(cmd, job)
			}
			runs, err := runsOf(ctx, client, job.ID)
			if err != nil {
				return err
			}
			return show.write(cmd, shownJob{job, runs}, func(w io.Writer) error {
				if err := show.one(cmd, job); err != nil {
					return err
				}
				if err := entriesTable(w, job.Entries); err != nil {
					return err
				}
				if err := phasesTable(w, runs); err != nil {
					return err
				}
				failed, err := notPassed(ctx, client, job.ID, runs)
				if err != nil {
					return err
				}
				return remarks(w, runs, failed)
			})
		})
}

// shownJob is a job with its runs.
type shownJob struct {
	labapi.Job
	Runs []labapi.Run `json:"runs"`
}

// notPassed are the tests of runs that failed, also by a mistake of their own.
func notPassed(ctx context.Context, client *labclient.Client, job int64, runs []labapi.Run) (out []testOfRun, err error) {
	if !slices.ContainsFunc(runs, func(r labapi.Run) bool { return r.Tests > 0 && r.TestsFailed > 0 }) {
		return nil, nil
	}
	for _, status := range []string{"failed", "error"} {
		tests, err := testsOf(ctx, client, job, &logChoice{tasks: true}, status)
		if err != nil {
			return nil, err
		}
		out = append(out, tests...)
	}
	return out, nil
}

func entriesTable(w io.Writer, entries []labapi.Entry) error {
	t := newTable(w)
	t.line("")
	t.row("ENTRY", "STATUS", "HOST", "STARTED", "ENDED")
	for _, e := range entries {
		status := e.Status
		if e.Aborted && !e.Complete {
			status += ", to be aborted"
		}
		t.row(e.ID, status, orDash(e.Host), when(e.Started), when(e.Ended))
	}
	return t.flush()
}

func jobExplainCommand() *cobra.Command {
	var out output
	return showCommand(&cobra.Command{Use: "explain ID", Short: "Say why a job waits, or which hosts it gets",
		Long: `Say why a job waits, or which hosts it gets from the next tick. The lab is read for the
answer. Where reading takes longer than 50 ms, as in large labs, those who ask
within a second share what was read, so that an answer may be up to a second old.`,
		Example: "  hostsched job explain 7"},
		jobsOf, pathOfID(jobPath, "explain"), func(cmd *cobra.Command) { out.bind(cmd, outputYAML) },
		func(cmd *cobra.Command, e labapi.Explanation) error {
			return out.write(cmd, e, func(w io.Writer) error { return explanationTable(w, e) })
		})
}

func jobWaitCommand() *cobra.Command {
	var conn connection
	f := following{wanted: true}
	cmd := &cobra.Command{
		Use: "wait ID", Short: "Wait until a job has ended", Args: exactly("ID"),
		Long:    "Wait until a job has ended; the exit code says how ('hostsched help exit-codes').",
		Example: "  hostsched job wait 7 --follow --wait-timeout 2h",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID(args[0])
			if err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error { return f.wait(ctx, cmd, client, id) })
		},
	}
	conn.bind(cmd)
	f.bind(cmd)
	cmd.ValidArgsFunction = completeFirst(&conn, jobsOf)
	return cmd
}

func jobAbortCommand() *cobra.Command {
	return abortCommand("job", "Abort jobs", "the jobs below them, too", jobsOf, selectedJobs, func(ctx context.Context, client *labclient.Client, id int64) (string, int, error) {
		job, err := readJob(ctx, client, id)
		running := 0
		for _, e := range job.Entries {
			if !e.Complete {
				running++
			}
		}
		return job.Owner, running, err
	})
}

// abortCommand aborts jobs or suites. Whoever aborts those of others says why. look reads
// whose something is, and how many hosts are still in use for it.
func abortCommand(noun, short, long string, names labLister, selected labSelected, look func(context.Context, *labclient.Client, int64) (owner string, hosts int, err error)) *cobra.Command {
	var conn connection
	var many bulk
	c := consent{record: "journal"}
	cmd := &cobra.Command{
		Use: "abort ID...", Short: short,
		Long:    short + ", " + long + ". Those of other people need a --reason.",
		Example: "  hostsched " + noun + " abort 7 8 --reason 'wrong build'",
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := many.ids(cmd, args)
			if err != nil {
				return err
			}
			if err := c.ask(cmd, "abort "+many.count(len(ids), noun)); err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				me, err := whoAmI(ctx, client)
				if err != nil {
					return err
				}
				if many.selector != "" {
					names, err := many.resolve(ctx, client, nil)
					if err != nil {
						return err
					}
					if ids, err = parseIDs(names); err != nil {
						return err
					}
				}
				return forEach(ctx, cmd, ids, "", func(ctx context.Context, id int64) error {
					owner, _, err := look(ctx, client, id)
					if err != nil {
						return err
					}
					if owner != me.Owner && strings.TrimSpace(c.reason) == "" {
						return fmt.Errorf("%w: %s %d is %s's; say with --reason why to abort it", errUsage, noun, id, owner)
					}
					call := labclient.Call{Method: http.MethodPost, Path: labclient.Path(noun+"s", strconv.FormatInt(id, 10), "abort"), Body: labapi.AbortInput{Reason: c.reason}}
					if err := client.Do(ctx, call, nil); err != nil {
						return err
					}
					_, hosts, err := look(ctx, client, id)
					if err != nil {
						return err
					}
					return line(cmd.OutOrStdout(), "%d %s", id, abortDone(hosts))
				})
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	if selected != nil {
		many.bindSelected(cmd, "all "+noun+"s that have not ended and depend on labels that fit", selected)
	}
	c.bind(cmd, false)
	cmd.ValidArgsFunction = completeMany(&conn, names)
	return cmd
}

// abortDone says what an abort has done so far.
func abortDone(hosts int) string {
	if hosts == 0 {
		return "aborted"
	}
	return "is being aborted: whoever runs it ends it on " + countOf(hosts, "host")
}

func jobRequeueCommand() *cobra.Command {
	var conn connection
	var many bulk
	cmd := &cobra.Command{
		Use: "requeue ID...", Short: "Submit jobs once more and print the new ids", Example: "  hostsched job requeue 7",
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := many.ids(cmd, args)
			if err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return forEach(ctx, cmd, ids, "", func(ctx context.Context, id int64) error {
					made, err := submit[labapi.Submitted](ctx, client, jobPath(id, "requeue"), false, "", nil)
					if err != nil {
						return err
					}
					return line(cmd.OutOrStdout(), "%d", made.ID)
				})
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	cmd.ValidArgsFunction = completeMany(&conn, jobsOf)
	return cmd
}
