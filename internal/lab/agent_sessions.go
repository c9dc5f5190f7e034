package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Errors that agents tell apart.
var (
	// ErrRevoked means that an agent may do nothing any more.
	ErrRevoked = errors.New("the agent was revoked")
	// ErrReplaced means that another process serves under the name of the agent.
	ErrReplaced = errors.New("another process has taken this agent's place")
)

// AgentCaller is an agent that calls.
type AgentCaller struct {
	ID   int64
	Name string
	// Session and what follows is what it said last.
	Session, BootID, Version, Address string
	Protocol                          int
	// Desired is what an administrator wants of it.
	Desired string
	// Rotate means that an administrator wants it to take a new token.
	Rotate bool
}

// Who is how the journal names an agent.
func (a AgentCaller) Who() string { return "agent " + a.Name }

// Serves refuses a session of an agent whose place was taken, or that never began.
func (a AgentCaller) Serves(session string) error {
	if a.Session != session {
		return fmt.Errorf("%w: only one process may serve as %s", ErrReplaced, a.Name)
	}
	return nil
}

// JoinAgent makes who shows a join token the agent of its name, and returns its token. As
// long as that was not used, the join token is good for another one: the answer may be lost.
func (l *Lab) JoinAgent(ctx context.Context, in labapi.AgentJoin) (secret string, err error) {
	if !WellFormed(in.JoinToken, joinPrefix) {
		return "", fmt.Errorf("%w: it is no join token of hostsched", ErrToken)
	}
	if secret, err = NewSecret(agentPrefix); err != nil {
		return "", err
	}
	err = l.change(ctx, "let agent "+in.Name+" join", func(tx *sql.Tx) error {
		var id, expires, now int64
		var name string
		err := tx.QueryRowContext(ctx, "SELECT id, name, join_expires, "+l.db.Dialect.NowMillis+" FROM hostsched_agents WHERE join_hash = ?"+l.db.Dialect.ForUpdate, HashOf(in.JoinToken)).Scan(&id, &name, &expires, &now)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("%w: nobody knows this join token, or it was used already; 'hostsched agent join-token NAME' makes a new one", ErrToken)
		case err != nil:
			return err
		case name != in.Name:
			return fmt.Errorf("%w: the join token is for another agent than %q", ErrToken, shortened(in.Name))
		case expires <= now:
			return fmt.Errorf("%w: the join token expired at %s; 'hostsched agent join-token %s' makes a new one", ErrToken, time.UnixMilli(expires).UTC().Format(time.RFC3339), name)
		}
		// An agent that was revoked comes back with its new token alone.
		if _, err := tx.ExecContext(ctx, "UPDATE hostsched_agents SET token_hash = CASE WHEN revoked IS NULL THEN token_hash END, next_token_hash = ?, revoked = NULL WHERE id = ?", HashOf(secret), id); err != nil {
			return err
		}
		return l.note(ctx, tx, Event{Kind: "agent.joined", Who: "agent " + name, Subject: name, Reason: cut(in.Version, maxReason)})
	})
	return secret, err
}

