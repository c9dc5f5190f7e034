package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/shim"
)

// claimPause is before a claim that was not answered is repeated, with the same key.
const claimPause = 200 * time.Millisecond

// claim takes an offer up whose hosts are reserved, and tells whether it has. Its run is followed
// under another context.
func (a *Agent) claim(ctx, following context.Context, o labapi.Offer) bool {
	defer a.claimed()
	in := labapi.ClaimInput{Session: a.session, ClaimKey: rand.Text(), Offer: o}
	sent := command.Now()
	late := sent.Add(a.leaseLength() / 2)
	claimed, err := a.calls().Claim(ctx, in)
	for err != nil && agentclient.Passing(err) && late.Until() > claimPause && sleep(ctx, claimPause) {
		claimed, err = a.calls().Claim(ctx, in)
	}
	if err != nil {
		a.free(o.Hosts)
		if !errors.Is(err, agentclient.ErrOfferGone) && ctx.Err() == nil {
			a.Log.Warn("cannot take an offer up", "job", o.Job, "task", o.Task, "err", oneLine(err))
		}
		return false
	}
	rec := record{Claimed: claimed, Boot: a.boot, Sent: sent}
	if sent.Add(time.Duration(claimed.LeaseMillis)*time.Millisecond/2).Until() <= 0 {
		rec.Done = notRun("late-claim", errors.New("the claim was answered too late to begin"))
	}
	if rec.Done == nil && claimed.Manifest.Kind == kindJob {
		if err := a.announce(ctx, &rec); err != nil {
			rec.Done = notRun("not-announced", err)
		}
	}
	r, err := a.begin(rec)
	if err != nil {
		a.Log.Error("cannot begin a run", "run", claimed.Run, "err", oneLine(err))
	}
	if r == nil {
		a.free(o.Hosts)
		return false
	}
	a.follow(following, r)
	return true
}

// announce tells the servers that a job is about to run, and returns once they know: what was
// never announced they may give to somebody else when its lease ends, for it did not run.
func (a *Agent) announce(ctx context.Context, rec *record) error {
	calls, err := a.calls().Run(rec.Claimed.Run, rec.Claimed.Token)
	if err != nil {
		return err
	}
	late := rec.Sent.Add(millis(rec.Claimed.LeaseMillis) / 2)
	for {
		sent := command.Now()
		answer, err := calls.State(ctx, labapi.RunState{Phase: stateRunning})
		switch {
		case err == nil && answer.Stop != nil:
			return errors.New("it is to be stopped: " + answer.Stop.Reason)
		case err == nil:
			if answer.LeaseMillis > 0 {
				rec.Sent, rec.Claimed.LeaseMillis = sent, answer.LeaseMillis
			}
			return nil
		case !agentclient.Passing(err) || late.Until() <= claimPause || !sleep(ctx, claimPause):
			return err
		}
	}
}

// begin starts the shim of a claimed run, unless it is done without.
func (a *Agent) begin(rec record) (*run, error) {
	folder := shim.Folder(a.spool.folder(rec.Claimed.Run))
	var problem error
	if rec.Done == nil {
		rec.Done, problem = a.start(folder, rec)
	}
	r, err := a.newRun(folder, rec)
	return r, errors.Join(problem, err)
}

// start returns how a run ended that has no shim: with nothing to do, or with the reason why it
// cannot be begun.
func (a *Agent) start(folder shim.Folder, rec record) (*labapi.RunFinish, error) {
	p, err := a.plan(rec.Claimed, folder.Work())
	if err != nil {
		return notRun("no-driver", err), err
	}
	if len(p.steps) == 0 {
		return &labapi.RunFinish{Result: labapi.ResultPassed}, nil
	}
	lease := rec.lease()
	m := rec.Claimed.Manifest
	spec := shim.Spec{
		Steps: p.steps, Env: environment(rec.Claimed, folder.Work()), User: a.cfg.runAs, Mask: a.cfg.secretsOf(m), LogCap: m.LogCap,
		Hard: millis(m.HardMillis), Output: millis(m.OutputMillis), Grace: millis(m.GraceMillis), Mark: "HOSTSCHED_CLAIM=" + rand.Text(),
		Cgroup: a.newCgroup(rec.Claimed.Run),
	}
	if m.Kind != kindJob && spec.Hard == 0 {
		spec.Hard = a.cfg.TaskTimeout
	}
	if err := a.fill(folder, spec, p, rec, lease); err != nil {
		return notRun("spool", err), errors.Join(err, folder.Remove())
	}
	if err := folder.Start(a.Shim); err != nil {
		return notRun("spool", err), errors.Join(err, folder.Remove())
	}
	return nil, nil
}

// fill makes the folder. The claim comes last: a folder without one is of no run.
func (a *Agent) fill(folder shim.Folder, spec shim.Spec, p plan, rec record, lease *command.Lease) error {
	if _, err := shim.Create(string(folder), spec, a.control(lease, rec, nil)); err != nil {
		return err
	}
	if p.script != "" {
		if err := writeScript(filepath.Join(folder.Work(), scriptFile), p.script, spec.User); err != nil {
			return err
		}
	}
	return rec.write(folder)
}

func writeScript(path, text string, owner *shim.User) error {
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		return err
	}
	if owner == nil {
		return nil
	}
	return os.Chown(path, int(owner.UID), int(owner.GID))
}

func (rec record) lease() *command.Lease {
	return command.NewLease(rec.Sent, millis(rec.Claimed.LeaseMillis))
}

func (a *Agent) control(lease *command.Lease, rec record, stop *labapi.Stop) shim.Control {
	ask, kill := lease.Stop(millis(rec.Claimed.Manifest.GraceMillis))
	c := shim.Control{Boot: a.boot, Ask: ask, Kill: kill, Length: lease.Length(), Sent: lease.Until().Add(-lease.Length())}
	if stop != nil {
		c.Stop, c.Grace = stop.Reason, millis(stop.GraceMillis)
	}
	return c
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// notRun is the end of a run that was never begun, by no fault of the job.
func notRun(reason string, err error) *labapi.RunFinish {
	return &labapi.RunFinish{Result: labapi.ResultInfra, NotRunReason: reason, Detail: cut(oneLine(err))}
}

// maxDetail is how many characters a detail may have.
const maxDetail = 500

func cut(text string) string {
	if runes := []rune(text); len(runes) > maxDetail {
		return string(runes[:maxDetail])
	}
	return text
}
