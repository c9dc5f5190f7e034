package runs

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// claimKey is a claimant's key. Its text is a secret of who made it: it is stored as a hash,
// and the run's token follows from it, so that a repeated claim gets the same answer although
// nobody stores the token.
type claimKey struct{ hash, token string }

func keyOf(who, key string) claimKey {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("token of a run of " + who))
	return claimKey{lab.HashOf("claim of " + who + "\n" + key), lab.SecretOf(lab.RunPrefix, [32]byte(mac.Sum(nil)))}
}

// newRun is a run that is to be entered.
type newRun struct {
	key     claimKey
	kind    string
	task    int64
	agent   int64
	login   string
	session string
	hard    int64
	// entries are those that run, by host; none for a special task.
	entries map[scheduler.HostID]scheduler.EntryID
	hosts   []scheduler.HostID
}

// Claim takes an offer up. The same key gets the same answer.
func (r *Runs) Claim(ctx context.Context, c Claimant, in labapi.ClaimInput) (labapi.Claimed, error) {
	if err := r.check(); err != nil {
		return labapi.Claimed{}, err
	}
	key := keyOf(c.who(), in.ClaimKey)
	claim := r.claimTask
	if in.Offer.Kind == kindJob {
		claim = r.claimJob
	}
	return r.claimOnce(ctx, key, func() error { return claim(ctx, c, key, in.Offer) })
}

// claimOnce claims unless the key was used before, and answers what was claimed with it.
func (r *Runs) claimOnce(ctx context.Context, key claimKey, claim func() error) (labapi.Claimed, error) {
	claimed, err := r.claimed(ctx, key)
	if !errors.Is(err, sql.ErrNoRows) {
		return claimed, err
	}
	failed := claim()
	if errors.Is(failed, lifecycle.ErrNotNow) || sqldb.IsDuplicate(failed) {
		failed = fmt.Errorf("%w: %w", ErrOfferGone, failed)
	}
	if failed != nil && !errors.Is(failed, ErrOfferGone) {
		return labapi.Claimed{}, failed
	}
	// Another one may have been faster that has the same key.
	claimed, err = r.claimed(ctx, key)
	if errors.Is(err, sql.ErrNoRows) {
		err = failed
		if err == nil {
			err = fmt.Errorf("%w: it was claimed and removed", ErrOfferGone)
		}
	}
	return claimed, err
}

func (r *Runs) claimTask(ctx context.Context, by Claimant, key claimKey, o labapi.Offer) error {
	find := func() (target, error) { return r.taskTarget(ctx, o.Task) }
	return r.change(ctx, fmt.Sprintf("claim task %d", o.Task), by.who(), find, func(c *change) error {
		id := lifecycle.TaskID(o.Task)
		t := c.state.Tasks[id]
		if string(t.Kind) != o.Kind {
			return fmt.Errorf("%w: task %d is not open", ErrOfferGone, o.Task)
		}
		if err := c.servedBy(by.Agent, t.Host); err != nil {
			return err
		}
		if !c.hosts[t.Host].leased {
			return fmt.Errorf("%w: host %s is not given to its tasks", ErrOfferGone, c.hosts[t.Host].name)
		}
		if err := c.apply(lifecycle.TaskStarted{Task: id}); err != nil {
			return err
		}
		return c.insertRun(newRun{
			key: key, kind: o.Kind, task: o.Task, agent: by.Agent, session: by.Session, hard: taskTime[t.Kind].Milliseconds(), hosts: []scheduler.HostID{t.Host},
		})
	})
}

