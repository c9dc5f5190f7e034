package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/scheduler"
)

// Exit codes of `hostsched plan`, like those of diff-like commands elsewhere.
const (
	exitChanges   = 1
	exitPlanError = 255
)

// coded is an error with an exit code of its own. Without err nothing is
// printed.
type coded struct {
	code int
	err  error
}

func (c coded) Error() string {
	if c.err == nil {
		return ""
	}
	return c.err.Error()
}

func (c coded) Unwrap() error { return c.err }

func planCommand() *cobra.Command {
	cfg := &config.Config{}
	var out output
	var policy policyFlag
	var shadow bool
	var ticks int
	var filter ops.PlanFilter
	cmd := &cobra.Command{
		Use:   "plan [SHARD]",
		Short: "Show what the next tick would do, and why entries wait",
		Long: `Show what the next tick would do on a live database, and for every entry that
would get no host all the reasons, with numbers. Nothing is written; a database
user that may only read is enough, for an SQLite file as long as a server has it
open.

Without SHARD it is the plan of the shard in the configuration, or of the master.
In a shard that is paused nothing would be done: the plan says who paused it, and
lists who would get which host among those who wait.

With --job, --suite or --label only what concerns those jobs is shown, or a note
that nothing of them waits. At the end the waiting entries are summed up by reason.

The plan is made by the rules of the replica that leads the shard (scheduler.policy,
scheduler.aging and labels.*), which is asked for them. What the configuration, the
environment or a flag of this command says of these settings goes before, and a note
says in what the leader decides otherwise. A note also says if no replica that leads
could be asked: then all is as the configuration says.

With --policy, hosts are chosen in that way, and the plan says how many entries
get a host under the policy that decides otherwise: what a change of
scheduler.policy would gain, for the jobs that are asked for with --job, --suite or
--label.

With --shadow, plan at every tick beside another scheduler that runs on the same
database, and report how far the two agree: how many entries got a host since the
last plan and had one in it, how many had the same host, and how many were not in
it, because they came later or because the two differ. What comes and goes between
two ticks is not seen, so tick about as often as that scheduler does. An entry that
one policy leaves waiting counts at every tick as long as it waits, also while the
shard is paused. The leader is asked for its rules once, at the beginning.

Exit codes: 0 nothing to do, 1 there are changes, 2 there is no such job, suite,
label or shard, 255 any other error.`,
		Example: `  hostsched plan --config /etc/hostsched.yaml
  hostsched plan lab-east --config /etc/hostsched.yaml
  hostsched plan --suite 4711                # also --job and --label
  hostsched plan --database-dsn sqlite:data/lab.db -o json
  hostsched plan --policy optimal --config /etc/hostsched.yaml
  hostsched plan --shadow --tick-min 5s --config /etc/hostsched.yaml`,
		Args: func(cmd *cobra.Command, args []string) error { return planError(optional("SHARD")(cmd, args)) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := planFlags(cmd, shadow); err != nil {
				return planError(err)
			}
			ctx, stop := untilSignalled(cmd.Context())
			defer stop()
			return planError(withLab(ctx, cfg, func(lab ops.Lab) error {
				return lab.OnShard(ctx, shardArg(args), func(s ops.Shard) error {
					s, err := lab.AsLed(ctx, s)
					if err != nil {
						return err
					}
					if shadow {
						return runShadow(ctx, cmd, s, &out, policy.value, cfg.Tick.Min, ticks)
					}
					return runPlan(ctx, cmd, s, &out, policy.value, filter)
				})
			}))
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return planError(flagError(cmd, err)) })
	cfg.Bind(cmd.Flags(), config.DatabaseGroup|config.ReplicaGroup)
	out.bind(cmd)
	policy.bind(cmd)
	bind(cmd, &filter.Job, "job", 0, 1, math.MaxInt32, "only what concerns this job")
	bind(cmd, &filter.Suite, "suite", 0, 1, math.MaxInt32, "only what concerns the jobs of this suite")
	cmd.Flags().StringVar(&filter.Label, "label", "", "only what concerns jobs that depend on this label")
	cmd.Flags().BoolVar(&shadow, "shadow", false, "plan at every tick beside a running scheduler and report agreement")
	bind(cmd, &ticks, "ticks", 0, 0, maxTicks, "with --shadow, end after so many ticks (0: never)")
	cmd.ValidArgsFunction = completeArgs(cfg, shardNames)
	return cmd
}

