package agentclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// Errors that claimants tell apart, besides OffsetError. labclient.ErrAway is one more: no
// server answered.
var (
	// ErrToken: the servers do not know the token. What runs goes on until its lease ends;
	// somebody may be about to make a new token.
	ErrToken = errors.New("the servers do not take the token")
	// ErrRevoked: the agent may do nothing any more, and stops everything now.
	ErrRevoked = errors.New("the servers refuse this agent")
	// ErrReplaced: another process serves under the agent's name; this one ends.
	ErrReplaced = errors.New("another process has taken this agent's place")
	// ErrProtocol: the agent is too old or too new for the servers.
	ErrProtocol = errors.New("the servers speak another protocol")
	// ErrAutotest: the jobs of this lab are run by Autotest.
	ErrAutotest = errors.New("the lab's jobs are run by Autotest")
	// ErrOfferGone: the offer is none any more.
	ErrOfferGone = errors.New("the offer is gone")
	// ErrRunLost: the run is closed, or its hosts were given to others. Kill it.
	ErrRunLost = errors.New("the run is lost")
	// ErrLogFull: the rest of the log is only counted.
	ErrLogFull = errors.New("the log is full")
	// ErrUnfinished: the servers do not have all logs of the run yet.
	ErrUnfinished = errors.New("logs of the run are missing")
	// ErrRefused: the call makes no sense to the servers, and will not later.
	ErrRefused = errors.New("the servers refuse the call")
)

var byName = map[string]error{
	labapi.ProblemToken: ErrToken, labapi.ProblemRevoked: ErrRevoked, labapi.ProblemReplaced: ErrReplaced,
	labapi.ProblemOfferGone: ErrOfferGone, labapi.ProblemAutotest: ErrAutotest, labapi.ProblemRunLost: ErrRunLost,
	labapi.ProblemLogFull: ErrLogFull, labapi.ProblemProtocol: ErrProtocol,
}

// OffsetError means that a log goes on elsewhere.
type OffsetError struct {
	// Expected is how many bytes the servers have.
	Expected int64
	err      error
}

// Error implements error.
func (e *OffsetError) Error() string { return e.err.Error() }

func (e *OffsetError) Unwrap() error { return e.err }

// typed gives an answer its error. Answers that are none of hostsched, as those of a proxy,
// mean nothing but that there was no answer.
func typed(err error) error {
	var p *labclient.Problem
	if !errors.As(err, &p) || errors.Is(err, labclient.ErrAway) {
		return err
	}
	if known := byName[p.Name()]; known != nil {
		return fmt.Errorf("%w: %w", known, err)
	}
	switch {
	case p.Type == "", p.Status == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %w", labclient.ErrAway, err)
	case p.ExpectedOffset != nil:
		return &OffsetError{*p.ExpectedOffset, err}
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// Passing tells whether an error may be gone after a while, however often the same call
// failed: no server answers, nobody knows the token, or the lab's runner is another one.
func Passing(err error) bool {
	return errors.Is(err, labclient.ErrAway) || errors.Is(err, ErrToken) || errors.Is(err, ErrAutotest)
}

// NewBackOff returns the pauses between attempts: from one second to one minute, each by
// chance half as long again or half as long, so that a thousand agents do not come at once
// when their server is back.
func NewBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: 2 * time.Second, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 40 * time.Second}
}

// Keep repeats a call until it is answered, or fails with an error that does not pass, or the
// context ends. away hears of each attempt that failed, and after what pause the next comes.
func Keep(ctx context.Context, call func() error, away func(err error, pause time.Duration)) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := call()
		if err != nil && !Passing(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(NewBackOff()), backoff.WithNotify(away), backoff.WithMaxElapsedTime(0))
	return err
}