// AuthenticateAgent returns whose token this is. The first call with a new token ends the one
// before, and the join token.
func (l *Lab) AuthenticateAgent(ctx context.Context, secret string) (a AgentCaller, err error) {
	if !WellFormed(secret, agentPrefix) {
		return a, fmt.Errorf("%w: it is no token of an agent", ErrToken)
	}
	hash := HashOf(secret)
	var revoked, fresh bool
	err = l.db.Pool.QueryRowContext(ctx, "SELECT id, name, session, boot_id, version, address, protocol, desired, rotate_since IS NOT NULL, revoked IS NOT NULL, COALESCE(next_token_hash = ?, 0)"+
		" FROM hostsched_agents WHERE token_hash = ? OR next_token_hash = ?", hash, hash, hash).
		Scan(&a.ID, &a.Name, &a.Session, &a.BootID, &a.Version, &a.Address, &a.Protocol, &a.Desired, &a.Rotate, &revoked, &fresh)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return a, fmt.Errorf("%w: no agent has it; 'hostsched agent join-token NAME' makes what an agent needs to get a new one", ErrToken)
	case err != nil:
		return a, l.explain(err, "look the token of an agent up")
	case revoked:
		return a, fmt.Errorf("%w: stop all its runs; a new join token lets it come back", ErrRevoked)
	case fresh:
		a.Rotate = false
		_, err = l.db.Pool.ExecContext(ctx, "UPDATE hostsched_agents SET token_hash = ?, next_token_hash = NULL, join_hash = NULL, join_expires = NULL, rotate_since = NULL WHERE id = ? AND next_token_hash = ?", hash, a.ID, hash)
	}
	return a, l.explain(err, "take the new token of agent "+a.Name)
}

// NextToken makes the token that is to take the place of an agent's. It is made anew for each
// call until the agent shows it, because an answer may be lost.
func (l *Lab) NextToken(ctx context.Context, a AgentCaller) (secret string, err error) {
	if secret, err = NewSecret(agentPrefix); err != nil {
		return "", err
	}
	_, err = l.db.Pool.ExecContext(ctx, "UPDATE hostsched_agents SET next_token_hash = ? WHERE id = ? AND rotate_since IS NOT NULL", HashOf(secret), a.ID)
	return secret, l.explain(err, "make a new token for agent "+a.Name)
}

// EnterSession notes which process of an agent calls, and what it says of itself. A session
// that begins takes the place of any other; one whose place was taken gets ErrReplaced.
func (l *Lab) EnterSession(ctx context.Context, a AgentCaller, in labapi.AgentSync, protocol int) error {
	if a.Session == in.Session && a.Version == in.Version && a.Address == in.Address && a.Protocol == protocol {
		return nil
	}
	return l.change(ctx, "note the session of agent "+a.Name, func(tx *sql.Tx) error {
		var session string
		err := tx.QueryRowContext(ctx, "SELECT session FROM hostsched_agents WHERE id = ?"+l.db.Dialect.ForUpdate, a.ID).Scan(&session)
		if err != nil {
			return orNoRow(err, fmt.Errorf("%w: the agent was removed", ErrToken))
		}
		begins := session != in.Session
		if begins && !in.Begin {
			return AgentCaller{Name: a.Name, Session: session}.Serves(in.Session)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE hostsched_agents SET session = ?, version = ?, address = ?, protocol = ?, capacity = ?, unfit = ?, seen = "+l.db.Dialect.NowMillis+" WHERE id = ?",
			in.Session, in.Version, in.Address, protocol, in.Capacity, in.Unfit, a.ID); err != nil || !begins {
			return err
		}
		return l.note(ctx, tx, Event{Kind: "agent.session", Who: a.Who(), Subject: a.Name, Reason: in.Version})
	})
}

// EnterBoot notes which boot of its machine an agent runs in, once the runs of the one before
// were looked after.
func (l *Lab) EnterBoot(ctx context.Context, a AgentCaller, bootID string) error {
	if a.BootID == bootID {
		return nil
	}
	_, err := l.db.Pool.ExecContext(ctx, "UPDATE hostsched_agents SET boot_id = ? WHERE id = ?", bootID, a.ID)
	return l.explain(err, "note the boot of agent "+a.Name)
}

// AgentSeen is what an agent said of itself in passing.
type AgentSeen struct {
	ID       int64
	Capacity int
	Unfit    string
	// Changed means that it said something else before.
	Changed bool
}

