package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/store/admin"
)

// errFindings makes the exit code of a check that found something.
var errFindings = errors.New("the check has findings")

func checkCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	var leader string
	cmd := &cobra.Command{
		Use:   "check [SHARD]",
		Short: "Look for inconsistencies in the database",
		Long: `Look for hosts with several active entries, leased hosts that nobody holds,
active entries on unleased hosts, and hosts in one shard whose labels belong to
another and that will not move there by themselves. Without SHARD all shards of the lab are looked
at, those with a database of their own included; if the configuration names a
shard, only that one is. Nothing is written. The leader does the same every
audit.every ticks and reports it as metrics.

With --leader ADDRESS the suite recorder of that leader is compared with the
database, too. That is done for one shard: SHARD, or the shard that the
configuration names, or the master.

Exit codes: 0 nothing found, 1 findings, 2 bad input.`,
		Example: `  hostsched check --config /etc/hostsched.yaml
  hostsched check lab-east --leader sched-1.lab:8470 -o json`,
		Args: optional("SHARD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withLab(cmd.Context(), cfg, func(lab ops.Lab) error {
				f, failed := lab.Check(cmd.Context(), shardArg(args), leader)
				if failed != nil && f.Count() == 0 {
					return failed
				}
				if err := out.write(cmd, f, func(w io.Writer) error { return findingsTable(w, f) }); err != nil || failed != nil {
					return errors.Join(err, failed)
				}
				if n := f.Count(); n > 0 {
					return fmt.Errorf("%w: %d", errFindings, n)
				}
				return nil
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	out.bind(cmd)
	cmd.Flags().StringVar(&leader, "leader", "", "address of the leader, to compare its suite recorder")
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames)
	return cmd
}

func findingsTable(w io.Writer, f admin.Findings) error {
	t := newTable(w)
	for _, kind := range f.Kinds() {
		for _, x := range kind.All {
			entry := ""
			if x.Entry != 0 {
				entry = fmt.Sprintf("entry %d of job %d", x.Entry, x.Job)
			}
			host := ""
			if x.Host != 0 {
				host = fmt.Sprintf("host %s (%d)", x.Hostname, x.Host)
			}
			t.row(strings.ReplaceAll(kind.Name, "_", " "), fmt.Sprintf("shard %s", x.Shard), host, x.Text, entry)
		}
	}
	t.row(fmt.Sprintf("%d findings", f.Count()))
	return t.flush()
}
