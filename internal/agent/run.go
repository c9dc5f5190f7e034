package agent

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runlog"
	"github.com/hostsched/hostsched/internal/shim"
)

// States of a run, as labapi.AgentRun has them.
const (
	stateClaimed   = "claimed"
	stateRunning   = "running"
	stateFinishing = "finishing"
)

// run is a run that the agent follows. One goroutine guards its processes, and waits for
// nobody; another one tells the servers.
type run struct {
	agent  *Agent
	id     int64
	folder shim.Folder
	rec    record
	calls  *agentclient.Run
	lease  *command.Lease
	// news wakes the guard.
	news chan struct{}
	// began and over are closed when the first step began, and when nothing runs any more.
	began, over chan struct{}
	// lost is closed when the run is none of this agent's any more.
	lost     chan struct{}
	loseOnce sync.Once
	// finish is how it ended, once it is over.
	finish labapi.RunFinish

	mu       sync.Mutex
	state    string
	spooled  int64
	stopping *labapi.Stop
}

func (a *Agent) newRun(folder shim.Folder, rec record) (*run, error) {
	calls, err := a.calls().Run(rec.Claimed.Run, rec.Claimed.Token)
	if err != nil {
		return nil, err
	}
	lease := rec.lease()
	if c, ok := folder.Control(); ok && c.Boot == a.boot {
		lease = command.NewLease(c.Sent, c.Length)
	}
	return &run{
		agent: a, id: rec.Claimed.Run, folder: folder, rec: rec, calls: calls, lease: lease, state: stateClaimed,
		news: make(chan struct{}, 1), began: make(chan struct{}), over: make(chan struct{}), lost: make(chan struct{}),
	}, nil
}

// follow returns when the servers have all of the run, or have given it up, and nothing of it
// is left; or when the agent ends.
func (r *run) follow(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-r.lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	var guard sync.WaitGroup
	guard.Go(func() { r.guard(ctx) })
	closed := r.tell(ctx)
	guard.Wait()
	if !closed && !r.isLost() {
		return // the agent ends, and the run goes on
	}
	r.remove()
}

func (r *run) remove() {
	if r.rec.Done == nil {
		r.agent.removeStrange(r.folder)
	}
}

func (r *run) report() labapi.AgentRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	return labapi.AgentRun{Run: r.id, State: r.state, Spooled: r.spooled}
}

func (r *run) setState(state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = state
}

// forget ends a run that is none of this agent's any more.
func (r *run) forget() { r.loseOnce.Do(func() { close(r.lost) }) }

func (r *run) isLost() bool {
	select {
	case <-r.lost:
		return true
	default:
		return false
	}
}

// stop asks for the end of the run.
func (r *run) stop(s labapi.Stop) {
	r.mu.Lock()
	first := r.stopping == nil
	if first {
		r.stopping = &s
	}
	r.mu.Unlock()
	if first {
		r.wake()
	}
}

func (r *run) renewed(sent command.Instant, length time.Duration) {
	r.lease.Renewed(sent, length)
	r.wake()
}

func (r *run) wake() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// look is how often the guard looks at the clock. Timers stand still while the machine sleeps.
const look = 100 * time.Millisecond

// guard passes on to the shim what it must know, and ends everything in its place if it does
// not. It returns when nothing runs any more, the run is lost, or the agent ends.
func (r *run) guard(ctx context.Context) {
	if r.rec.Done != nil {
		r.end(*r.rec.Done)
		return
	}
	bell, err := r.folder.Bell()
	if err == nil {
		defer bell.Close() //nolint:errcheck // it has nothing to keep
		go r.listen(bell)
	}
	clock := time.NewTicker(look)
	defer clock.Stop()
	var told shim.Control
	for r.goesOn(&told) {
		select {
		case <-ctx.Done():
			return
		case <-r.news:
		case <-clock.C:
		}
	}
}

func (r *run) listen(bell *os.File) {
	buffer := make([]byte, 64)
	for {
		if _, err := bell.Read(buffer); err != nil {
			return
		}
		r.wake()
	}
}

// goesOn tells whether anything of the run may be alive.
func (r *run) goesOn(told *shim.Control) bool {
	r.mu.Lock()
	stop := r.stopping
	r.mu.Unlock()
	if c := r.agent.control(r.lease, r.rec, stop); c != *told {
		if err := r.folder.SetControl(c); err != nil {
			r.agent.Log.Error("cannot tell a run its deadline; it will end", "run", r.id, "err", err)
		} else {
			*told = c
		}
	}
	r.noteBegan()
	// Whether it began is looked for before the lock, which a shim takes before it says so:
	// otherwise one that begins in between would count as gone. The result is looked for after
	// the lock: a shim writes it before it ends.
	old := r.isOld()
	alive, err := r.folder.Alive()
	if err == nil && !alive {
		if result, over := r.folder.Result(); over {
			r.noteBegan()
			r.end(r.finishOf(result))
			return false
		}
	}
	if err != nil || alive || !old {
		return r.mayLive()
	}
	return !r.bury("the process that ran it was killed", r.overdue())
}

// startBound is how long a shim may take to begin.
const startBound = 10 * time.Second

// isOld tells whether a shim that does not live has lived, or would by now.
func (r *run) isOld() bool {
	_, began := r.folder.Began()
	return began || r.rec.Sent.Add(startBound).Until() <= 0
}

func (r *run) noteBegan() {
	select {
	case <-r.began:
		return
	default:
	}
	if b, ok := r.folder.Began(); ok && b.Step != "" {
		r.mu.Lock()
		if r.state == stateClaimed {
			r.state = stateRunning
		}
		r.mu.Unlock()
		close(r.began)
	}
}

