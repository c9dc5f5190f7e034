package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

const (
	// joinLasts is how long a join token is good.
	joinLasts = 24 * time.Hour
)

// agentName has no capitals, so that every database tells the same names apart.
var agentName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

type agentRow struct {
	labapi.Agent
	id         int64
	registered bool
	session    string
	seen, now  int64
	revoked    bool
	// busy means that it has runs that are not closed.
	busy bool
}

// OpenRuns are the states of runs that are not closed, in SQL, and FreeHost holds for hosts h on
// which none goes on.
const (
	OpenRuns = "('claimed', 'running', 'finishing')"
	FreeHost = "NOT EXISTS (SELECT 1 FROM hostsched_host_epochs e JOIN hostsched_runs r ON r.id = e.run_id WHERE e.host_id = h.id AND r.state IN " + OpenRuns + ")"
)

const agentColumns = "a.id, a.name, a.desired, a.desired_by, a.desired_reason, a.session, a.seen, a.version, a.protocol, a.address, a.capacity, a.unfit, a.created, a.created_by, a.revoked IS NOT NULL, a.token_hash IS NOT NULL"

func (l *Lab) agentRows(ctx context.Context, q sqldb.Querier, condition string, args ...any) ([]agentRow, error) {
	rows := []agentRow{}
	err := sqldb.EachRow(ctx, q, "SELECT "+agentColumns+", "+l.db.Dialect.NowMillis+" FROM hostsched_agents a WHERE "+condition, args, func(scan sqldb.Scanner) error {
		r := agentRow{}
		var created int64
		var seen sql.NullInt64
		err := scan(&r.id, &r.Name, &r.Desired, &r.DesiredBy, &r.DesiredReason, &r.session, &seen, &r.Version, &r.Protocol, &r.Address, &r.Capacity, &r.Unfit,
			&created, &r.CreatedBy, &r.revoked, &r.registered, &r.now)
		r.Seen, r.seen, r.Created = millis(seen), seen.Int64, time.UnixMilli(created).UTC()
		rows = append(rows, r)
		return err
	})
	if err != nil || len(rows) == 0 {
		return rows, err
	}
	return rows, l.fillAgents(ctx, q, rows)
}

// fillAgents reads the hosts and the open runs of agents, and tells what state they are in.
func (l *Lab) fillAgents(ctx context.Context, q sqldb.Querier, rows []agentRow) error {
	byID := make(map[int64]*agentRow, len(rows))
	for i := range rows {
		rows[i].Hosts = []string{}
		byID[rows[i].id] = &rows[i]
	}
	in := sqldb.List(sqldb.IDsOf(rows, func(r agentRow) int64 { return r.id }))
	r := &txReader{ctx: ctx, tx: q}
	r.RowsOf("SELECT m.agent_id, h.hostname FROM hostsched_agent_hosts m JOIN afe_hosts h ON h.id = m.host_id WHERE h.invalid = 0 AND m.agent_id IN "+in+" ORDER BY h.hostname", nil, func(v sqldb.Row) {
		a := byID[v.Int(0).N]
		a.Hosts = append(a.Hosts, v.Text(1))
	})
	r.RowsOf("SELECT agent_id, id FROM hostsched_runs WHERE state IN "+OpenRuns+" AND agent_id IN "+in+" ORDER BY id", nil, func(v sqldb.Row) {
		a := byID[v.Int(0).N]
		a.Runs, a.busy = append(a.Runs, v.Int(1).N), true
	})
	for i := range rows {
		rows[i].State = rows[i].state()
	}
	return r.err
}

// state is derived, so that a restart of anything cannot leave an agent in a wrong one.
func (r *agentRow) state() string {
	switch {
	case r.revoked:
		return labapi.AgentRevoked
	case r.Seen == nil:
		return labapi.AgentNew
	case r.session == "":
		return labapi.AgentStopped
	case time.Duration(r.now-r.seen)*time.Millisecond > store.AgentSilentAfter:
		return labapi.AgentUnreachable
	case r.Desired == labapi.DesiredRun:
		return labapi.AgentOnline
	case r.busy:
		return labapi.AgentDraining
	}
	return labapi.AgentDrained
}

