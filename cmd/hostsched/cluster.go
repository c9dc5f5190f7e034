package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/store"
)

// How often `cluster status --watch` shows it again. Each time asks etcd, the database and
// all replicas.
const (
	defaultWatchInterval = time.Second
	minWatchInterval     = 100 * time.Millisecond
	maxWatchInterval     = time.Hour
)

func clusterCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "cluster",
		Short: "See who leads which shard, and who did",
		Long: `See who leads which shard, and who did. The facts are in etcd, too: see
'etcdctl get --prefix /hostsched/'.`,
		Example: "  hostsched cluster status --watch",
	}, clusterStatusCommand(), clusterHistoryCommand())
}

// withCluster opens the database and etcd.
func withCluster(cmd *cobra.Command, cfg *config.Config, work func(context.Context, ops.Lab, *clientv3.Client) error) error {
	ctx, stop := untilSignalled(cmd.Context())
	defer stop()
	return inLab(ctx, cfg, false, func(lab ops.Lab) error {
		return withEtcd(cfg, func(client *clientv3.Client) error { return work(ctx, lab, client) })
	})
}

// withEtcd connects to etcd, does the work and closes the connection again.
func withEtcd(cfg *config.Config, work func(*clientv3.Client) error) error {
	client, err := cfg.EtcdConnection().Client()
	if err != nil {
		return err
	}
	return errors.Join(work(client), client.Close())
}

func clusterStatusCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	var watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "status", Short: "Show servers, roles, shards and their leaders", Args: noArgs,
		Long: `Show which servers are there and what they may do, and for every shard its
leader, term, token, since when, the age and duration of its last tick, what the
leader has assigned, and FAILOVERS: how often the shard was lost and not handed
over, within the days that the history is kept (history.days). NOTE says why
nobody leads a shard.

With -o wide, HEIR is the server that stands by and would take the shard over, and
CANDIDATES are those that campaign for it besides its leader. They do so only while
it changes hands, so that there mostly are none.

Etcd, the database and all replicas are asked at the same time, and everything is
shown within three seconds. If etcd or the database does not answer, the rest is
shown, with the reason. All times are UTC.

The exit code is 1 if a shard has no leader, or if etcd, a database or a replica did
not answer.`,
		Example: `  hostsched cluster status --config /etc/hostsched.yaml
  hostsched cluster status --watch
  hostsched cluster status -o json | jq '.shards[] | {shard, leader}'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := loadLab(cfg); err != nil {
				return err
			}
			return withEtcd(cfg, func(client *clientv3.Client) error {
				reader := ops.NewStatusReader(cfg, client)
				if watch {
					return errors.Join(watchStatus(cmd, reader, out, interval), reader.Close())
				}
				st, err := showStatus(cmd.Context(), cmd, reader, out)
				err = errors.Join(err, reader.Close())
				if err == nil && !st.Whole() {
					return coded{code: exitFailed}
				}
				return err
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.EtcdGroup)
	out.bind(cmd, outputWide)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until Ctrl-C, also while etcd or the database is down")
	bind(cmd, &interval, "interval", defaultWatchInterval, minWatchInterval, maxWatchInterval, "with --watch, how often")
	return cmd
}

func showStatus(ctx context.Context, cmd *cobra.Command, reader *ops.StatusReader, out output) (ops.ClusterStatus, error) {
	st, err := reader.Read(ctx)
	if err != nil || ctx.Err() != nil {
		return st, err
	}
	return st, out.write(cmd, st, func(w io.Writer) error { return statusTable(w, st, out.wide()) })
}

// watchStatus shows the status again and again until a signal comes.
func watchStatus(cmd *cobra.Command, reader *ops.StatusReader, out output, interval time.Duration) error {
	ctx, stop := untilSignalled(cmd.Context())
	defer stop()
	for {
		if _, err := showStatus(ctx, cmd, reader, out); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
			fmt.Fprintln(cmd.OutOrStdout())
		}
	}
}

func statusTable(w io.Writer, st ops.ClusterStatus, wide bool) error {
	t := newTable(w)
	for _, m := range st.Missing {
		t.line("MISSING  %s: %s", m.What, m.Why)
	}
	for _, text := range st.Warnings {
		t.line("WARNING  %s", text)
	}
	t.row("SERVER", "ROLE", "LEADS", "SINCE", inWide(wide, "WEIGHT", "ADDRESS", "VERSION", "POLICY", "AGING"), "WHY")
	for _, s := range st.Servers {
		why := s.Why
		if s.Error != "" {
			why = strings.TrimPrefix(why+"; does not answer: "+s.Error, "; ")
		}
		t.row(s.Server, orDash(s.Role), s.Leads, orDash(s.Since), inWide(wide, s.Weight, s.Address, orDash(s.Version), orDash(s.Rules["scheduler.policy"]), orDash(s.Rules["scheduler.aging"])), why)
	}
	t.row()
	t.row("SHARD", "LEADER", "TERM", "TOKEN", "SINCE", "LAST TICK", "TOOK", "ASSIGNED", "FAILOVERS", inWide(wide, "HOSTS", "HEIR", "CANDIDATES", "HOLDER", "LABELS", "DATABASE"), "NOTE")
	for _, s := range st.Shards {
		t.row(s.Shard, orDash(s.Leader), positive(s.Term), positive(s.Token), orDash(s.Since), millis(s.LastTickAge, " ago"), millis(s.LastTick, ""), known(s.Assignments), known(int64(s.Failovers)),
			inWide(wide, s.Hosts, orDash(s.Heir), orDash(strings.Join(s.Candidates, ",")), orDash(s.Holder), orDash(strings.Join(s.Labels, ",")), orDash(s.Database)), note(s))
	}
	return t.flush()
}

// known is a count, or a dash if it is negative and so not known.
func known(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// positive is a number of which 0 means that there is none.
func positive(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// note is all that there is to say of a shard.
func note(s ops.ShardStatus) string {
	if s.NotServed != "" {
		return fmt.Sprintf("not served: %s; rename row %d of afe_shards, or remove it with 'hostsched shard remove --row %d'", s.NotServed, s.Row, s.Row)
	}
	var notes []string
	for _, n := range []struct{ before, text string }{{"nobody leads: ", s.WhyNobody}, {"paused: ", s.Paused}, {"", s.Slow}, {"", s.Error}} {
		if n.text != "" {
			notes = append(notes, n.before+n.text)
		}
	}
	if s.Wanted != "" && s.Wanted != s.Leader {
		notes = append(notes, "asked for: "+s.Wanted)
	}
	return strings.Join(append(notes, s.Ignored...), "; ")
}

func millis(n int64, suffix string) string {
	if n < 0 {
		return "-"
	}
	return (time.Duration(n) * time.Millisecond).String() + suffix
}

func clusterHistoryCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	var rows int
	cmd := &cobra.Command{
		Use: "history [SHARD]", Short: "Show every term of a shard (default: master): who, when, how long, why it ended", Args: optional("SHARD"),
		Example: "  hostsched cluster history master --limit 5",
		RunE: func(cmd *cobra.Command, args []string) error {
			return withLab(cmd.Context(), cfg, func(lab ops.Lab) error {
				terms, err := lab.Terms(cmd.Context(), shardArg(args), rows)
				if err != nil {
					return err
				}
				return out.write(cmd, terms, func(w io.Writer) error { return historyTable(w, terms, out.wide()) })
			})
		},
	}
	cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	out.bind(cmd, outputWide)
	bindRows(cmd, &rows, "show at most so many terms, the latest")
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames)
	return cmd
}

// lasted is how long a term lasted by the database's clock, a dash if that clock was set
// back meanwhile. Nobody has noted yet that a term is over whose holder could not.
func lasted(t store.Term) string {
	switch took := t.Ended.Sub(t.Began); {
	case t.Ended.IsZero():
		return "(not ended)"
	case took < 0:
		return "-"
	default:
		return took.Round(time.Millisecond).String()
	}
}

func historyTable(w io.Writer, terms []store.Term, wide bool) error {
	table := newTable(w)
	table.row("TERM", "TOKEN", "SERVER", "BEGAN", "LASTED", "TICKS", "ASSIGNED", "NEXT", "ENDED BECAUSE")
	for _, t := range terms {
		server, _ := store.SplitHolder(t.Holder)
		next, _ := store.SplitHolder(t.Next)
		if wide {
			server, next = t.Holder, t.Next
		}
		table.row(t.Epoch, t.Token, server, utc(t.Began), lasted(t), known(t.Ticks), known(t.Assignments), orDash(next), t.Cause)
	}
	return table.flush()
}