// NoteSeen notes that agents were seen, all with one statement, and what changed, with one
// each. It does not wait for an agent whose row another client keeps locked: the others would
// count as silent meanwhile.
func (l *Lab) NoteSeen(ctx context.Context, agents []AgentSeen) error {
	if len(agents) == 0 {
		return nil
	}
	ids := sqldb.IDsOf(agents, func(a AgentSeen) int64 { return a.ID })
	return l.change(ctx, "note which agents were seen", func(tx *sql.Tx) error {
		free, err := sqldb.SelectIDs(ctx, tx, "SELECT id FROM hostsched_agents WHERE id IN "+sqldb.List(ids)+l.db.Dialect.ForUpdate+l.db.Dialect.SkipLocked)
		if sqldb.IsSyntax(err) { // before MariaDB 10.6
			free, err = ids, nil
		}
		if err != nil || len(free) == 0 {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE hostsched_agents SET seen = "+l.db.Dialect.NowMillis+" WHERE id IN "+sqldb.List(free)); err != nil {
			return err
		}
		for _, a := range agents {
			if !a.Changed || !slices.Contains(free, a.ID) {
				continue
			}
			if _, err := tx.ExecContext(ctx, "UPDATE hostsched_agents SET capacity = ?, unfit = ? WHERE id = ?", a.Capacity, a.Unfit, a.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// AskForDrain is what an agent does that is to be stopped on its own machine: it gets nothing
// new until a person lets it go on.
func (l *Lab) AskForDrain(ctx context.Context, a AgentCaller, in labapi.AgentLeave) error {
	return l.changeAgent(ctx, "drain agent", a.Name, func(tx *sql.Tx, row *agentRow) error {
		if err := row.serves(in.Session); err != nil || row.Desired != labapi.DesiredRun {
			return err
		}
		return l.want(ctx, tx, row, labapi.DesiredDrain, a.Who(), cut(in.Reason, maxReason))
	})
}

// Goodbye ends the session of an agent.
func (l *Lab) Goodbye(ctx context.Context, a AgentCaller, in labapi.AgentLeave) error {
	return l.changeAgent(ctx, "end the session of agent", a.Name, func(tx *sql.Tx, row *agentRow) error {
		if row.session == "" {
			return nil // it was said before
		}
		if err := row.serves(in.Session); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE hostsched_agents SET session = '', capacity = 0, seen = "+l.db.Dialect.NowMillis+" WHERE id = ?", row.id); err != nil {
			return err
		}
		return l.note(ctx, tx, Event{Kind: "agent.goodbye", Who: a.Who(), Subject: a.Name, Reason: cut(in.Reason, maxReason)})
	})
}

func (r *agentRow) serves(session string) error {
	return AgentCaller{Name: r.Name, Session: r.session}.Serves(session)
}

// AgentWants is what administrators want of agents, as the long polls look at it.
type AgentWants struct {
	Session, Desired string
	Revoked, Rotate  bool
}

// WantsOfAgents reads what is wanted of agents.
func (l *Lab) WantsOfAgents(ctx context.Context, agents []int64) (map[int64]AgentWants, error) {
	out := make(map[int64]AgentWants, len(agents))
	if len(agents) == 0 {
		return out, nil
	}
	err := l.each(ctx, "read what is wanted of agents", "SELECT id, session, desired, revoked IS NOT NULL, rotate_since IS NOT NULL FROM hostsched_agents WHERE id IN "+sqldb.List(agents), nil, func(scan sqldb.Scanner) error {
		var id int64
		var w AgentWants
		err := scan(&id, &w.Session, &w.Desired, &w.Revoked, &w.Rotate)
		out[id] = w
		return err
	})
	return out, err
}

// CallingAgents is how many agents call.
func (l *Lab) CallingAgents(ctx context.Context) (n int, err error) {
	err = l.db.Pool.QueryRowContext(ctx, "SELECT COUNT(*) FROM hostsched_agents WHERE session <> '' AND seen > "+l.db.Dialect.NowMillis+" - ?", store.AgentSilentAfter.Milliseconds()).Scan(&n)
	return n, l.explain(err, "count the agents")
}
