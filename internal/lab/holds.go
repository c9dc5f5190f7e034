package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// ErrHeld means that another person holds the host.
var ErrHeld = errors.New("held by another person")

// Hold is what somebody wants to do with holds. A lock and a drain stand side by side: neither
// ends the other, and a drain becomes a lock when nobody uses the host and nobody else has it
// locked.
type Hold struct {
	Action          string
	Reason          string
	Until, Deadline *time.Time
	Abort           bool
	// Steal takes the place of another person's hold.
	Steal bool
}

// latest is the last time that a hold may name.
var latest = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func (h Hold) check(now time.Time) error {
	begins := h.Action == labapi.ActionLock || h.Action == labapi.ActionDrain
	if err := CheckReason(h.Reason, begins); err != nil {
		return err
	}
	for name, at := range map[string]*time.Time{"until": h.Until, "deadline": h.Deadline} {
		if at == nil {
			continue
		}
		if !at.After(now) || at.After(latest) {
			return fmt.Errorf("%w: %s %s must be in the future, before the year 9999; by the database's clock it is %s", ErrInput, name, at.UTC().Format(time.RFC3339), now.Format(time.RFC3339))
		}
		if name == "until" && h.Action != labapi.ActionLock || name == "deadline" && h.Action != labapi.ActionDrain {
			return fmt.Errorf("%w: %s does not belong to %s", ErrInput, name, h.Action)
		}
	}
	if h.Abort && h.Deadline == nil {
		return fmt.Errorf("%w: abort needs a deadline at which it is done", ErrInput)
	}
	return nil
}

// Held is what became of one host.
type Held struct {
	Hostname string
	Shard    string
	Changed  bool
	// Entry is what uses a host that was locked: its tasks wait from now on.
	Entry *labapi.HostEntry
	// Err is why nothing was done.
	Err error
}

// HoldHost changes the hold of one host and returns the host.
func (l *Lab) HoldHost(ctx context.Context, who access.Caller, hostname string, h Hold) (labapi.Host, string, error) {
	done, err := l.HoldHosts(ctx, who, []string{hostname}, h)
	if err == nil {
		err = done[0].Err
	}
	if err != nil {
		return labapi.Host{}, "", err
	}
	return l.Host(ctx, hostname)
}

// HostNames lists the names of all hosts that a filter finds, of which there must be one.
func (l *Lab) HostNames(ctx context.Context, filter HostFilter) (names []string, err error) {
	condition, args := l.matching(filter)
	err = l.each(ctx, "list the names of hosts", "SELECT h.hostname FROM "+hostsHeld+condition+" ORDER BY h.id", args, func(scan sqldb.Scanner) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	})
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%w: no host carries such labels; 'hostsched host list' shows all", ErrNotFound)
	}
	return names, err
}

