package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
)

// defaultRows is how many records of a log are shown.
const defaultRows = 20

func auditCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	var rows int
	cmd := &cobra.Command{
		Use: "audit", Short: "Show what people changed by command: who, when, what, why", Args: noArgs,
		Long: `Show what people changed by command: who, when, what, why. A change in a database
that a shard has of its own is recorded there and in the main database, which is
what is shown.`,
		Example: "  hostsched audit --limit 5",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLab(cmd.Context(), cfg, func(lab ops.Lab) error {
				records, err := lab.Main.AuditRecords(cmd.Context(), rows)
				if err != nil {
					return err
				}
				return out.write(cmd, records, func(w io.Writer) error {
					t := newTable(w)
					t.row("AT", "WHO", "ACTION", "SUBJECT", "DETAIL")
					for _, r := range records {
						t.row(utc(r.At), r.Who, r.Action, r.Subject, r.Detail)
					}
					return t.flush()
				})
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	out.bind(cmd)
	bindRows(cmd, &rows, "show at most so many records, the latest")
	return cmd
}
