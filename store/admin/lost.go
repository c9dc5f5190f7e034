package admin

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// lostAction is the action of audit records about lost commits, and lostPause begins
// the reason of the pause that comes with them.
const (
	lostAction = "commits lost"
	lostPause  = "the database lost commits"
	// unrecordedPause begins that of a pause without record.
	unrecordedPause = lostPause + ", and which could not be recorded"
)

// ErrUnrecorded means that a shard is paused, but that there is no audit record of why,
// because this user has no right to write one.
var ErrUnrecorded = errors.New("the shard is paused, but that could not be recorded")

// lostDetail is the detail of such a record.
type lostDetail struct {
	Why string `json:"why"`
	// Lost counts the lost assignments; the list has as many as fit.
	Lost        int           `json:"lost"`
	Assignments []store.Given `json:"assignments"`
}

// lostListed bounds the list, so that the record fits into its column.
const lostListed = 200

// PauseAfterLoss pauses a shard whose database has lost commits, because hosts of lost
// assignments may be at work for jobs that the database takes for waiting. The audit
// record has what is known to be lost, and Check shows it until somebody resumes the
// shard. The epoch of the fence becomes at least the given one, which some leader had
// before the loss, so that later terms do not look lost, too. Without the right to write a
// record it pauses the shard all the same and fails with ErrUnrecorded.
func (lab *Lab) PauseAfterLoss(ctx context.Context, name shard.Name, epoch int64, who string, why error, lost []store.Given) error {
	detail, err := json.Marshal(lostDetail{Why: why.Error(), Lost: len(lost), Assignments: lost[:min(len(lost), lostListed)]})
	if err != nil {
		return err
	}
	reason := fmt.Sprintf("%s (%d assignments known): see 'hostsched check', look at these hosts, then resume", lostPause, len(lost))
	err = lab.pauseAfterLoss(ctx, name, epoch, who, reason, func(tx *sql.Tx) error {
		return lab.audit(ctx, tx, who, lostAction, name.String(), string(detail))
	})
	if !errors.Is(err, sqldb.ErrPrivilege) {
		return err
	}
	reason = fmt.Sprintf("%s (%d assignments known): see the log of %s, look at these hosts, then resume", unrecordedPause, len(lost), who)
	if perr := lab.pauseAfterLoss(ctx, name, epoch, who, reason, func(*sql.Tx) error { return nil }); perr != nil {
		return perr
	}
	return fmt.Errorf("%w: %w", ErrUnrecorded, err)
}

func (lab *Lab) pauseAfterLoss(ctx context.Context, name shard.Name, epoch int64, who, reason string, record func(*sql.Tx) error) error {
	return lab.change(ctx, "pause of shard "+name.String(), []shard.Name{name}, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE hostsched_fence SET epoch = CASE WHEN epoch < ? THEN ? ELSE epoch END, pause_reason = ?, paused_by = ?, paused_at = "+lab.Dialect.NowMillis+" WHERE shard = ?", epoch, epoch, reason, who, name.String()); err != nil {
			return err
		}
		return record(tx)
	})
}

// lost returns what is known to be lost of a shard that is still paused for it.
func (lab *Lab) lost(ctx context.Context, name shard.Name) ([]Finding, error) {
	fence, ok, err := lab.ReadFence(ctx, name)
	if err != nil || !ok || !strings.HasPrefix(fence.Paused, lostPause) {
		return nil, err
	}
	if strings.HasPrefix(fence.Paused, unrecordedPause) {
		return []Finding{{Shard: name, Text: fence.Paused}}, nil
	}
	var text string
	err = lab.Pool.QueryRowContext(ctx, "SELECT detail FROM hostsched_audit WHERE action = ? AND subject = ? ORDER BY id DESC LIMIT 1", lostAction, name.String()).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, sqldb.Explain(err, "read what was lost", lab.Target())
	}
	var detail lostDetail
	if err := json.Unmarshal([]byte(text), &detail); err != nil {
		return nil, fmt.Errorf("read what was lost of shard %s: %w", name, err)
	}
	out := []Finding{{Shard: name, Text: fmt.Sprintf("%s; %d lost assignments are known", detail.Why, detail.Lost)}}
	for _, g := range detail.Assignments {
		out = append(out, Finding{Shard: name, Host: g.Host, Entry: g.Entry, Job: g.Job, Text: "was given to this entry, and the database has lost that"})
	}
	return out, nil
}