// AgentStates are the numbers of agents by state, and how many of those that are online take
// nothing new because of a fault of their machines.
func (l *Lab) AgentStates(ctx context.Context) (states map[string]int, unfit int, err error) {
	states = map[string]int{}
	for _, s := range labapi.AgentStates {
		states[s] = 0
	}
	query := "SELECT a.desired, a.session, a.seen, a.unfit, a.revoked IS NOT NULL, EXISTS (SELECT 1 FROM hostsched_runs r WHERE r.agent_id = a.id AND r.state IN " + OpenRuns + "), " + l.db.Dialect.NowMillis + " FROM hostsched_agents a"
	err = l.each(ctx, "count the agents of the lab", query, nil, func(scan sqldb.Scanner) error {
		var r agentRow
		var seen sql.NullInt64
		err := scan(&r.Desired, &r.session, &seen, &r.Unfit, &r.revoked, &r.busy, &r.now)
		r.Seen, r.seen = millis(seen), seen.Int64
		state := r.state()
		states[state]++
		if state == labapi.AgentOnline && r.Unfit != "" {
			unfit++
		}
		return err
	})
	return states, unfit, err
}

// Agents lists agents in the order of their ids.
func (l *Lab) Agents(ctx context.Context, after string, limit int) (labapi.Page[labapi.Agent], error) {
	from, err := ParseCursor(after)
	if err != nil {
		return labapi.Page[labapi.Agent]{}, err
	}
	rows, err := l.agentRows(ctx, l.db.Pool, "a.id > ? ORDER BY a.id LIMIT ?", from, limit+1)
	p := page(rows, limit, func(r agentRow) int64 { return r.id })
	out := labapi.Page[labapi.Agent]{Items: make([]labapi.Agent, len(p.Items)), After: p.After}
	for i, r := range p.Items {
		out.Items[i] = r.Agent
	}
	return out, l.explain(err, "list the agents")
}

// Agent returns one agent.
func (l *Lab) Agent(ctx context.Context, name string) (labapi.Agent, error) {
	row, err := l.agent(ctx, l.db.Pool, name)
	return row.Agent, l.explain(err, "read agent "+name)
}

func (l *Lab) agent(ctx context.Context, q sqldb.Querier, name string) (agentRow, error) {
	rows, err := l.agentRows(ctx, q, "a.name = ?", name)
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("%w: there is no agent %q; 'hostsched agent list' shows all", ErrNotFound, shortened(name))
	}
	if err != nil {
		return agentRow{}, err
	}
	return rows[0], nil
}

// changeAgent changes one agent, whose row nobody else changes meanwhile.
func (l *Lab) changeAgent(ctx context.Context, what, name string, work func(*sql.Tx, *agentRow) error) error {
	return l.change(ctx, what+" "+name, func(tx *sql.Tx) error {
		err := sqldb.EachRow(ctx, tx, "SELECT id FROM hostsched_agents WHERE name = ?"+l.db.Dialect.ForUpdate, []any{name}, func(scan sqldb.Scanner) error {
			var id int64
			return scan(&id)
		})
		if err != nil {
			return err
		}
		a, err := l.agent(ctx, tx, name)
		if err != nil {
			return err
		}
		return work(tx, &a)
	})
}

// AddAgent enters an agent with its hosts, and returns the token by which a machine becomes
// it.
func (l *Lab) AddAgent(ctx context.Context, who access.Caller, in labapi.AgentInput) (out labapi.AgentAdded, err error) {
	if !agentName.MatchString(in.Name) {
		return out, fmt.Errorf("%w: %q is no name of an agent: lower case letters, digits, dots, hyphens and underscores, at most 63", ErrInput, shortened(in.Name))
	}
	err = l.change(ctx, "enter agent "+in.Name, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "INSERT INTO hostsched_agents (name, created, created_by) VALUES (?, "+l.db.Dialect.NowMillis+", ?)", in.Name, who.Login)
		if sqldb.IsDuplicate(err) {
			return fmt.Errorf("%w: agent %s; 'hostsched agent join-token %s' makes a new token for its machine", ErrExists, in.Name, in.Name)
		}
		if err != nil {
			return err
		}
		a := agentRow{Agent: labapi.Agent{Name: in.Name}}
		if a.id, err = res.LastInsertId(); err != nil {
			return err
		}
		if err := l.note(ctx, tx, Event{Kind: "agent.added", Who: who.Login, Subject: in.Name}); err != nil {
			return err
		}
		if err := l.changeAgentHosts(ctx, tx, who, &a, labapi.AgentPatch{AddHosts: in.Hosts}); err != nil {
			return err
		}
		out.Join, err = l.newJoinToken(ctx, tx, who, &a)
		return err
	})
	if err != nil {
		return labapi.AgentAdded{}, err
	}
	out.Agent, err = l.Agent(ctx, in.Name)
	return out, err
}

