package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

const (
	// firstWait is short, so that whoever waits is soon told why; laterWait is how long the
	// servers wait with each further answer. Jobs for which nobody asks are aborted.
	firstWait = time.Second
	laterWait = 5 * time.Second
	// claimBound is for the rest of a call.
	claimBound = 15 * time.Second
	// awayPause is between two calls when no server answers.
	awayPause = time.Second
	// submitFor is for how long a job is submitted to servers that do not answer, unless
	// --wait-timeout allows more: nobody has anything yet that could be lost. submitBound is
	// for one attempt, so that a connection that hangs leaves time for others.
	submitFor   = 30 * time.Second
	submitBound = 10 * time.Second
)

// submit submits a job. All attempts have one key, so the job is one, also if the answer to an
// earlier attempt was lost.
func (c *claimant) submit(ctx context.Context, w *wanted, job labapi.JobSpec) (out labapi.Submitted, err error) {
	call := submitCall("/jobs", false, newKey(), job)
	call.Timeout = submitBound
	patience := cmp.Or(w.waitTimeout, submitFor)
	began := time.Now()
	for said := false; ; said = true {
		err = c.lab.Do(ctx, call, &out)
		if ctx.Err() != nil || !passes(err) || time.Since(began) >= patience {
			return out, err
		}
		if !said && !w.quiet {
			c.say("the job could not be submitted; trying again for %v: %s", patience, oneLine(err))
		}
		if err := pause(ctx, awayPause); err != nil {
			return out, err
		}
	}
}

// passes tells whether the same call may be answered later.
func passes(err error) bool {
	return errors.Is(err, labclient.ErrAway) || labclient.IsProblem(err, "too-many-requests") || labclient.IsProblem(err, "request-running")
}

// newKey makes repeated claims one.
func newKey() string { return rand.Text() }

func signalNumber(sig os.Signal) int {
	if number, ok := sig.(syscall.Signal); ok {
		return int(number)
	}
	return int(syscall.SIGTERM)
}

// awayText is what an error that passes is called, the same each time.
func awayText(err error) string {
	if errors.Is(err, labclient.ErrAway) {
		return labclient.ErrAway.Error()
	}
	return oneLine(err)
}

// queuing is a job that waits for its hosts.
type queuing struct {
	*claimant
	job   int64
	key   string
	quiet bool
	// patience is how long servers may be away.
	patience time.Duration
	said     string
}

// errUnclaimed is a job that ended before it had hosts, errDeserted one that the servers ended
// because they had not heard from here.
var (
	errUnclaimed = errors.New("ended before it had a host")
	errDeserted  = fmt.Errorf("%w, because the servers had not heard from here for a minute", errUnclaimed)
)

// wait returns the claim of the hosts, and when the call was sent from which its lease counts.
func (q *queuing) wait(ctx context.Context) (labapi.Claimed, command.Instant, error) {
	answered := time.Now()
	for wait := firstWait; ; wait = laterWait {
		sent := command.Now()
		out, err := q.claim(ctx, wait)
		switch {
		case ctx.Err() != nil:
			return labapi.Claimed{}, 0, context.Cause(ctx)
		case passes(err) && time.Since(answered) < q.patience:
			q.tell("%s; trying again", awayText(err))
			if err := pause(ctx, awayPause); err != nil {
				return labapi.Claimed{}, 0, err
			}
			continue
		case err != nil:
			return labapi.Claimed{}, 0, err
		case out.Claimed != nil:
			return q.sure(ctx, *out.Claimed, sent)
		case out.Deserted && out.State == labapi.JobAborted:
			return labapi.Claimed{}, 0, fmt.Errorf("job %d %w", q.job, errDeserted)
		case out.State != labapi.JobQueued && out.State != labapi.JobRunning:
			return labapi.Claimed{}, 0, fmt.Errorf("job %d %w: it is %s", q.job, errUnclaimed, out.State)
		}
		answered = time.Now()
		if out.Waiting != "" {
			q.tell("job %d waits: %s", q.job, strings.TrimPrefix(out.Waiting, "waits: "))
		}
	}
}

func (q *queuing) claim(ctx context.Context, wait time.Duration) (out labapi.OwnClaimed, err error) {
	return out, q.lab.Do(ctx, labclient.Call{
		Method: http.MethodPost, Path: jobPath(q.job, "claim"), Repeatable: true, Timeout: wait + claimBound,
		Body: labapi.OwnClaimInput{ClaimKey: q.key, WaitMillis: wait.Milliseconds()},
	}, &out)
}

// sure renews a claim whose answer took long, because the lease counts from a call that may
// have waited.
func (q *queuing) sure(ctx context.Context, claimed labapi.Claimed, sent command.Instant) (labapi.Claimed, command.Instant, error) {
	if q.said != "" && !q.quiet {
		q.say("job %d has %s", q.job, hostNames(claimed.Hosts))
	}
	lease := time.Duration(claimed.LeaseMillis) * time.Millisecond
	if -sent.Until() < lease/10 {
		return claimed, sent, nil
	}
	run, err := q.calls.Run(claimed.Run, claimed.Token)
	if err != nil {
		return claimed, 0, err
	}
	sent = command.Now()
	bounded, cancel := context.WithTimeout(ctx, lease/2)
	defer cancel()
	answer, err := run.Renew(bounded)
	if err != nil {
		return claimed, 0, err
	}
	claimed.LeaseMillis = answer.LeaseMillis
	return claimed, sent, nil
}

func hostNames(hosts []labapi.RunHost) string {
	names := make([]string, len(hosts))
	for i := range hosts {
		names[i] = hosts[i].Hostname
	}
	return strings.Join(names, ", ")
}

// tell says what is new, once.
func (q *queuing) tell(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if q.quiet || text == q.said {
		return
	}
	q.said = text
	q.say("%s", text)
}

// abandon gives up a job that nobody waits for any more. A claim may have been made whose
// answer did not come: the same key gets it, and it is given back.
func (q *queuing) abandon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelBound)
	defer cancel()
	abort := labclient.Call{Method: http.MethodPost, Path: jobPath(q.job, "abort"), Body: labapi.AbortInput{Reason: "whoever submitted it does not wait any more"}, Repeatable: true}
	if err := q.lab.Do(ctx, abort, nil); err != nil {
		q.say("job %d could not be aborted; it is when nobody has asked for it for a minute: %s", q.job, oneLine(err))
		return
	}
	out, err := q.claim(ctx, 0)
	if err != nil || out.Claimed == nil {
		return // there is nothing to give back
	}
	run, err := q.calls.Run(out.Claimed.Run, out.Claimed.Token)
	if err == nil {
		_, err = run.Finish(ctx, labapi.RunFinish{Result: labapi.ResultFailed, StopReason: "aborted", NotRunReason: "interrupted"})
	}
	if err != nil && !errors.Is(err, agentclient.ErrRunLost) {
		q.say("%s could not be given back, and will be taken back when the claim ends: %s", hostNames(out.Claimed.Hosts), oneLine(err))
	}
}

// pause waits, or returns why it does not any more.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