// HoldHosts changes the holds of many hosts, each by itself: what keeps one from it does not
// concern the others.
func (l *Lab) HoldHosts(ctx context.Context, who access.Caller, hostnames []string, h Hold) (out []Held, err error) {
	now, err := l.now(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.check(now); err != nil {
		return nil, err
	}
	for part := range slices.Chunk(hostnames, chunkRows) {
		var done []Held
		err := l.change(ctx, h.Action+" hosts", func(tx *sql.Tx) (err error) {
			done, err = l.holdSome(ctx, tx, who, part, h)
			return err
		})
		if err != nil {
			return out, err
		}
		out = append(out, done...)
	}
	return out, nil
}

// now is the database's clock.
func (l *Lab) now(ctx context.Context) (time.Time, error) {
	var ms int64
	err := l.db.Pool.QueryRowContext(ctx, "SELECT "+l.db.Dialect.NowMillis).Scan(&ms)
	return time.UnixMilli(ms).UTC(), l.explain(err, "read the database's clock")
}

func (l *Lab) holdSome(ctx context.Context, tx *sql.Tx, who access.Caller, names []string, h Hold) ([]Held, error) {
	r := &txReader{ctx: ctx, tx: tx}
	found := hostNames.find(r, names)
	if r.err != nil {
		return nil, r.err
	}
	var ids []int64
	for _, id := range found {
		ids = append(ids, id)
	}
	rows, err := l.lockRows(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	related, err := l.related(ctx, tx, who.Login, ids)
	if err != nil {
		return nil, err
	}
	byID := map[int64]*hostState{}
	for i := range rows {
		byID[rows[i].ID] = &rows[i]
	}
	var due []hostState
	done := map[int64]bool{}
	out := make([]Held, len(names))
	for i, name := range names {
		row := byID[found[name]]
		if row == nil {
			out[i] = Held{Hostname: name, Err: noHost(name)}
			continue
		}
		out[i] = Held{Hostname: row.Hostname, Shard: row.Shard}
		if done[row.ID] {
			continue // it was named before
		}
		out[i].Changed, out[i].Err = l.decideHold(who, row, related[row.ID], h)
		if out[i].Changed {
			due = append(due, *row)
			if h.Action == labapi.ActionLock {
				out[i].Entry = row.Entry
			}
			done[row.ID] = true
		}
	}
	return out, l.writeHolds(ctx, tx, who, h, due)
}

// decideHold tells whether there is anything to change, and refuses what the caller may not do.
func (l *Lab) decideHold(who access.Caller, h *hostState, has relation, hold Hold) (changes bool, err error) {
	// One's own hold one may always end.
	may := has.group || has.lock && hold.Action == labapi.ActionUnlock || has.drain && hold.Action == labapi.ActionUndrain
	if err := access.ChangingHosts.Check(who, may); err != nil {
		return false, fmt.Errorf("host %s: %w", h.Hostname, err)
	}
	switch hold.Action {
	case labapi.ActionUnlock:
		return h.Locked || h.Bad != nil, nil
	case labapi.ActionUndrain:
		return h.Drain != nil, nil
	case labapi.ActionLock:
		if !h.Locked {
			return true, nil
		}
		if !has.lock && !hold.Steal {
			return false, heldBy(h, "locked", h.Lock.By, h.Lock.Reason)
		}
		return !has.lock || h.Lock.Reason != hold.Reason || !sameTime(h.Lock.Until, hold.Until), nil
	}
	if h.Drain == nil {
		return true, nil
	}
	if !has.drain && !hold.Steal {
		return false, heldBy(h, "being drained", h.Drain.By, h.Drain.Reason)
	}
	return !has.drain || h.Drain.Reason != hold.Reason || h.Drain.Abort != hold.Abort || !sameTime(h.Drain.Deadline, hold.Deadline), nil
}

func heldBy(h *hostState, how, by, reason string) error {
	if by == "" {
		by = "somebody"
	}
	return fmt.Errorf("%w: host %s is %s by %s (%s); ask them, or take it over with steal", ErrHeld, h.Hostname, how, by, reason)
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UnixMilli() == b.UnixMilli()
}

// writeHolds changes the holds of hosts that were locked and looked at.
func (l *Lab) writeHolds(ctx context.Context, tx *sql.Tx, who access.Caller, h Hold, hosts []hostState) error {
	if len(hosts) == 0 {
		return nil
	}
	ids := sqldb.IDsOf(hosts, func(h hostState) int64 { return h.ID })
	rows := make([][]any, len(ids))
	for i, id := range ids {
		rows[i] = []any{id}
	}
	if err := insert(ctx, tx, l.db.Dialect.InsertIgnore, "hostsched_hosts (host_id)", "(?)", rows); err != nil {
		return err
	}
	write := map[string]func(context.Context, *sql.Tx, access.Caller, Hold, string) error{
		labapi.ActionLock: l.writeLock, labapi.ActionUnlock: l.writeUnlock, labapi.ActionDrain: l.writeDrain, labapi.ActionUndrain: l.writeUndrain,
	}[h.Action]
	if err := write(ctx, tx, who, h, sqldb.List(ids)); err != nil {
		return err
	}
	events := make([]Event, len(hosts))
	for i := range hosts {
		events[i] = holdEvent(who, &hosts[i], h)
	}
	return l.note(ctx, tx, events...)
}

// holdEvent also tells of the hold whose place another one takes.
func holdEvent(who access.Caller, host *hostState, h Hold) Event {
	kind := map[string]string{labapi.ActionLock: "host.locked", labapi.ActionUnlock: "host.unlocked", labapi.ActionDrain: "host.drain_begun", labapi.ActionUndrain: "host.drain_ended"}[h.Action]
	e := Event{Kind: kind, Shard: host.Shard, Host: host.ID, Who: who.Login, Subject: host.Hostname, Reason: h.Reason}
	before := ""
	switch {
	case (h.Action == labapi.ActionLock || h.Action == labapi.ActionUnlock) && host.Locked:
		before = fmt.Sprintf("locked by %s: %s", host.Lock.By, host.Lock.Reason)
	case (h.Action == labapi.ActionDrain || h.Action == labapi.ActionUndrain) && host.Drain != nil:
		before = fmt.Sprintf("drained by %s: %s", host.Drain.By, host.Drain.Reason)
	}
	if h.Action == labapi.ActionUnlock && host.Bad != nil {
		before = strings.TrimPrefix(before+"; held as bad: "+host.Bad.Reason, "; ")
	}
	if before != "" {
		e.Reason = strings.TrimPrefix(e.Reason+" (was "+before+")", " ")
	}
	return e
}

// writeLock also marks the hosts dirty, as Autotest's frontend does: whoever locks a host works
// on it by hand. Who is new is entered, because a lock must say whose it is.
func (l *Lab) writeLock(ctx context.Context, tx *sql.Tx, who access.Caller, h Hold, in string) error {
	user, _, err := l.ensureUser(ctx, tx, who.Login)
	if err != nil {
		return err
	}
	d := l.db.Dialect
	if _, err := tx.ExecContext(ctx, "UPDATE afe_hosts"+d.ByKey+" SET lock_time = CASE WHEN locked = 1 AND locked_by_id = ? THEN lock_time ELSE "+d.Now+" END WHERE id IN "+in, user); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE afe_hosts"+d.ByKey+" SET locked = 1, dirty = 1, locked_by_id = ?, lock_reason = ? WHERE id IN "+in, user, h.Reason); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE hostsched_hosts SET lock_until = ?, locked_by_id = ?, lock_time = (SELECT a.lock_time FROM afe_hosts a WHERE a.id = hostsched_hosts.host_id) WHERE host_id IN "+in, toMillis(h.Until), user)
	return err
}

func (l *Lab) writeUnlock(ctx context.Context, tx *sql.Tx, _ access.Caller, _ Hold, in string) error {
	if _, err := tx.ExecContext(ctx, "UPDATE afe_hosts"+l.db.Dialect.ByKey+" SET locked = 0, locked_by_id = NULL, lock_time = NULL, lock_reason = '' WHERE id IN "+in); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE hostsched_hosts SET lock_until = NULL, lock_time = NULL, locked_by_id = NULL WHERE host_id IN "+in); err != nil {
		return err
	}
	// Whoever unlocks a host trusts it again: the lab begins to count anew.
	_, err := tx.ExecContext(ctx, "UPDATE hostsched_host_epochs SET failures = 0, last_job = NULL, bad_since = NULL, bad_reason = '' WHERE host_id IN "+in)
	return err
}

func (l *Lab) writeDrain(ctx context.Context, tx *sql.Tx, who access.Caller, h Hold, in string) error {
	if _, _, err := l.ensureUser(ctx, tx, who.Login); err != nil {
		return err // the drain will be a lock of this user
	}
	_, err := tx.ExecContext(ctx, "UPDATE hostsched_hosts SET drain_since = CASE WHEN drain_since IS NOT NULL AND drain_by = ? THEN drain_since ELSE "+l.db.Dialect.NowMillis+
		" END, drain_by = ?, drain_reason = ?, drain_deadline = ?, drain_abort = ? WHERE host_id IN "+in, who.Login, who.Login, h.Reason, toMillis(h.Deadline), boolNumber(h.Abort))
	return err
}

func (l *Lab) writeUndrain(ctx context.Context, tx *sql.Tx, _ access.Caller, _ Hold, in string) error {
	_, err := tx.ExecContext(ctx, "UPDATE hostsched_hosts SET drain_since = NULL, drain_by = '', drain_reason = '', drain_deadline = NULL, drain_abort = 0 WHERE host_id IN "+in)
	return err
}
