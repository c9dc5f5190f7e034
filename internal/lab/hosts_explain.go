package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// shownAtMost is how many users and entries an explanation lists.
const shownAtMost = 100

// ExplainHost says who may use a host, why nobody has it, and which waiting entries could use
// it, by the rules that the planner goes by.
func (l *Lab) ExplainHost(ctx context.Context, hostname string) (labapi.HostExplanation, error) {
	h, _, err := l.Host(ctx, hostname)
	if err != nil {
		return labapi.HostExplanation{}, err
	}
	users, err := l.HostUsers(ctx, hostname, "", shownAtMost)
	if err != nil {
		return labapi.HostExplanation{}, err
	}
	fence, _, err := l.db.ReadFence(ctx, shard.Name(h.Shard))
	if err != nil {
		return labapi.HostExplanation{}, err
	}
	e := labapi.HostExplanation{Hostname: h.Hostname, Reasons: whyNotGiven(&h, fence.Paused), Users: []string{}}
	if l.scope.Agents {
		away, err := l.db.AgentsAway(ctx, "h.id = ?", h.ID)
		if err != nil {
			return e, err
		}
		for _, a := range away {
			e.Reasons = append(e.Reasons, fmt.Sprintf("its agent %s takes nothing: %s", a.Agent, a.Reason))
		}
	}
	for _, u := range users.Items {
		e.Users = append(e.Users, u.Login)
	}
	if len(e.Users) == 0 {
		e.Reasons = append(e.Reasons, "no user is in an ACL group of the host")
	}
	e.Given = len(e.Reasons) == 0
	if e.Waiting, err = l.couldUse(ctx, h.ID); err != nil {
		return e, err
	}
	e.Text = explained(&h, &e)
	return e, nil
}

// whyNotGiven says what keeps the planner from giving a host to anybody. paused is why its
// shard is paused, empty if it is not.
func whyNotGiven(h *labapi.Host, paused string) (reasons []string) {
	add := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	switch {
	case h.Reservation != nil:
		add("reserved by %s: %s%s", h.Reservation.By, h.Reservation.Reason, untilText(h.Reservation.Until))
	case h.Entry != nil:
		add("entry %d of job %d has it", h.Entry.ID, h.Entry.Job)
	case h.Leased:
		add("it is leased, but to no entry: for a special task, or until the next tick releases it (status %s)", h.Status)
	}
	if h.Lock != nil {
		add("locked by %s: %s%s", h.Lock.By, h.Lock.Reason, untilText(h.Lock.Until))
	}
	if h.Bad != nil {
		add("held as bad: %s; look at it, and unlock it", h.Bad.Reason)
	}
	if h.Drain != nil {
		add("drained by %s: %s", h.Drain.By, h.Drain.Reason)
	}
	if paused != "" {
		add("the shard is paused: %s", paused)
	}
	return reasons
}

func untilText(at *time.Time) string {
	if at == nil {
		return ""
	}
	return ", until " + at.Format(time.RFC3339)
}

func explained(h *labapi.Host, e *labapi.HostExplanation) string {
	waiting := "no waiting entry could use it"
	switch n := len(e.Waiting); {
	case n >= shownAtMost:
		waiting = fmt.Sprintf("at least %d waiting entries could use it", n)
	case n == 1:
		waiting = fmt.Sprintf("one waiting entry could use it, entry %d of job %d", e.Waiting[0].Entry, e.Waiting[0].Job)
	case n > 0:
		waiting = fmt.Sprintf("%d waiting entries could use it, first entry %d of job %d", n, e.Waiting[0].Entry, e.Waiting[0].Job)
	}
	if e.Given {
		return fmt.Sprintf("host %s is free; %s", h.Hostname, waiting)
	}
	return fmt.Sprintf("nobody gets host %s: %s; %s", h.Hostname, strings.Join(e.Reasons, "; "), waiting)
}

// couldUse lists the waiting entries for which a host carries all labels and shares an ACL
// group with the owner, in the order of the queue.
func (l *Lab) couldUse(ctx context.Context, host int64) ([]labapi.WaitingFor, error) {
	out := []labapi.WaitingFor{}
	query := "SELECT q.id, q.job_id, j.owner, COALESCE(j.priority, 0) FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id" +
		" WHERE q.status = 'Queued' AND q.active = 0 AND q.complete = 0 AND q.aborted = 0 AND (q.host_id = ? OR q.host_id IS NULL AND q.meta_host IS NOT NULL)" +
		" AND EXISTS (SELECT 1 FROM afe_users u JOIN afe_acl_groups_users m ON m.user_id = u.id JOIN afe_acl_groups_hosts g ON g.aclgroup_id = m.aclgroup_id WHERE u.login = j.owner AND g.host_id = ?)" +
		" AND NOT EXISTS (SELECT 1 FROM afe_ineligible_host_queues i WHERE i.job_id = q.job_id AND i.host_id = ?)" +
		" AND NOT EXISTS (SELECT 1 FROM afe_jobs_dependency_labels d WHERE d.job_id = q.job_id AND " + l.lacks() + ")" +
		" ORDER BY j.priority DESC, q.meta_host, q.job_id, q.id LIMIT ?"
	args := []any{host, host, host, host}
	if l.static() {
		args = append(args, host)
	}
	err := l.each(ctx, "look for entries that could use the host", query, append(args, shownAtMost), func(scan sqldb.Scanner) error {
		var w labapi.WaitingFor
		var owner sql.NullString
		err := scan(&w.Entry, &w.Job, &owner, &w.Priority)
		w.Owner = owner.String
		out = append(out, w)
		return err
	})
	return out, err
}

// lacks is a condition on a dependency label d: a host, the parameter, does not carry it.
func (l *Lab) lacks() string {
	plain := "NOT EXISTS (SELECT 1 FROM afe_hosts_labels x WHERE x.host_id = ? AND x.label_id = d.label_id"
	if !l.static() {
		return plain + ")"
	}
	return plain + " AND NOT EXISTS (SELECT 1 FROM afe_replaced_labels r WHERE r.label_id = x.label_id)) AND NOT EXISTS (SELECT 1 FROM afe_static_hosts_labels x JOIN afe_static_labels s ON s.id = x.staticlabel_id" +
		" JOIN afe_labels l ON l.name = s.name JOIN afe_replaced_labels r ON r.label_id = l.id WHERE x.host_id = ? AND l.id = d.label_id)"
}

// HostHistory lists what happened to a host, the latest first. It also knows hosts that were
// removed.
func (l *Lab) HostHistory(ctx context.Context, hostname, after string, limit int) (labapi.Page[labapi.Event], error) {
	from, err := ParseCursor(after)
	if err != nil {
		return labapi.Page[labapi.Event]{}, err
	}
	var host int64
	err = l.db.Pool.QueryRowContext(ctx, "SELECT id FROM afe_hosts WHERE hostname = ? ORDER BY invalid, id LIMIT 1", hostname).Scan(&host)
	if errors.Is(err, sql.ErrNoRows) {
		return labapi.Page[labapi.Event]{}, noHost(hostname)
	}
	if err != nil {
		return labapi.Page[labapi.Event]{}, l.explain(err, "read host "+hostname)
	}
	before, args := "", []any{host}
	if from > 0 {
		before, args = " AND e.id < ?", append(args, from)
	}
	events, err := l.readEvents(ctx, "e.host_id = ?"+before, "DESC", append(args, limit+1))
	return page(events, limit, func(e labapi.Event) int64 { return e.ID }), err
}
