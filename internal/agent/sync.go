package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/shim"
)

// Errors with which the servers end an agent.
var (
	ErrRevoked  = agentclient.ErrRevoked
	ErrReplaced = agentclient.ErrReplaced
)

const (
	// maxWait is how long a sync may wait, whatever its lease.
	maxWait = 20 * time.Second
	// untaken is how long a sync waits after an answer of which offers were left: the servers
	// tell of them again only when a call has waited its time.
	untaken = 500 * time.Millisecond
	// goodbyeBound bounds the last call.
	goodbyeBound = 2 * time.Second
)

// serve tells the servers all, does what they answer, and tells them again. Runs are followed
// under another context, because they end after it.
func (a *Agent) serve(ctx, following context.Context) error {
	pauses := agentclient.NewBackOff()
	away := a.away("reach the lab's servers")
	begin, unfit := true, ""
	for {
		out, err := a.sync(ctx, begin)
		if ctx.Err() != nil {
			return a.leave()
		}
		pause := time.Duration(0)
		switch {
		case errors.Is(err, context.Canceled): // there was news
			if a.stopping && len(a.allRuns()) == 0 {
				return a.leave()
			}
		case errors.Is(err, agentclient.ErrRevoked):
			a.endAll()
			if !a.joinAgain(ctx, err) {
				return err
			}
		case errors.Is(err, agentclient.ErrReplaced):
			return err
		case err != nil:
			a.joinAgain(ctx, err)
			pause = a.soonEnough(pauses.NextBackOff())
			away(err, pause)
		default:
			begin = false
			pauses.Reset()
			pause = a.obey(ctx, following, out)
			a.rest(len(out.Offers) == 0 && len(a.allRuns()) == 0)
			if a.mayStop(out) {
				return a.leave()
			}
		}
		if now := a.spool.unfit(); now != unfit {
			unfit = now
			a.Log.Warn("whether it takes new runs has changed", "unfit", unfit)
		}
		if !sleep(ctx, pause) {
			return a.leave()
		}
	}
}

// soonEnough is a pause after which claims can still be renewed, if there are any.
func (a *Agent) soonEnough(pause time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.runs) == 0 {
		return pause
	}
	return min(pause, a.lease/4)
}

// sleep tells whether to go on.
func sleep(ctx context.Context, pause time.Duration) bool {
	if pause <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// sync makes the call. News end one that waits with less than the servers should know, or
// while offers are left that can be taken now.
func (a *Agent) sync(ctx context.Context, begin bool) (out labapi.AgentSynced, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What is told now is no news any more.
	news := false
	select {
	case <-a.changed:
		news = true
	default:
	}
	in := a.report(begin || news && a.left)
	in.Begin = begin
	eager := in.Capacity == 0 || in.Unfit != "" || a.stopping || a.left
	go func() {
		select {
		case <-a.changed:
			if eager {
				a.wake() // for the next call, too
				cancel()
			}
		case <-ctx.Done():
		}
	}()
	sent := command.Now()
	if out, err = a.calls().Sync(ctx, in); err != nil {
		return out, err
	}
	length := time.Duration(out.LeaseMillis) * time.Millisecond
	a.setLease(length)
	for _, r := range a.allRuns() {
		if slices.Contains(out.Renewed, r.id) {
			r.renewed(sent, length)
		}
	}
	return out, nil
}

// report is all about the agent.
func (a *Agent) report(atOnce bool) labapi.AgentSync {
	a.mu.Lock()
	defer a.mu.Unlock()
	in := labapi.AgentSync{Session: a.session, BootID: a.boot, Version: a.Version, Address: a.address, Protocols: Protocols, Capacity: max(a.room(), 0), Unfit: a.spool.unfit()}
	wait := maxWait
	if len(a.runs) > 0 {
		wait = min(wait, a.lease/4)
	}
	if a.left {
		wait = min(wait, untaken)
	}
	if atOnce {
		wait = 0
	}
	in.WaitMillis = wait.Milliseconds()
	for _, r := range a.runs {
		in.Runs = append(in.Runs, r.report())
	}
	return in
}

// obey does what the servers answered, and returns how long to wait before the next call.
func (a *Agent) obey(ctx, following context.Context, out labapi.AgentSynced) time.Duration {
	for _, w := range out.Warnings {
		a.Log.Warn("the servers warn", "warning", w)
	}
	a.takeToken(out.Token)
	a.mu.Lock()
	runs := a.runs
	for _, s := range out.Stop {
		if r := runs[s.Run]; r != nil {
			r.stop(s)
		}
	}
	for _, id := range out.Forget {
		if r := runs[id]; r != nil {
			r.forget()
		}
	}
	a.mu.Unlock()
	a.left = out.Desired == labapi.DesiredRun && a.take(ctx, following, out.Offers)
	return time.Duration(out.NextMillis) * time.Millisecond
}

// take claims offers, all at the same time, and returns when all are answered: a sync on the way
// would not know of those runs. It tells whether offers are left although there is room.
func (a *Agent) take(ctx, following context.Context, offers []labapi.Offer) (left bool) {
	var group sync.WaitGroup
	taken := make([]bool, len(offers))
	for i, o := range offers {
		if a.spool.unfit() == "" && a.reserve(o.Hosts) {
			group.Go(func() { taken[i] = a.claim(ctx, following, o) })
		}
	}
	group.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(taken, false) && a.room() > 0
}

// takeToken keeps a new token before it is used.
func (a *Agent) takeToken(token string) {
	if token == "" {
		return
	}
	client, err := a.calls().As(token)
	if err == nil {
		err = a.keepToken(token)
	}
	if err != nil {
		a.Log.Error("the new token of the agent cannot be kept; the old one is used", "err", err)
		return
	}
	a.setClient(client)
	a.Log.Info("the agent has a new token")
}

// joinAgain tries a join token that was not tried yet, when the servers do not know the agent's
// own any more, or revoked the agent: an administrator may have put it there meanwhile. It
// tells whether the agent has another token now.
func (a *Agent) joinAgain(ctx context.Context, cause error) bool {
	refused := errors.Is(cause, agentclient.ErrToken) || errors.Is(cause, agentclient.ErrRevoked)
	if !refused || a.cfg.JoinTokenFile == "" {
		return false
	}
	join, err := readToken(a.cfg.JoinTokenFile)
	if err != nil || join == "" || join == a.joined {
		return false
	}
	a.joined = join
	client, err := a.register(ctx, a.calls(), join)
	if err != nil {
		a.Log.Warn("the join token gives no new token", "err", oneLine(err))
		return false
	}
	a.setClient(client)
	return true
}

// mayStop ends all runs of an agent that is to stop, and tells whether all are over.
func (a *Agent) mayStop(out labapi.AgentSynced) bool {
	a.stopping = out.Desired == labapi.DesiredStop
	if !a.stopping {
		return false
	}
	runs := a.allRuns()
	for _, r := range runs {
		r.stop(labapi.Stop{Run: r.id, Reason: shim.StopAgent, GraceMillis: r.rec.Claimed.Manifest.GraceMillis})
	}
	return len(runs) == 0
}

// endAll kills everything now.
func (a *Agent) endAll() {
	for _, r := range a.allRuns() {
		r.forget()
	}
	a.following.Wait()
}

// leave says that the agent's process ends. Its runs go on.
func (a *Agent) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeBound)
	defer cancel()
	if err := a.calls().Goodbye(ctx, labapi.AgentLeave{Session: a.session}); err != nil {
		a.Log.Info("ends without a goodbye, which nobody answers", "err", oneLine(err))
	}
	return nil
}
