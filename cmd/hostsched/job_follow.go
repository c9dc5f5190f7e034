package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/scheduler"
)

const (
	// pollJob is how often a job is looked at while somebody waits for it.
	pollJob = time.Second
	// awayFor is how long servers may be away before nobody waits any more: longer than
	// a takeover, and than the restart of a server.
	awayFor = 2 * time.Minute
	// cancelBound is for the abort after Ctrl-C.
	cancelBound = 10 * time.Second
)

// following is waiting for the end of a job.
type following struct {
	// wanted tells whether to wait at all.
	wanted            bool
	follow            bool
	timeout           time.Duration
	cancelOnInterrupt bool
	said              string
}

func (f *following) bind(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.follow, "follow", false, "wait, and say meanwhile why the job waits, what runs, and what it writes")
	bind(cmd, &f.timeout, "wait-timeout", 0, 0, maxWaitForJob, "how long to wait at most; without end if 0")
	cmd.Flags().BoolVar(&f.cancelOnInterrupt, "cancel-on-interrupt", false, "abort the job on Ctrl-C, instead of leaving it alone")
}

// maxWaitForJob is a month.
const maxWaitForJob = 30 * 24 * time.Hour

// wait waits for the end of a job if that is wanted, and returns as an exit code how it ended.
func (f *following) wait(ctx context.Context, cmd *cobra.Command, client *labclient.Client, id int64) error {
	if !f.wanted && !f.follow {
		return nil
	}
	began, answered := time.Now(), time.Now()
	var logs *jobLogs
	if f.follow {
		logs = followJob(ctx, cmd, client, id)
		defer logs.stop()
	}
	for {
		job, err := readJob(ctx, client, id)
		switch {
		case ctx.Err() != nil:
			return f.detach(ctx, client, id)
		case errors.Is(err, labclient.ErrAway) && time.Since(answered) < awayFor:
			f.say(cmd, "no server answers; trying again")
		case err != nil:
			return err
		default:
			answered = time.Now()
			if over, err := endOf(job); over {
				logs.finish()
				f.say(cmd, "job %d %s", id, job.State)
				return err
			}
			f.progress(ctx, cmd, client, job)
		}
		if f.timeout > 0 && time.Since(began) >= f.timeout {
			return coded{exitTimeout, fmt.Errorf("job %d has not ended within %v; go on with 'hostsched job wait %d'", id, f.timeout, id)}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollJob):
		}
	}
}

// endOf tells whether a job is over, and the exit code for how.
func endOf(job labapi.Job) (over bool, err error) {
	switch job.State {
	case labapi.JobPassed:
		return true, nil
	case labapi.JobFailed:
		return true, coded{code: exitFailed}
	case labapi.JobAborted:
		return true, coded{code: exitAborted}
	}
	return false, nil
}

// progress says what a job does now.
func (f *following) progress(ctx context.Context, cmd *cobra.Command, client *labclient.Client, job labapi.Job) {
	if !f.follow {
		return
	}
	if job.State == labapi.JobQueued {
		var e labapi.Explanation
		if err := client.Get(ctx, jobPath(job.ID, "explain"), nil, &e); err == nil && e.Text != "" {
			f.say(cmd, "waiting: %s", e.Text)
		}
		return
	}
	text := ""
	for _, e := range job.Entries {
		if e.Active || !e.Complete {
			text += ", " + entryNow(e)
		}
	}
	f.say(cmd, "job %d %s%s", job.ID, job.State, text)
}

// entryNow is what an entry that is not over does. One that has a host is Queued until its first
// task begins, which would contradict that its job runs.
func entryNow(e labapi.Entry) string {
	if e.Host != "" && e.Status == string(scheduler.StatusQueued) {
		return "has host " + e.Host + ", and waits for its first task"
	}
	return fmt.Sprintf("%s on %s", e.Status, firstOf(e.Host, "no host yet"))
}

// say tells a person who follows what is new, once.
func (f *following) say(cmd *cobra.Command, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !f.follow || text == f.said {
		return
	}
	f.said = text
	fmt.Fprintln(cmd.ErrOrStderr(), printable(text))
}

// detach is what Ctrl-C does: the job goes on, unless it was said to abort it.
func (f *following) detach(ctx context.Context, client *labclient.Client, id int64) error {
	if !f.cancelOnInterrupt {
		return coded{exitDetached, fmt.Errorf("job %d goes on; come back with 'hostsched job wait %d --follow', or end it with 'hostsched job abort %d'", id, id, id)}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelBound)
	defer cancel()
	call := labclient.Call{Method: http.MethodPost, Path: jobPath(id, "abort"), Body: labapi.AbortInput{Reason: "interrupted"}}
	if err := client.Do(ctx, call, nil); err != nil {
		return fmt.Errorf("abort job %d: %w", id, err)
	}
	return coded{exitAborted, fmt.Errorf("job %d was aborted", id)}
}
