package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/durations"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// holdKind is one way to hold hosts, or to end that.
type holdKind struct {
	action, done, short, long, example string
}

var (
	lockHold = holdKind{labapi.ActionLock, "locked", "Lock hosts: nobody gets them, and their tasks wait",
		`Lock hosts. Nobody gets them until the lock ends: at --until by itself, or by
'hostsched host unlock'. The tasks of a host that is in use wait, too, so its job
may never begin; 'hostsched host drain' lets it finish first. A lock of somebody
else is left alone, unless --steal is given.`,
		"  hostsched host lock eve-1 --until 4h --reason 'new battery'\n  hostsched host lock --all-with-label board:eve --forever --reason 'firmware recall' --yes"}
	unlockHold = holdKind{labapi.ActionUnlock, "unlocked", "End the locks of hosts", "End the locks of hosts, at once.", "  hostsched host unlock eve-1 eve-2"}
	drainHold  = holdKind{labapi.ActionDrain, "draining", "Let hosts finish what they do, then lock them",
		`Drain hosts: what has them may finish, nobody new gets them, and then they are
locked. With --deadline and --abort, what still runs then is aborted.`,
		"  hostsched host drain eve-1 --reason 'new rack' --deadline 2h --abort"}
	undrainHold = holdKind{labapi.ActionUndrain, "not draining", "End the drains of hosts", "End the drains of hosts that are not locked yet.", "  hostsched host undrain eve-1"}
)

// begins tells whether hosts are held, and not given back.
func (k holdKind) begins() bool {
	return k.action == labapi.ActionLock || k.action == labapi.ActionDrain
}

// maxAtOnce is how many hosts one call takes.
const maxAtOnce = 10_000

func holdCommand(k holdKind) *cobra.Command {
	var conn connection
	var many bulk
	var in labapi.HoldsInput
	var end moment
	var forever bool
	c := consent{record: "journal"}
	cmd := &cobra.Command{
		Use: k.action + " HOST...", Short: k.short, Long: k.long, Example: k.example,
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := many.names(cmd, args)
			if err != nil {
				return err
			}
			in.Selector = many.selector
			in.Action, in.Reason = k.action, strings.TrimSpace(c.reason)
			if err := requireHolds(cmd, k, names, &in, end, forever); err != nil {
				return err
			}
			if err := askForHolds(cmd, &c, k, names, in); err != nil {
				return err
			}
			dated := k
			if k.action == labapi.ActionLock {
				dated.done += end.said(" until ")
			} else {
				dated.done += end.said(", deadline ")
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return hold(ctx, cmd, client, dated, names, in)
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	many.bindSelector(cmd, "all hosts whose labels fit, instead of named ones")
	c.bind(cmd, k.begins())
	f := cmd.Flags()
	f.StringVar(&in.AllWithLabel, "all-with-label", "", "all hosts that carry this label, instead of named ones")
	if k.begins() {
		f.BoolVar(&in.Steal, "steal", false, "take the place of another person's hold")
	}
	switch k.action {
	case labapi.ActionLock:
		f.Var(&end, "until", "when the lock ends, like 4h, 2026-12-01, '2026-12-01 18:00' or 2026-12-01T08:00:00Z")
		f.BoolVar(&forever, "forever", false, "lock them until a person unlocks them")
	case labapi.ActionDrain:
		f.Var(&end, "deadline", "until when what runs may finish, like 2h, 2026-12-01, '2026-12-01 18:00' or 2026-12-01T08:00:00Z")
		f.BoolVar(&in.Abort, "abort", false, "abort what still runs at the deadline")
	}
	cmd.ValidArgsFunction = completeMany(&conn, hostsOf)
	completeLab(cmd, &conn, "all-with-label", labelsOf)
	return cmd
}

// requireHolds finds what is missing or does not go together.
func requireHolds(cmd *cobra.Command, k holdKind, names []string, in *labapi.HoldsInput, end moment, forever bool) error {
	switch {
	case len(names) == 0 && in.AllWithLabel == "" && in.Selector == "":
		return nothingNamed(cmd)
	case len(names) > 0 && in.AllWithLabel != "":
		return fmt.Errorf("%w: name hosts, or say --all-with-label, not both", errUsage)
	case in.Selector != "" && in.AllWithLabel != "":
		return fmt.Errorf("%w: leave --selector or --all-with-label out", errUsage)
	case k.action == labapi.ActionLock && end.at == nil && !forever:
		return fmt.Errorf("%w: say --until when the lock ends, or --forever", errUsage)
	case end.at != nil && forever:
		return fmt.Errorf("%w: leave --until or --forever out", errUsage)
	case in.Abort && end.at == nil:
		return fmt.Errorf("%w: --abort needs a --deadline", errUsage)
	}
	if k.action == labapi.ActionLock {
		in.Until = end.at
	} else {
		in.Deadline = end.at
	}
	return nil
}

// askForHolds asks where more is meant than somebody has typed.
func askForHolds(cmd *cobra.Command, c *consent, k holdKind, names []string, in labapi.HoldsInput) error {
	if in.AllWithLabel != "" {
		return c.ask(cmd, k.action+" all hosts with the label "+in.AllWithLabel)
	}
	if in.Selector != "" {
		return c.ask(cmd, fmt.Sprintf("%s all hosts that fit %q", k.action, in.Selector))
	}
	named := *c
	named.yes = true
	return named.ask(cmd, k.action+" "+countOf(len(names), "host"))
}

// hold sends as many hosts at once as a call takes, and says of each what became of it.
func hold(ctx context.Context, cmd *cobra.Command, client *labclient.Client, k holdKind, names []string, in labapi.HoldsInput) error {
	parts := slices.Collect(slices.Chunk(names, maxAtOnce))
	if len(names) == 0 {
		parts = [][]string{nil}
	}
	var results []labapi.HoldResult
	for _, part := range parts {
		in.Hosts = part
		var done labapi.Holds
		if err := client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/hosts/holds", Body: in}, &done); err != nil {
			return errors.Join(sayHolds(cmd, k, results), err)
		}
		results = append(results, done.Results...)
	}
	return sayHolds(cmd, k, results)
}

func sayHolds(cmd *cobra.Command, k holdKind, results []labapi.HoldResult) error {
	var failed error
	for _, r := range results {
		if r.Done {
			if err := line(cmd.OutOrStdout(), "%s %s", r.Hostname, holdDone(k, r)); err != nil {
				return err
			}
			if r.Entry != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "hostsched: warning: job %d uses %s: its tasks wait while the host is locked; 'hostsched host drain' would have let it finish\n", r.Entry.Job, printable(r.Hostname))
			}
			continue
		}
		problem := &labclient.Problem{Type: r.Type, Detail: r.Detail}
		if len(results) == 1 {
			return coded{codeOf(problem), problem}
		}
		failed = coded{code: exitFailed}
		fmt.Fprintf(cmd.ErrOrStderr(), "hostsched: %s: %s\n", printable(r.Hostname), printable(r.Detail))
	}
	return failed
}