// planFlags refuses flags that mean nothing together.
func planFlags(cmd *cobra.Command, shadow bool) error {
	if !shadow && cmd.Flags().Changed("ticks") {
		return fmt.Errorf("%w: --ticks is for --shadow; leave it out, or add --shadow", errUsage)
	}
	if label := cmd.Flags().Lookup("label"); label.Changed && label.Value.String() == "" {
		return fmt.Errorf("%w: --label is empty; name a label, or leave it out for the whole plan", errUsage)
	}
	for _, name := range []string{"job", "suite", "label"} {
		if shadow && cmd.Flags().Changed(name) {
			return fmt.Errorf("%w: --shadow reports on a whole shard; leave --%s out", errUsage, name)
		}
	}
	return nil
}

// policyFlag is the flag --policy. It is empty if the configured policy is meant.
type policyFlag struct{ value scheduler.Policy }

var policies = []string{string(scheduler.PolicyExact), string(scheduler.PolicyOptimal)}

func (p *policyFlag) String() string { return string(p.value) }

// Set implements pflag.Value.
func (p *policyFlag) Set(text string) error {
	if err := oneOf(text, policies); err != nil {
		return err
	}
	p.value = scheduler.Policy(text)
	return nil
}

// Type implements pflag.Value.
func (p *policyFlag) Type() string { return "policy" }

func (p *policyFlag) bind(cmd *cobra.Command) {
	cmd.Flags().Var(p, "policy", "choose hosts by this policy and compare with the one that decides: "+strings.Join(policies, ", "))
	completeFlag(cmd, "policy", cobra.FixedCompletions(policies, cobra.ShellCompDirectiveNoFileComp))
}

// planError gives an error the exit code that tells it from changes. What is not found has
// the one that all commands have for it, which means no change either.
func planError(err error) error {
	var c coded
	if err == nil || errors.As(err, &c) {
		return err
	}
	if errors.Is(err, ops.ErrNotFound) || errors.Is(err, ops.ErrNoShard) {
		return coded{exitInput, err}
	}
	return coded{exitPlanError, err}
}

func runPlan(ctx context.Context, cmd *cobra.Command, s ops.Shard, out *output, policy scheduler.Policy, filter ops.PlanFilter) error {
	r, err := ops.MakePlanReport(ctx, s, policy, filter)
	if err != nil {
		return err
	}
	if err := out.write(cmd, r, func(w io.Writer) error { return planTable(w, r) }); err != nil {
		return err
	}
	if r.DoesSomething() {
		return coded{code: exitChanges}
	}
	return nil
}

func planTable(w io.Writer, r ops.PlanReport) error {
	t := newTable(w)
	t.line("policy   %s%s", r.Policy, agingText(r.Aging))
	if r.Paused != nil {
		t.line("paused   shard %s, %s", r.Shard, r.Paused)
	}
	changeRows(t, r)
	for _, kind := range []struct {
		title string
		never bool
	}{{"not now", false}, {"can never run as things stand", true}} {
		for _, x := range r.Waiting {
			if x.Never == kind.never {
				t.line("wait     entry %d of job %d, %s: %s", x.Entry, x.Job, kind.title, x.Reason)
			}
		}
	}
	for _, sum := range r.WaitingByReason {
		t.line("reason   %s: %s, like entry %d: %s", sum.Code, countOf(sum.Entries, "entry"), sum.Entry, sum.Reason)
	}
	for _, note := range []string{r.PlanRules.Note, r.Note} {
		if note != "" {
			t.line("note     %s", note)
		}
	}
	for _, p := range r.Problems {
		t.line("problem  %s", p)
	}
	if g := r.Gain; g != nil {
		t.line("gain     %+d: under %s %s would get a host (%d of them after Provision), and %d (%d) under %s, %s%s",
			g.More(), r.Policy, countOf(g.Assigned, "entry"), g.Provisions, g.ConfiguredAssigned, g.ConfiguredProvisions, g.Configured, whoseText(r.PlanRules), prioritiesText(g.ByPriority))
	}
	ends := ""
	if n := len(r.Unlocks) + len(r.Drained) + len(r.Aborts); n > 0 {
		ends = fmt.Sprintf("%d to unlock, %d to lock, %d to abort, ", len(r.Unlocks), len(r.Drained), len(r.Aborts))
	}
	t.line("%d to assign, %d to lease, %d to change, %d to release, %d to move, %s%d waiting, of which %d can never run",
		len(r.Assignments), len(r.Leases), len(r.Changes), len(r.Releases), len(r.Moves), ends, len(r.Waiting), r.Never)
	return t.flush()
}

