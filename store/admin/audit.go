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