// slack is how much later than the shim its agent kills.
const slack = 500 * time.Millisecond

// mayLive ends a run whose shim did not end it when it had to.
func (r *run) mayLive() bool {
	if r.mustBeOver().Add(min(slack, r.lease.Length()/20)).Until() > 0 {
		return true
	}
	return !r.bury("the process that ran it did not end it when its lease ended", shim.StopLease)
}

// mustBeOver is when nothing of the run may be alive any more.
func (r *run) mustBeOver() command.Instant {
	_, kill := r.lease.Stop(millis(r.rec.Claimed.Manifest.GraceMillis))
	return kill
}

// overdue is the reason for which a run was ended that must be over, empty for another one.
func (r *run) overdue() string {
	if r.mustBeOver().Until() > 0 {
		return ""
	}
	return shim.StopLease
}

// bury kills all that is left of a run without result. The reason for which it was ended is that
// from before: an answer that came late may renew the lease meanwhile.
func (r *run) bury(why, reason string) bool {
	if !r.folder.Kill() {
		r.agent.Log.Error("processes of a run cannot be killed", "run", r.id, "folder", string(r.folder))
		return false
	}
	if result, over := r.folder.Result(); over { // it ended just now
		r.end(r.finishOf(result))
		return true
	}
	in := labapi.RunFinish{Result: labapi.ResultInfra, Detail: why, StopReason: reason}
	if b, ok := r.folder.Began(); !ok || b.Step == "" {
		in.NotRunReason = shim.NotStarted
	}
	r.agent.Log.Warn("a run has ended without result", "run", r.id, "why", why)
	r.end(in)
	return true
}

func (r *run) end(in labapi.RunFinish) {
	r.finish = in
	r.setState(stateFinishing)
	close(r.over)
}

// tell tells the servers about the run until they have all of it, and tells whether they have.
func (r *run) tell(ctx context.Context) bool {
	logs := r.newLogs()
	select {
	case <-r.began:
		// Jobs were announced before they began. What was refused shows at the end.
		if r.rec.Claimed.Manifest.Kind == kindJob {
			break
		}
		_ = r.call(ctx, "tell that a run began", func() (labapi.RunAnswer, error) {
			return r.calls.State(ctx, labapi.RunState{Phase: stateRunning})
		})
	case <-r.over:
	case <-ctx.Done():
		return false
	}
	for ctx.Err() == nil && !isClosed(r.over) {
		r.sendLogs(ctx, logs)
		r.renewIfShort(ctx)
		select {
		case <-ctx.Done():
		case <-r.over:
		case <-time.After(min(runlog.Flush, r.lease.Length()/8)):
		}
	}
	return ctx.Err() == nil && r.close(ctx, logs)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// renewIfShort is for when the agent's own calls fail: those of runs have tokens of their own.
func (r *run) renewIfShort(ctx context.Context) {
	if r.lease.Until().Until() > r.lease.Length()/2 {
		return
	}
	sent := command.Now()
	answer, err := r.calls.Renew(ctx)
	r.hear(sent, answer, err)
}

// hear takes what every answer has, and tells whether the call was answered.
func (r *run) hear(sent command.Instant, answer labapi.RunAnswer, err error) bool {
	switch {
	case errors.Is(err, agentclient.ErrRunLost):
		r.agent.Log.Warn("a run is none of this agent's any more", "run", r.id)
		r.forget()
		return false
	case err != nil:
		return false
	}
	if answer.LeaseMillis > 0 {
		r.renewed(sent, millis(answer.LeaseMillis))
	}
	if answer.Stop != nil {
		r.stop(*answer.Stop)
	}
	return true
}

// call repeats a call until it is answered, and returns why it was refused.
func (r *run) call(ctx context.Context, what string, call func() (labapi.RunAnswer, error)) error {
	var sent command.Instant
	var answer labapi.RunAnswer
	err := agentclient.Keep(ctx, func() (err error) {
		sent = command.Now()
		answer, err = call()
		return err
	}, r.agent.away(what))
	r.hear(sent, answer, err)
	return err
}

// close sends the rest of the logs and the files, and finishes the run. It returns false if the agent ends
// first.
func (r *run) close(ctx context.Context, logs []*runlog.Log) bool {
	if backlog(logs) > runlog.Chunk {
		_ = r.call(ctx, "tell that a run ended", func() (labapi.RunAnswer, error) {
			return r.calls.State(ctx, labapi.RunState{Phase: stateFinishing, ExitCode: r.finish.ExitCode, Signal: r.finish.Signal})
		})
	}
	found := r.collect(ctx)
	defer found.Close() //nolint:errcheck // it was only read
	for ctx.Err() == nil {
		if !r.sendLogs(ctx, logs) || !r.sendFiles(ctx, found) {
			sleep(ctx, time.Second)
			continue
		}
		in := detailed(r.finish, found)
		in.Streams = runlog.Ends(in.Streams, logs)
		err := r.call(ctx, "finish a run", func() (labapi.RunAnswer, error) { return r.calls.Finish(ctx, in) })
		switch {
		case err == nil:
			r.agent.Log.Info("a run has ended", "run", r.id, "result", in.Result)
			return true
		case errors.Is(err, agentclient.ErrUnfinished):
			// The servers have less than they said: they say how much.
			runlog.Rewind(logs)
			sleep(ctx, time.Second)
		case errors.Is(err, agentclient.ErrRefused):
			r.agent.Log.Error("the servers do not take the end of a run, and will give it up", "run", r.id, "err", oneLine(err))
			r.forget()
		}
	}
	return false
}
