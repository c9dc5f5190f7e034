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

// readAway reads which hosts have an agent that takes nothing new. Nobody writes down that an
// agent has become silent, so this is looked at every second although nothing was written.
func (lab *labRows) readAway(r *sqldb.Reader, stale func(tables ...string) bool, moved bool) (changed bool) {
	s := &lab.snapshot
	if s.Now == lab.awayAt && !moved && !stale("hostsched_agents", "hostsched_agent_hosts") {
		return false
	}
	lab.awayAt = s.Now
	return renew(&s.Away, awayIn(r, lab.own.Hosts), same)
}

// AgentsAway are the hosts h for which a condition holds and whose agent takes nothing new, in
// the order of their ids.
func (db *DB) AgentsAway(ctx context.Context, condition string, args ...any) (away []scheduler.Away, err error) {
	err = db.Read(ctx, func(r *sqldb.Reader) { away = awayIn(r, " AND "+condition, args...) })
	return away, sqldb.Explain(err, "look whose agents take nothing", db.Target())
}

func awayIn(r *sqldb.Reader, condition string, args ...any) (away []scheduler.Away) {
	r.RowsOf("SELECT h.id, a.name, CASE WHEN a.revoked IS NULL THEN 0 ELSE 1 END, a.session, a.seen, a.desired, a.desired_by, a.desired_reason, a.unfit"+
		" FROM hostsched_agents a JOIN hostsched_agent_hosts m ON m.agent_id = a.id JOIN afe_hosts h ON h.id = m.host_id WHERE "+takesNothing(r.Dialect)+condition+" ORDER BY h.id", args, func(v sqldb.Row) {
		revoked := v.Int(2)
		away = append(away, scheduler.Away{
			Host: scheduler.HostID(v.Int(0).N), Agent: v.Text(1),
			Reason: whyAway(revoked.Flag(), v.Text(3), v.Int(4), v.Text(5), v.Text(6), v.Text(7), v.Text(8)),
		})
	})
	return away
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