// JoinToken makes a token by which a machine becomes an agent that was entered. What was in
// the place of the agent goes on until the token is used.
func (l *Lab) JoinToken(ctx context.Context, who access.Caller, name string) (out labapi.JoinToken, err error) {
	err = l.changeAgent(ctx, "make a join token for agent", name, func(tx *sql.Tx, a *agentRow) (err error) {
		out, err = l.newJoinToken(ctx, tx, who, a)
		return err
	})
	return out, err
}

func (l *Lab) newJoinToken(ctx context.Context, tx *sql.Tx, who access.Caller, a *agentRow) (labapi.JoinToken, error) {
	secret, err := NewSecret(joinPrefix)
	if err != nil {
		return labapi.JoinToken{}, err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE hostsched_agents SET join_hash = ?, join_expires = "+l.db.Dialect.NowMillis+" + ? WHERE id = ?", HashOf(secret), joinLasts.Milliseconds(), a.id); err != nil {
		return labapi.JoinToken{}, err
	}
	var expires int64
	if err := tx.QueryRowContext(ctx, "SELECT join_expires FROM hostsched_agents WHERE id = ?", a.id).Scan(&expires); err != nil {
		return labapi.JoinToken{}, err
	}
	return labapi.JoinToken{Agent: a.Name, Token: secret, Expires: time.UnixMilli(expires).UTC()}, l.note(ctx, tx, Event{Kind: "agent.join_token", Who: who.Login, Subject: a.Name})
}

// PatchAgent changes which hosts an agent serves. Runs that it has on a host that leaves it
// come to their end there.
func (l *Lab) PatchAgent(ctx context.Context, who access.Caller, name string, p labapi.AgentPatch) (labapi.Agent, error) {
	err := l.changeAgent(ctx, "change the hosts of agent", name, func(tx *sql.Tx, a *agentRow) error { return l.changeAgentHosts(ctx, tx, who, a, p) })
	if err != nil {
		return labapi.Agent{}, err
	}
	return l.Agent(ctx, name)
}

func (l *Lab) changeAgentHosts(ctx context.Context, tx *sql.Tx, who access.Caller, a *agentRow, p labapi.AgentPatch) error {
	add, err := idsOfAll(ctx, tx, hostNames, "host", p.AddHosts)
	if err != nil {
		return err
	}
	remove, err := idsOfAll(ctx, tx, hostNames, "host", p.RemoveHosts)
	if err != nil {
		return err
	}
	var events []Event
	if len(remove) > 0 {
		if _, err := tx.ExecContext(ctx, "DELETE FROM hostsched_agent_hosts WHERE agent_id = ? AND host_id IN "+sqldb.List(remove), a.id); err != nil {
			return err
		}
		events = hostEvents(events, who, remove, p.RemoveHosts, "no longer served by "+a.Name)
	}
	if len(add) > 0 {
		if err := l.homeHosts(ctx, tx, a, add, p.Take); err != nil {
			return err
		}
		events = hostEvents(events, who, add, p.AddHosts, "served by "+a.Name)
	}
	if len(events) == 0 {
		return nil
	}
	return l.note(ctx, tx, events...)
}

func hostEvents(events []Event, who access.Caller, ids []int64, names []string, reason string) []Event {
	for i, id := range ids {
		events = append(events, Event{Kind: "host.agent", Host: id, Who: who.Login, Subject: names[i], Reason: reason})
	}
	return events
}

// homeHosts gives hosts to an agent, and refuses those that another one serves unless they are
// to be taken from it.
func (l *Lab) homeHosts(ctx context.Context, tx *sql.Tx, a *agentRow, hosts []int64, take bool) error {
	// Whoever else gives one of them to an agent now comes before or after. A host that is
	// nobody's has no row below that could be locked.
	if err := l.lockHosts(ctx, tx, hosts); err != nil {
		return err
	}
	in := sqldb.List(hosts)
	if !take {
		var others []string
		r := &txReader{ctx: ctx, tx: tx}
		r.RowsOf("SELECT h.hostname, o.name FROM hostsched_agent_hosts m JOIN hostsched_agents o ON o.id = m.agent_id JOIN afe_hosts h ON h.id = m.host_id WHERE m.agent_id <> ? AND m.host_id IN "+in+" ORDER BY h.hostname"+l.db.Dialect.ForUpdate,
			[]any{a.id}, func(v sqldb.Row) { others = append(others, v.Text(0)+" of "+v.Text(1)) })
		if r.err != nil {
			return r.err
		}
		if len(others) > 0 {
			return fmt.Errorf("%w: a host has one agent, and others serve %s; take them with --take", ErrConflict, cut(strings.Join(others, ", "), 200))
		}
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM hostsched_agent_hosts WHERE host_id IN "+in); err != nil {
		return err
	}
	rows := make([][]any, 0, len(hosts))
	for _, id := range slices.Compact(slices.Sorted(slices.Values(hosts))) {
		rows = append(rows, []any{id, a.id})
	}
	return insert(ctx, tx, "INSERT INTO", "hostsched_agent_hosts (host_id, agent_id)", "(?, ?)", rows)
}

