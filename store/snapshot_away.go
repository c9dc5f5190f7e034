package store

import (
	"context"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// AgentSilentAfter is how long an agent says nothing until it counts as unreachable. It calls
// at least every 20 seconds.
const AgentSilentAfter = 45 * time.Second

// takesNothing finds the agents a that take nothing new.
func takesNothing(d sqldb.Dialect) string {
	return fmt.Sprintf("(a.revoked IS NOT NULL OR a.seen IS NULL OR a.session = '' OR a.seen < %s - %d OR a.desired <> 'run' OR a.unfit <> '')", d.NowMillis, AgentSilentAfter.Milliseconds())
}

// agentsAway are the agents that take nothing new, with their reasons, and which agent serves
// which host.
type agentsAway struct {
	agents []agentAway
	homes  []home
	// at is when the agents were looked at, in seconds by the database's clock.
	at int64
}

type agentAway struct {
	id           int64
	name, reason string
}

// home says that an agent serves a host.
type home struct{ host, agent int64 }

// readAway reads which hosts have an agent that takes nothing new. Nobody writes down that an
// agent has become silent, so this is looked at every second although nothing was written. As
// every call of an agent is written down, it is nearly always looked at: so only the agents
// that take nothing are read, and their hosts are found here.
func (lab *labRows) readAway(r *sqldb.Reader, stale func(tables ...string) bool) (changed bool) {
	s, a := &lab.snapshot, &lab.away
	homes := stale("hostsched_agent_hosts") && renew(&a.homes, readHomes(r), same)
	agents := false
	if s.Now != a.at || stale("hostsched_agents") {
		a.at = s.Now
		agents = renew(&a.agents, readAgentsAway(r), same)
	}
	if !homes && !agents {
		return false
	}
	return renew(&s.Away, a.hosts(), same)
}

func readHomes(r *sqldb.Reader) (homes []home) {
	r.Rows("SELECT host_id, agent_id FROM hostsched_agent_hosts ORDER BY host_id", func(v sqldb.Row) {
		homes = append(homes, home{v.Int(0).N, v.Int(1).N})
	})
	return homes
}

func readAgentsAway(r *sqldb.Reader) (agents []agentAway) {
	r.Rows("SELECT "+awayColumns+" FROM hostsched_agents a WHERE "+takesNothing(r.Dialect)+" ORDER BY a.id", func(v sqldb.Row) {
		agents = append(agents, agentAwayOf(v))
	})
	return agents
}

const awayColumns = "a.id, a.name, CASE WHEN a.revoked IS NULL THEN 0 ELSE 1 END, a.session, a.seen, a.desired, a.desired_by, a.desired_reason, a.unfit"

func agentAwayOf(v sqldb.Row) agentAway {
	revoked := v.Int(2)
	return agentAway{v.Int(0).N, v.Text(1), whyAway(revoked.Flag(), v.Text(3), v.Int(4), v.Text(5), v.Text(6), v.Text(7), v.Text(8))}
}

// hosts are those of the agents.
func (a *agentsAway) hosts() (away []scheduler.Away) {
	if len(a.agents) == 0 {
		return nil
	}
	byID := make(map[int64]*agentAway, len(a.agents))
	for i := range a.agents {
		byID[a.agents[i].id] = &a.agents[i]
	}
	for _, h := range a.homes {
		if agent := byID[h.agent]; agent != nil {
			away = append(away, scheduler.Away{Host: scheduler.HostID(h.host), Agent: agent.name, Reason: agent.reason})
		}
	}
	return away
}

// AgentsAway are the hosts h for which a condition holds and whose agent takes nothing new, in
// the order of their ids.
func (db *DB) AgentsAway(ctx context.Context, condition string, args ...any) (away []scheduler.Away, err error) {
	query := "SELECT " + awayColumns + ", h.id FROM hostsched_agents a JOIN hostsched_agent_hosts m ON m.agent_id = a.id JOIN afe_hosts h ON h.id = m.host_id" +
		" WHERE " + takesNothing(db.Dialect) + " AND " + condition + " ORDER BY h.id"
	err = db.Read(ctx, func(r *sqldb.Reader) {
		r.RowsOf(query, args, func(v sqldb.Row) {
			agent := agentAwayOf(v)
			away = append(away, scheduler.Away{Host: scheduler.HostID(v.Int(9).N), Agent: agent.name, Reason: agent.reason})
		})
	})
	return away, sqldb.Explain(err, "look whose agents take nothing", db.Target())
}

// whyAway says why an agent takes nothing. seen is when it called last.
func whyAway(revoked bool, session string, seen sqldb.Integer, desired, by, reason, unfit string) string {
	switch {
	case revoked:
		return "its token was revoked"
	case !seen.Valid:
		return "it has never called"
	case session == "":
		return "it has stopped"
	case desired != "run":
		return fmt.Sprintf("asked to %s by %s: %s", desired, by, reason)
	case unfit != "":
		return unfit
	}
	return "not heard since " + time.UnixMilli(seen.N).UTC().Format(time.RFC3339)
}