func holdDone(k holdKind, r labapi.HoldResult) string {
	if r.Changed {
		return k.done
	}
	return "unchanged"
}

// codeOf is the exit code for a problem that came inside of an answer, without a status.
func codeOf(p *labclient.Problem) int {
	switch p.Name() {
	case "not-allowed":
		return exitDenied
	case "not-found", "bad-input":
		return exitInput
	}
	return exitFailed
}

// moment is the value of a flag that is a time, or how long from now.
type moment struct {
	text string
	at   *time.Time
}

func (m *moment) String() string { return m.text }

// Type implements pflag.Value.
func (m *moment) Type() string { return "time" }

// maxHold is the longest hold that has an end.
const maxHold = 10 * 365 * 24 * time.Hour

// localTimes are the forms of times that name no zone. They are those of this machine's zone.
var localTimes = []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, "2006-01-02T15:04", "2006-01-02T15:04:05"}

// Set implements pflag.Value.
func (m *moment) Set(text string) error {
	now := time.Now()
	at, ok := parseMoment(text, now)
	if !ok {
		return fmt.Errorf("%q is neither a duration, like 4h or 2d, nor a time, like 2026-12-01, '2026-12-01 18:00' or 2026-12-01T18:00:00Z", text)
	}
	if !at.After(now) || at.Sub(now) > maxHold {
		return fmt.Errorf("%s, which is %s, is not within the next ten years", text, zoned(at, time.Local))
	}
	at = at.UTC().Truncate(time.Second)
	m.text, m.at = text, &at
	return nil
}

func parseMoment(text string, now time.Time) (time.Time, bool) {
	if d, ok := durations.Parse(text); ok {
		return now.Add(d), true
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, true
	}
	for _, form := range localTimes {
		if at, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// said is how the end of a hold is told, so that whoever gave no zone sees which was meant.
func (m *moment) said(before string) string {
	if m.at == nil {
		return ""
	}
	return before + zoned(*m.at, time.Local)
}

// zoned is a time in a zone, with its name, and in UTC if that is another one.
func zoned(at time.Time, zone *time.Location) string {
	text := at.In(zone).Format("2006-01-02 15:04:05 MST")
	if _, offset := at.In(zone).Zone(); offset != 0 {
		text += " (" + utc(at) + ")"
	}
	return text
}