// WantOfAgent says what an administrator wants of an agent: run, drain, stop.
func (l *Lab) WantOfAgent(ctx context.Context, who access.Caller, name, desired, reason string) (labapi.Agent, error) {
	if err := CheckReason(reason, false); err != nil {
		return labapi.Agent{}, err
	}
	err := l.changeAgent(ctx, desired+" agent", name, func(tx *sql.Tx, a *agentRow) error {
		if a.Desired == desired {
			return nil
		}
		return l.want(ctx, tx, a, desired, who.Login, reason)
	})
	if err != nil {
		return labapi.Agent{}, err
	}
	return l.Agent(ctx, name)
}

func (l *Lab) want(ctx context.Context, tx *sql.Tx, a *agentRow, desired, by, reason string) error {
	if _, err := tx.ExecContext(ctx, "UPDATE hostsched_agents SET desired = ?, desired_by = ?, desired_reason = ? WHERE id = ?", desired, by, reason, a.id); err != nil {
		return err
	}
	return l.note(ctx, tx, Event{Kind: "agent." + desired, Who: by, Subject: a.Name, Reason: reason})
}

// RotateAgent asks an agent to take a new token, which it gets with the answer of its next
// call.
func (l *Lab) RotateAgent(ctx context.Context, who access.Caller, name string) error {
	return l.changeAgent(ctx, "rotate the token of agent", name, func(tx *sql.Tx, a *agentRow) error {
		if !a.registered || a.revoked {
			return fmt.Errorf("%w: agent %s has no token; 'hostsched agent join-token %s' makes what it needs to get one", ErrConflict, name, name)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE hostsched_agents SET rotate_since = "+l.db.Dialect.NowMillis+" WHERE id = ?", a.id); err != nil {
			return err
		}
		return l.note(ctx, tx, Event{Kind: "agent.rotate", Who: who.Login, Subject: a.Name})
	})
}

// RevokeAgent takes all rights from an agent. It stops everything when it hears of it.
func (l *Lab) RevokeAgent(ctx context.Context, who access.Caller, name, reason string) error {
	if err := CheckReason(reason, false); err != nil {
		return err
	}
	return l.changeAgent(ctx, "revoke agent", name, func(tx *sql.Tx, a *agentRow) error {
		if a.revoked {
			return nil
		}
		// Its token is still known, so that the agent hears that it was revoked.
		if _, err := tx.ExecContext(ctx, "UPDATE hostsched_agents SET revoked = "+l.db.Dialect.NowMillis+", join_hash = NULL, join_expires = NULL WHERE id = ?", a.id); err != nil {
			return err
		}
		return l.note(ctx, tx, Event{Kind: "agent.revoked", Who: who.Login, Subject: a.Name, Reason: reason})
	})
}

// RemoveAgent removes an agent that has no runs. Its hosts have none then.
func (l *Lab) RemoveAgent(ctx context.Context, who access.Caller, name string) error {
	return l.changeAgent(ctx, "remove agent", name, func(tx *sql.Tx, a *agentRow) error {
		if len(a.Runs) > 0 {
			return fmt.Errorf("%w: agent %s has %d runs; drain it with 'hostsched agent drain %s', and remove it when they are over", ErrConflict, name, len(a.Runs), name)
		}
		for _, statement := range []string{"DELETE FROM hostsched_agent_hosts WHERE agent_id = ?", "DELETE FROM hostsched_agents WHERE id = ?"} {
			if _, err := tx.ExecContext(ctx, statement, a.id); err != nil {
				return err
			}
		}
		return l.note(ctx, tx, Event{Kind: "agent.removed", Who: who.Login, Subject: a.Name})
	})
}

// orNoRow makes another error of a row that is not there.
func orNoRow(err, missing error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return missing
	}
	return err
}
