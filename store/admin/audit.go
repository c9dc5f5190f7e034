package admin

import (
	"context"

	"github.com/hostsched/hostsched/store/sqldb"
)

// Audit notes what somebody did by command: what, to what, and why.
func (lab *Lab) Audit(ctx context.Context, who, action, subject, detail string) error {
	return lab.audit(ctx, lab.Pool, who, action, subject, detail)
}

// AuditRecord is a row of hostsched_audit.
type AuditRecord struct {
	At      string `json:"at"`
	Who     string `json:"who"`
	Action  string `json:"action"`
	Subject string `json:"subject"`
	Detail  string `json:"detail"`
}

// maxAuditRecords bounds how many records are read at once.
const maxAuditRecords = 1000

// AuditRecords returns the latest audit records, latest first.
func (lab *Lab) AuditRecords(ctx context.Context, limit int) ([]AuditRecord, error) {
	out := []AuditRecord{}
	err := sqldb.EachRow(ctx, lab.Pool, "SELECT at, who, action, subject, detail FROM hostsched_audit ORDER BY id DESC LIMIT ?", []any{min(limit, maxAuditRecords)}, func(scan sqldb.Scanner) error {
		var r AuditRecord
		err := scan(&r.At, &r.Who, &r.Action, &r.Subject, &r.Detail)
		out = append(out, r)
		return err
	})
	return out, sqldb.Explain(err, "read the audit records", lab.Target())
}

func (lab *Lab) audit(ctx context.Context, tx sqldb.Querier, who, action, subject, detail string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO hostsched_audit (at, who, action, subject, detail) VALUES ("+lab.Dialect.Now+", ?, ?, ?, ?)", who, action, subject, detail)
	return sqldb.Explain(err, "write the audit record of "+action, lab.Target())
}
