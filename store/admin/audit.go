package admin

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Audit notes what somebody did by command: what, to what, and why.
func (lab *Lab) Audit(ctx context.Context, who, action, subject, detail string) error {
	return lab.audit(ctx, lab.Pool, who, action, subject, detail)
}

// AuditShard is Audit of what was done to a shard, which the journal has, too: whoever watches
// that hears of it at once.
func (lab *Lab) AuditShard(ctx context.Context, who, action string, name shard.Name, detail string) (err error) {
	tx, err := lab.Pool.BeginTx(ctx, nil)
	if err != nil {
		return sqldb.Explain(err, "write the audit record of "+action, lab.Target())
	}
	defer func() { err = sqldb.RollbackUnless(tx, err) }()
	if err := lab.auditShard(ctx, tx, who, action, name, detail); err != nil {
		return err
	}
	return sqldb.Explain(tx.Commit(), "write the audit record of "+action, lab.Target())
}

// eventKinds are what the journal calls what commands do to a shard.
var eventKinds = map[string]string{
	ActionPause: "shard.paused", ActionResume: "shard.resumed", ActionSwitchover: "shard.switchover",
	actionAdd: "shard.added", actionRemove: "shard.removed", ActionAdopt: "shard.fence_adopted",
}

// What is done to a shard, as audit records say it.
const (
	ActionPause      = "shard pause"
	ActionResume     = "shard resume"
	ActionSwitchover = "shard switchover"
	ActionAdopt      = "fence adopt"
	actionAdd        = "shard add"
	actionRemove     = "shard remove"
)

func (lab *Lab) auditShard(ctx context.Context, tx sqldb.Querier, who, action string, name shard.Name, detail string) error {
	if err := lab.audit(ctx, tx, who, action, name.String(), detail); err != nil {
		return err
	}
	err := lab.Note(ctx, tx, store.Event{Kind: eventKinds[action], Shard: name.String(), Who: who, Subject: name.String(), Reason: detail})
	return sqldb.Explain(err, "note "+action+" in the journal", lab.Target())
}

// AuditRecord is a row of hostsched_audit.
type AuditRecord struct {
	// At is by the database's clock.
	At      time.Time `json:"at"`
	Who     string    `json:"who"`
	Action  string    `json:"action"`
	Subject string    `json:"subject"`
	Detail  string    `json:"detail"`
}

// AuditRecords returns the latest audit records, latest first.
func (lab *Lab) AuditRecords(ctx context.Context, limit int) ([]AuditRecord, error) {
	out := []AuditRecord{}
	err := sqldb.EachRow(ctx, lab.Pool, "SELECT "+lab.Dialect.Unix("at")+", who, action, subject, detail FROM hostsched_audit ORDER BY id DESC LIMIT ?", []any{min(limit, store.MaxRows)}, func(scan sqldb.Scanner) error {
		var r AuditRecord
		var at int64
		err := scan(&at, &r.Who, &r.Action, &r.Subject, &r.Detail)
		r.At = time.Unix(at, 0).UTC()
		out = append(out, r)
		return err
	})
	return out, sqldb.Explain(err, "read the audit records", lab.Target())
}

// fits refuses a text that is longer than its column.
func fits(what, text string, limit int) error {
	if err := shard.Fits(what, text, limit); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	return nil
}

// FitsAudit refuses what does not fit into an audit record. Whoever asks it first changes
// nothing that Audit could not note.
func FitsAudit(who, subject, detail string) error {
	return cmp.Or(fits("the user's name", who, shard.MaxName), fits("the name", subject, shard.MaxName), fits("the reason", detail, shard.MaxDetail))
}

func (lab *Lab) audit(ctx context.Context, tx sqldb.Querier, who, action, subject, detail string) error {
	if err := FitsAudit(who, subject, detail); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO hostsched_audit (at, who, action, subject, detail) VALUES ("+lab.Dialect.Now+", ?, ?, ?, ?)", who, action, subject, detail)
	return sqldb.Explain(err, "write the audit record of "+action, lab.Target())
}