func (r *Runs) claimJob(ctx context.Context, by Claimant, key claimKey, o labapi.Offer) error {
	if len(o.Entries) == 0 {
		return fmt.Errorf("%w: the offer of a job names its entries", lab.ErrInput)
	}
	find := func() (target, error) { return r.entryTarget(ctx, o.Entries[0]) }
	return r.change(ctx, fmt.Sprintf("claim job %d", o.Job), by.who(), find, func(c *change) error {
		var own, hard int64
		err := c.tx.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM hostsched_own_jobs o WHERE o.job_id = j.id), j.max_runtime_mins FROM afe_jobs j WHERE j.id = ?", c.job).Scan(&own, &hard)
		if err != nil {
			return err
		}
		if own > 0 {
			return fmt.Errorf("%w: whoever submitted job %d runs it himself", ErrOfferGone, c.job)
		}
		run := newRun{key: key, kind: kindJob, agent: by.Agent, session: by.Session, hard: hard * 60_000, entries: map[scheduler.HostID]scheduler.EntryID{}}
		for _, id := range c.group(scheduler.EntryID(o.Entries[0])) {
			host := c.state.Entries[id].Host
			if err := c.servedBy(by.Agent, host); err != nil {
				return err
			}
			run.entries[host], run.hosts = id, append(run.hosts, host)
		}
		return c.claimEntries(run)
	})
}

// claimEntries claims the entries of a run.
func (c *change) claimEntries(run newRun) error {
	if len(run.entries) == 0 {
		return fmt.Errorf("%w: job %d does not start", ErrOfferGone, c.job)
	}
	if err := c.apply(lifecycle.RunClaimed{Entries: slices.Sorted(maps.Values(run.entries))}); err != nil {
		return err
	}
	return c.insertRun(run)
}

// group are the entries that start together with one.
func (c *change) group(first scheduler.EntryID) (ids []scheduler.EntryID) {
	subdir := c.state.Entries[first].Subdir
	for _, id := range slices.Sorted(maps.Keys(c.state.Entries)) {
		if e := c.state.Entries[id]; e.Status == scheduler.StatusStarting && e.Subdir == subdir {
			ids = append(ids, id)
		}
	}
	return ids
}

// servedBy fails unless an agent serves a host, on which nothing goes on.
func (c *change) servedBy(agent int64, host scheduler.HostID) error {
	h := c.hosts[host]
	switch {
	case h.invalid, h.agent != agent:
		return fmt.Errorf("%w: another agent, or none, serves host %s", ErrOfferGone, h.name)
	case h.open():
		return fmt.Errorf("%w: run %d has host %s", ErrOfferGone, h.run, h.name)
	}
	return nil
}

// insertRun enters a run that begins now, with new epochs of its hosts.
func (c *change) insertRun(run newRun) error {
	for _, id := range run.hosts {
		if h := c.hosts[id]; h.open() {
			return fmt.Errorf("%w: run %d has host %s", ErrOfferGone, h.run, h.name)
		}
	}
	now := c.dialect().NowMillis
	lease := c.r.Lease.Milliseconds()
	res, err := c.tx.ExecContext(c.ctx, "INSERT INTO hostsched_runs (claim_key, kind, state, task_id, job_id, agent_id, login, session, token_hash, lease_ms, lease_until, hard_ms, claimed) VALUES (?, ?, 'claimed', ?, ?, ?, ?, ?, ?, ?, "+now+" + ?, ?, "+now+")",
		run.key.hash, run.kind, sqldb.IDOrNull(run.task), sqldb.IDOrNull(c.job), sqldb.IDOrNull(run.agent), run.login, run.session, lab.HashOf(run.key.token), lease, lease, run.hard)
	if err != nil {
		return err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return err
	}
	var rows []byte
	for _, host := range run.hosts {
		rows = sqldb.Tuple(rows, id, int64(host))
		if e := run.entries[host]; e != 0 {
			rows = fmt.Appendf(rows, ", %d, %d)", e, c.hosts[host].epoch+1)
		} else {
			rows = fmt.Appendf(rows, ", NULL, %d)", c.hosts[host].epoch+1)
		}
		c.note(lab.Event{Kind: "run.claimed", Host: int64(host), Job: c.job, Entry: int64(run.entries[host]), Subject: run.kind, Reason: fmt.Sprint("run ", id)})
	}
	if err := c.exec("INSERT INTO hostsched_run_hosts (run_id, host_id, entry_id, epoch) VALUES " + string(rows)); err != nil {
		return err
	}
	return c.exec("UPDATE hostsched_host_epochs SET epoch = epoch + 1, run_id = ? WHERE host_id IN "+hostList(run.hosts), id)
}