// whoseText says whose policy a plan is compared with.
func whoseText(rules ops.PlanRules) string {
	if rules.PolicyOfServer() {
		return "by which server " + rules.Server + " decides"
	}
	return "which is configured"
}

func agingText(aging float64) string {
	if aging == 0 {
		return ""
	}
	return ", with " + strconv.FormatFloat(aging, 'f', -1, 64) + " points of priority more for each hour waited"
}

// prioritiesText says who gains and who loses.
func prioritiesText(gains []ops.PriorityGain) string {
	var texts []string
	for _, g := range gains {
		texts = append(texts, fmt.Sprintf("%+d of priority %s", g.More, g.Priority))
	}
	if len(texts) == 0 {
		return ""
	}
	return ": " + strings.Join(texts, ", ")
}

func changeRows(t table, r ops.PlanReport) {
	for _, l := range r.Leases {
		t.row("lease", "host "+l.Hostname, "for a frontend task")
	}
	for _, a := range r.Assignments {
		t.row("assign", fmt.Sprintf("entry %d", a.Entry), fmt.Sprintf("job %d", a.Job), "suite "+idOrDash(a.Suite), fmt.Sprintf("priority %s", a.Priority),
			"host "+a.Hostname, fmt.Sprintf("round %d", a.Round), strings.Join(append(a.Tasks, a.Status), " → "))
	}
	for _, c := range r.Changes {
		t.row("change", fmt.Sprintf("entry %d", c.Entry), fmt.Sprintf("job %d", c.Job), c.From+" → "+c.To)
	}
	for _, rel := range r.Releases {
		t.row("release", "host "+rel.Hostname)
	}
	for _, u := range r.Unlocks {
		t.row("unlock", "host "+u.Hostname, "whose lock is over")
	}
	for _, d := range r.Drained {
		t.row("lock", "host "+d.Hostname, "which is drained")
	}
	for _, a := range r.Aborts {
		t.row("abort", fmt.Sprintf("entry %d", a.Entry), fmt.Sprintf("job %d", a.Job), "on a draining host")
	}
	for _, m := range r.Moves {
		t.row("move", "host "+m.Hostname, fmt.Sprintf("to the shard with id %d", m.To))
	}
}

func agreementText(a ops.Agreement) string {
	if a.Given == 0 {
		return "no entry got a host yet"
	}
	return fmt.Sprintf("%s got a host, agreed with %d (%.1f%%), same host %d, unexpected %d", countOf(a.Given, "entry"), a.Agreed, 100*float64(a.Agreed)/float64(a.Given), a.SameHost, a.Unexpected)
}

func runShadow(ctx context.Context, cmd *cobra.Command, s ops.Shard, out *output, policy scheduler.Policy, minTick time.Duration, ticks int) error {
	if s.Rules.Note != "" && out.format != outputJSON {
		if err := line(cmd.OutOrStdout(), "note: %s", s.Rules.Note); err != nil {
			return err
		}
	}
	return ops.Shadow(ctx, s, policy, max(minTick, time.Millisecond), ticks, func(a ops.Agreement) error {
		if out.format == outputJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(a)
		}
		now := fmt.Sprintf("planned now %d", a.Open)
		if a.Paused != nil {
			now = fmt.Sprintf("nothing is planned, because the shard is paused %s", a.Paused)
		}
		err := line(cmd.OutOrStdout(), "tick %d: %s, %s", a.Ticks, agreementText(a), now)
		if policy != "" && err == nil {
			err = line(cmd.OutOrStdout(), "  compared with the policy that decides, %s would give hosts to %+d entries now, and to %+.1f on average over all ticks", a.Policy, a.More, a.Mean)
		}
		return err
	})
}
