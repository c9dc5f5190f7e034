package agentapi

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

const (
	// maxWait is how long a call may wait. Proxies cut longer ones.
	maxWait = 20 * time.Second
	// syncsPerSecond bounds how many calls all agents together make, as long as each of them
	// calls at least every longestInterval: who is silent for longer gets nothing new.
	syncsPerSecond  = 50
	longestInterval = 30 * time.Second
)

func (a *API) syncRoute() {
	op := operation("sync-agent", http.MethodPost, "/sync", "Say all about the agent; the answer waits until there is something to do")
	op.Errors = []int{http.StatusUpgradeRequired}
	route(a, Agents, op, func(ctx context.Context, in *body[labapi.AgentSync]) (*body[labapi.AgentSynced], error) {
		return answer(a.sync(ctx, agentOf(ctx), in.Body))
	})
}

func (a *API) sync(ctx context.Context, agent lab.AgentCaller, in labapi.AgentSync) (out labapi.AgentSynced, err error) {
	protocol, warning, err := choose(in.Protocols, labapi.AgentProtocol)
	if err != nil {
		return out, err
	}
	l := a.cfg.Lab()
	if err := l.EnterSession(ctx, agent, in, protocol); err != nil {
		return out, err
	}
	out.Protocol = protocol
	if warning != "" {
		out.Warnings = append(out.Warnings, warning)
	}
	out.LeaseMillis = a.cfg.Runs().Lease.Milliseconds()
	if err := a.renew(ctx, agent, in, &out); err != nil {
		return out, err
	}
	if err := l.EnterBoot(ctx, agent, in.BootID); err != nil {
		return out, err
	}
	seat := a.hub.enter(agent, in)
	if err := a.hub.noteSeen(ctx, l); err != nil {
		a.hub.faults.Warn("cannot note which agents were seen; nobody new gets the hosts of those that count as silent", "error", err)
	}
	seat.tell(&out)
	wait := waitOf(in, a.cfg.Runs().Lease)
	found, err := a.hub.wait(ctx, seat, wait, len(out.Forget) > 0)
	if err != nil {
		return out, err
	}
	if found.stops != len(out.Stop) {
		if err := a.renew(ctx, agent, in, &out); err != nil {
			return out, err
		}
		seat.tell(&out)
	}
	out.Desired, out.Offers = found.desired, found.offers
	out.NextMillis = nextMillis(found.agents, wait).Milliseconds()
	if found.rotate {
		out.Token, err = l.NextToken(ctx, agent)
	}
	return out, err
}

// renew renews the runs of an agent. Of one that has none and says so, there may still be one
// of its former process.
func (a *API) renew(ctx context.Context, agent lab.AgentCaller, in labapi.AgentSync, out *labapi.AgentSynced) (err error) {
	same := agent.Session == in.Session && agent.BootID == in.BootID
	if same && len(in.Runs) == 0 {
		return nil
	}
	out.Renewed, out.Forget, out.Stop, err = a.cfg.Runs().Renew(ctx, agent.ID, in.Session, in.BootID, in.Runs)
	return err
}

// waitOf is how long a call waits, by chance up to a fifth less, so that agents do not all come
// at once. It ends early enough for the next one to renew the leases.
func waitOf(in labapi.AgentSync, lease time.Duration) time.Duration {
	wait := min(time.Duration(in.WaitMillis)*time.Millisecond, maxWait)
	if len(in.Runs) > 0 {
		wait = min(wait, lease/3)
	}
	return wait - rand.N(wait/5+1) //nolint:gosec // only spreads the agents
}

// nextMillis is how long an agent pauses before its next call, if so many agents would call
// too often otherwise.
func nextMillis(agents int, wait time.Duration) time.Duration {
	pause := min(time.Duration(agents)*time.Second/syncsPerSecond, longestInterval) - wait
	if pause <= 0 {
		return 0
	}
	return pause - rand.N(pause/5+1) //nolint:gosec // only spreads the agents
}