func hostList(ids []scheduler.HostID) string {
	return sqldb.List(sqldb.Int64s(ids))
}

// claimed is the answer to a claim that was made, or sql.ErrNoRows if there was none.
func (r *Runs) claimed(ctx context.Context, key claimKey) (out labapi.Claimed, err error) {
	var state string
	m := &out.Manifest
	db := r.lab.DB()
	err = db.Pool.QueryRowContext(ctx, "SELECT id, state, kind, COALESCE(job_id, 0), COALESCE(task_id, 0), lease_ms, hard_ms FROM hostsched_runs WHERE claim_key = ?", key.hash).
		Scan(&out.Run, &state, &m.Kind, &m.Job, &m.Task, &out.LeaseMillis, &m.HardMillis)
	if errors.Is(err, sql.ErrNoRows) {
		return out, err
	}
	if err == nil && (state == stateDone || state == stateLost) {
		return out, fmt.Errorf("%w: run %d of this claim is over", ErrOfferGone, out.Run)
	}
	if err == nil {
		out.Token = key.token
		m.GraceMillis, m.LogCap = stopGrace.Milliseconds(), r.LogCap
		err = r.fillHosts(ctx, &out)
	}
	if err == nil && m.Job != 0 {
		err = r.fillJob(ctx, m)
	}
	if err == nil {
		handOn(m, out.Run)
	}
	return out, r.lab.Explain(err, "read what was claimed")
}

// fillHosts reads the hosts of a run. If the run before it was lost, on any of them, what is
// left of that has to be ended first.
func (r *Runs) fillHosts(ctx context.Context, out *labapi.Claimed) error {
	var ids []int64
	query := "SELECT x.host_id, COALESCE(h.hostname, ''), x.epoch, COALESCE(x.entry_id, 0)," +
		" EXISTS (SELECT 1 FROM hostsched_run_hosts b JOIN hostsched_runs r ON r.id = b.run_id WHERE b.host_id = x.host_id AND b.epoch = x.epoch - 1 AND r.state = 'lost')" +
		" FROM hostsched_run_hosts x JOIN afe_hosts h ON h.id = x.host_id WHERE x.run_id = ? ORDER BY x.entry_id, x.host_id"
	db := r.lab.DB()
	err := sqldb.EachRow(ctx, db.Pool, query, []any{out.Run}, func(scan sqldb.Scanner) error {
		var id int64
		var fence bool
		h := labapi.RunHost{}
		err := scan(&id, &h.Hostname, &h.Epoch, &h.Entry, &fence)
		ids, out.Hosts = append(ids, id), append(out.Hosts, h)
		out.Manifest.Fence = out.Manifest.Fence || fence
		return err
	})
	if err != nil {
		return err
	}
	labels, err := r.lab.LabelsOf(ctx, ids)
	for i, id := range ids {
		out.Hosts[i].Labels = labels[id]
	}
	return err
}

// fillJob reads what the job of a run says. A special task gets its name and keyvals.
func (r *Runs) fillJob(ctx context.Context, m *labapi.Manifest) error {
	db := r.lab.DB()
	var script string
	err := db.Pool.QueryRowContext(ctx, "SELECT COALESCE(name, ''), COALESCE(owner, ''), COALESCE(control_file, '') FROM afe_jobs WHERE id = ?", m.Job).Scan(&m.Name, &m.Owner, &script)
	if err != nil {
		return err
	}
	m.Keyvals = map[string]string{}
	err = sqldb.EachRow(ctx, db.Pool, "SELECT `key`, value FROM afe_job_keyvals WHERE job_id = ? ORDER BY id", []any{m.Job}, func(scan sqldb.Scanner) error {
		var key, value string
		err := scan(&key, &value)
		m.Keyvals[key] = value
		return err
	})
	if err != nil || m.Kind != kindJob {
		return err
	}
	m.Script = script
	spec, err := r.lab.SpecOf(ctx, m.Job)
	if err != nil || spec == nil {
		return err
	}
	return fillSpec(m, spec)
}
