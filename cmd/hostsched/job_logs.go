package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// logChoice says which logs of a job are meant.
type logChoice struct {
	run    int64
	stream string
	tasks  bool
}

func (c *logChoice) bind(cmd *cobra.Command) {
	bind(cmd, &c.run, "run", 0, 1, maxID, "only this run of the job; 'hostsched job runs' lists them")
	cmd.Flags().StringVar(&c.stream, "stream", "", "only this log of each run, like stdout")
	cmd.Flags().BoolVar(&c.tasks, "tasks", false, "also those of special tasks of the job, like Reset")
}

// takes tells whether a run's logs are meant.
func (c *logChoice) takes(r labapi.Run) bool {
	if c.run != 0 {
		return r.ID == c.run
	}
	return c.tasks || r.Kind == labapi.OwnReserve || r.Kind == "job"
}

// runsOf are the runs of a job, the oldest first.
func runsOf(ctx context.Context, client *labclient.Client, job int64) ([]labapi.Run, error) {
	all, err := labclient.List[labapi.Run](ctx, client, "/runs", query("job", idText(job)), 0)
	slices.Reverse(all)
	return all, err
}

func logsOf(ctx context.Context, client *labclient.Client, run int64) ([]labapi.Log, error) {
	var page labapi.Page[labapi.Log]
	err := client.Get(ctx, runPath(run, "logs"), nil, &page)
	return page.Items, err
}

