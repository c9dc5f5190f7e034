package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// leaderTimeout bounds the question to the leader.
const leaderTimeout = 5 * time.Second

// errFindings makes the exit code of an audit that found something.
var errFindings = errors.New("the audit has findings")

func auditCommand() *cobra.Command {
	cfg := &config.Config{}
	var output, leader string
	cmd := &cobra.Command{
		Use:   "audit [SHARD]",
		Short: "Look for states of the database that should not be",
		Long: `Look for hosts with several active entries, leased hosts that nobody holds, and
active entries on unleased hosts, in one shard or in the whole database. With
--leader ADDRESS also compare the leader's suite recorder for SHARD (default:
master) with the database. Nothing is written. The leader does the same every
audit.every ticks and reports it as metrics.

Exit codes: 0 nothing found, 1 findings, 2 bad input.`,
		Example: `  hostsched audit --config /etc/hostsched.yaml
  hostsched audit --leader sched-1.lab:8470 -o json`,
		Args: atMostOneShard,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseShard(args)
			if err != nil {
				return err
			}
			return withDatabase(cmd.Context(), cfg, false, func(db *store.DB) error {
				recorder, err := leaderRecorder(cmd.Context(), leader, name)
				if err != nil {
					return err
				}
				scope := store.Scope{Shard: name, Shared: leader != "" || len(args) > 0}
				f, err := admin.New(db).Check(cmd.Context(), scope, recorder)
				if err != nil {
					return err
				}
				if err := write(cmd, output, f, func(w io.Writer) error { return findingsTable(w, f) }); err != nil {
					return err
				}
				if n := f.Count(); n > 0 {
					return fmt.Errorf("%w: %d", errFindings, n)
				}
				return nil
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	addOutputFlag(cmd, &output)
	cmd.Flags().StringVar(&leader, "leader", "", "address of the leader, to compare its suite recorder")
	return cmd
}

// leaderRecorder asks the leader for its recorder; nil without an address.
func leaderRecorder(ctx context.Context, address string, name shard.Name) (*scheduler.Recorder, error) {
	if address == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	target := strings.TrimSuffix(address, "/") + "/v1/recorder?shard=" + url.QueryEscape(name.String())
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: --leader: %w", errUsage, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the leader at %s for its recorder: %w", address, err)
	}
	defer func() { _ = res.Body.Close() }() // it was only read
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s for its recorder: it answers %s; only the leader has one, see 'etcdctl get --prefix /hostsched/'", address, res.Status)
	}
	var answer web.Recorder
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("read the recorder of %s: %w", address, err)
	}
	var holdings []scheduler.Holding
	for host, suite := range answer.Hosts {
		holdings = append(holdings, scheduler.Holding{Host: host, Suite: suite})
	}
	return scheduler.NewRecorder(holdings), nil
}

func findingsTable(w io.Writer, f admin.Findings) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, kind := range []struct {
		name string
		all  []admin.Finding
	}{{"overlapping", f.Overlapping}, {"unheld", f.Unheld}, {"unleased", f.Unleased}, {"drift", f.Drift}} {
		for _, x := range kind.all {
			entry := ""
			if x.Entry != 0 {
				entry = fmt.Sprintf("entry %d of job %d", x.Entry, x.Job)
			}
			fmt.Fprintf(tw, "%s\thost %s (%d)\t%s\t%s\n", kind.name, x.Hostname, x.Host, x.Text, entry)
		}
	}
	fmt.Fprintf(tw, "%d findings\n", f.Count())
	return tw.Flush()
}