func jobLogsCommand() *cobra.Command {
	var conn connection
	var choice logChoice
	var follow bool
	var offset int64
	cmd := &cobra.Command{
		Use: "logs ID", Short: "Print what the runs of a job wrote", Args: exactly("ID"),
		Long: `Print what the runs of a job wrote, byte for byte. If there are several logs, a line
like ==> run 7 on h1: stdout <== says whose the following ones are.

With -f the command goes on until the job has ended, also when the server that it reads
from goes away. Its exit code is 0, whatever became of the job; see 'hostsched job wait'.`,
		Example: `  hostsched job logs -f 7
  hostsched job logs 7 --run 12 --stream stdout > log.txt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID(args[0])
			if err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				if _, err := readJob(ctx, client, id); err != nil {
					return err
				}
				if follow {
					return followLogs(ctx, cmd, client, id, choice, offset)
				}
				return printLogs(ctx, cmd, client, id, choice, offset)
			})
		},
	}
	conn.bind(cmd)
	choice.bind(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until the job has ended")
	bind(cmd, &offset, "offset", 0, 0, 1<<62, "the first byte of each log to print")
	cmd.ValidArgsFunction = completeFirst(&conn, jobsOf)
	return cmd
}

// chosenLog is a log of a run that is to be printed.
type chosenLog struct {
	run labapi.Run
	log labapi.Log
}

// chosen are the logs of a job that are to be printed; without says why there is none at all.
func (c logChoice) chosen(ctx context.Context, client *labclient.Client, job int64) (out []chosenLog, without string, err error) {
	runs, err := runsOf(ctx, client, job)
	if err != nil {
		return nil, "", err
	}
	without, found := noLogs(job, runs), 0
	for _, run := range runs {
		if !c.takes(run) {
			continue
		}
		logs, err := logsOf(ctx, client, run.ID)
		if err != nil {
			return nil, "", err
		}
		found += len(logs)
		for _, log := range logs {
			if c.stream == "" || log.Stream == c.stream {
				out = append(out, chosenLog{run, log})
			}
		}
	}
	if found > 0 {
		without = ""
	}
	return out, without, nil
}

// noLogs says why a job with these runs has no logs.
func noLogs(job int64, runs []labapi.Run) string {
	i := slices.IndexFunc(runs, func(r labapi.Run) bool { return r.Kind == "job" && r.Agent == "" })
	if i < 0 {
		return fmt.Sprintf("job %d has no logs: nothing has run, nothing was written, or it was deleted because it was old", job)
	}
	return fmt.Sprintf("job %d has no logs: %s ran its command with 'hostsched run', and what it wrote, if anything, went to where that was called; 'hostsched run --log' also keeps it here", job, firstOf(runs[i].Login, "somebody"))
}

func printLogs(ctx context.Context, cmd *cobra.Command, client *labclient.Client, job int64, choice logChoice, offset int64) error {
	logs, without, err := choice.chosen(ctx, client, job)
	if err != nil {
		return err
	}
	out := &mixed{to: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), several: len(logs) > 1}
	for _, l := range logs {
		source := out.source(l.run, l.log.Stream)
		if err := client.ReadBytes(ctx, runPath(l.run.ID, "logs", l.log.Stream), offset, source); err != nil {
			return err
		}
		source.cut(l.log.Cut)
	}
	return sayWithout(cmd, without)
}

// sayWithout says why there are no logs, if there are none.
func sayWithout(cmd *cobra.Command, text string) error {
	if text == "" {
		return nil
	}
	return line(cmd.ErrOrStderr(), "%s", printable(text))
}

// mixed is where the logs of several runs go, with a line before each change of source.
type mixed struct {
	to, notes io.Writer

	mu      sync.Mutex
	several bool
	last    string
	// midLine tells whether the last byte ended no line.
	midLine bool
}

// logSource writes one log.
type logSource struct {
	*mixed
	name string
}

func (m *mixed) source(run labapi.Run, stream string) logSource {
	what := "run"
	if run.Kind != "job" && run.Kind != labapi.OwnReserve {
		what = run.Kind + " run"
	}
	return logSource{m, printable(fmt.Sprintf("%s %d on %s: %s", what, run.ID, strings.Join(hostsOfRun(run), ", "), stream))}
}

// Write implements io.Writer.
func (s logSource) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.several && s.last != s.name {
		gap := ""
		if s.midLine {
			gap = "\n"
		}
		if _, err := fmt.Fprintf(s.to, "%s==> %s <==\n", gap, s.name); err != nil {
			return 0, err
		}
	}
	s.last, s.midLine = s.name, len(p) > 0 && p[len(p)-1] != '\n'
	return s.to.Write(p)
}

// cut says that not all of a log was kept.
func (s logSource) cut(bytes int64) {
	if bytes > 0 {
		fmt.Fprintf(s.notes, "hostsched: %s: %d more bytes were over the cap and were not kept\n", s.name, bytes)
	}
}

// jobLogs follows all logs of a job as its runs come and go.
type jobLogs struct {
	cmd    *cobra.Command
	client *labclient.Client
	job    int64
	choice logChoice
	offset int64
	out    *mixed

	ctx    context.Context
	cancel context.CancelFunc
	// ending is closed when no more runs come; looking and reading are under way until then.
	ending  chan struct{}
	looking sync.WaitGroup
	reading sync.WaitGroup
	once    sync.Once

	mu     sync.Mutex
	known  map[string]bool
	failed error
}

func followJob(ctx context.Context, cmd *cobra.Command, client *labclient.Client, job int64) *jobLogs {
	return newJobLogs(ctx, cmd, client, job, logChoice{}, 0)
}

func newJobLogs(ctx context.Context, cmd *cobra.Command, client *labclient.Client, job int64, choice logChoice, offset int64) *jobLogs {
	f := &jobLogs{cmd: cmd, client: client, job: job, choice: choice, offset: offset, out: &mixed{to: cmd.OutOrStdout(), notes: cmd.ErrOrStderr()}, ending: make(chan struct{}), known: map[string]bool{}}
	f.ctx, f.cancel = context.WithCancel(ctx)
	f.looking.Go(f.look)
	return f
}

// look looks for logs that are not followed yet until no more can come, and then once more.
func (f *jobLogs) look() {
	for {
		over := false
		select {
		case <-f.ctx.Done():
			return
		case <-f.ending:
			over = true
		case <-time.After(pollJob / 2):
		}
		if err := f.lookOnce(); err != nil && !errors.Is(err, labclient.ErrAway) {
			f.fail(err)
			return
		}
		if over {
			return
		}
	}
}

func (f *jobLogs) lookOnce() error {
	runs, err := runsOf(f.ctx, f.client, f.job)
	if err != nil {
		return err
	}
	for _, run := range runs {
		if !f.choice.takes(run) {
			continue
		}
		logs, err := logsOf(f.ctx, f.client, run.ID)
		if err != nil {
			return err
		}
		for _, log := range logs {
			if f.choice.stream == "" || log.Stream == f.choice.stream {
				f.begin(run, log.Stream)
			}
		}
	}
	return nil
}

// begin follows a log, unless that is done already.
func (f *jobLogs) begin(run labapi.Run, stream string) {
	source := f.out.source(run, stream)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known[source.name] {
		return
	}
	f.known[source.name] = true
	f.out.mu.Lock()
	f.out.several = len(f.known) > 1
	f.out.mu.Unlock()
	f.reading.Go(func() {
		over, err := f.client.FollowLog(f.ctx, run.ID, stream, f.offset, func(part labapi.LogPart) error {
			_, err := source.Write(part.Data)
			return err
		}, func(err error) {
			fmt.Fprintf(f.cmd.ErrOrStderr(), "hostsched: the log goes on when a server answers: %v\n", printable(oneLine(err)))
		})
		if err != nil {
			f.fail(err)
		}
		source.cut(over.Cut)
		if over.Lost {
			fmt.Fprintf(f.cmd.ErrOrStderr(), "hostsched: %s: the run was lost, and the end of its log may be missing\n", source.name)
		}
	})
}

func (f *jobLogs) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = errors.Join(f.failed, err)
}

// finish waits until all is written: the job has ended.
func (f *jobLogs) finish() {
	if f == nil {
		return
	}
	f.once.Do(func() { close(f.ending) })
	f.looking.Wait()
	f.reading.Wait()
}

// sayWithout says why there was nothing to follow.
func (f *jobLogs) sayWithout() error {
	if len(f.known) > 0 {
		return nil
	}
	_, without, err := f.choice.chosen(f.ctx, f.client, f.job)
	if err != nil {
		return err
	}
	return sayWithout(f.cmd, without)
}

// stop ends the following.
func (f *jobLogs) stop() {
	f.cancel()
	f.looking.Wait()
	f.reading.Wait()
}

// followLogs follows the logs of a job until it has ended.
func followLogs(ctx context.Context, cmd *cobra.Command, client *labclient.Client, id int64, choice logChoice, offset int64) error {
	f := newJobLogs(ctx, cmd, client, id, choice, offset)
	defer f.stop()
	for {
		job, err := readJob(ctx, client, id)
		if err != nil && !errors.Is(err, labclient.ErrAway) {
			return err
		}
		if over, _ := endOf(job); over && err == nil {
			f.finish()
			return errors.Join(f.failed, f.sayWithout())
		}
		select {
		case <-ctx.Done():
			return coded{exitDetached, fmt.Errorf("job %d goes on", id)}
		case <-time.After(pollJob):
		}
	}
}
