package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

func hostCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "host", Short: "Enter hosts, see what they do, and hold them",
		Long: `Hosts are the devices under test. A lock keeps a host from everybody, and its tasks
wait, too; a drain lets what has the host finish, and then locks it.`,
		Example: "  hostsched host list -l board:eve",
	}, hostListCommand(), hostShowCommand(), hostAddCommand(), hostImportCommand(), hostLabelCommand(), hostACLCommand(),
		holdCommand(lockHold), holdCommand(unlockHold), holdCommand(drainHold), holdCommand(undrainHold),
		hostHistoryCommand(), hostExplainCommand(), hostUsersCommand(),
		hostReserveCommand(), hostExtendCommand(), hostReleaseCommand(),
		removeCommand("host", "HOST", "Remove hosts that are not in use", "Remove hosts. One that is in use is left alone: drain it first.", "/hosts", hostsOf, selectedHosts, nil))
}

func hostDisplay() *display[labapi.Host] {
	return newDisplay(func(h labapi.Host) string { return h.Hostname },
		column[labapi.Host]{title: "HOSTNAME", cell: func(h labapi.Host) any { return h.Hostname }},
		column[labapi.Host]{title: "STATUS", cell: func(h labapi.Host) any { return h.Status }},
		column[labapi.Host]{title: "JOB", cell: func(h labapi.Host) any { return jobOf(h) }},
		column[labapi.Host]{title: "HELD", cell: func(h labapi.Host) any { return heldText(h) }},
		column[labapi.Host]{title: "SHARD", wide: true, cell: func(h labapi.Host) any { return orDash(h.Shard) }},
		column[labapi.Host]{title: "LEASED", wide: true, cell: func(h labapi.Host) any { return yesNo(h.Leased) }},
		column[labapi.Host]{title: "ACL-GROUPS", wide: true, cell: func(h labapi.Host) any { return listed(h.ACLGroups) }},
		column[labapi.Host]{title: "LABELS", cell: func(h labapi.Host) any { return listed(h.Labels) }},
	)
}

func jobOf(h labapi.Host) string {
	if h.Entry == nil {
		return "-"
	}
	return fmt.Sprint(h.Entry.Job)
}

// heldText is by whom a host is held, until when and why.
func heldText(h labapi.Host) string {
	var parts []string
	if r := h.Reservation; r != nil {
		parts = append(parts, holdText("reserved", r.By, "until "+when(r.Until), r.Reason))
	}
	if d := h.Drain; d != nil {
		parts = append(parts, holdText("draining", d.By, "deadline "+when(d.Deadline), d.Reason))
	}
	if h.Bad != nil {
		parts = append(parts, "held as bad since "+when(h.Bad.Since)+": "+h.Bad.Reason)
	}
	switch {
	case h.Lock != nil:
		parts = append(parts, holdText("locked", h.Lock.By, "until "+when(h.Lock.Until), h.Lock.Reason))
	case h.Locked:
		parts = append(parts, "locked")
	}
	return orDash(strings.Join(parts, "; "))
}

func holdText(what, by, until, reason string) string {
	text := what
	if by != "" {
		text += " by " + by
	}
	if !strings.HasSuffix(until, " -") {
		text += " " + until
	}
	if reason != "" {
		text += ": " + reason
	}
	return text
}

func hostListCommand() *cobra.Command {
	var conn connection
	var labels []string
	var status, acl, heldBy, text, locked string
	var limit int
	var mine bool
	var chosen selecting
	show := hostDisplay()
	cmd := &cobra.Command{
		Use: "list", Short: "List hosts", Args: noArgs,
		Example: `  hostsched host list -l board:eve -l pool:bvt
  hostsched host list --selector 'board=eve,!broken'
  hostsched host list --locked true --held-by alice -o name
  hostsched host list --mine`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if locked != "" && locked != "true" && locked != "false" {
				return fmt.Errorf("%w: --locked must be true or false", errUsage)
			}
			if status != "" {
				if err := oneOf(status, labapi.HostStatuses); err != nil {
					return fmt.Errorf("%w: --status: %w", errUsage, err)
				}
			}
			if err := chosen.check(cmd); err != nil {
				return err
			}
			q := query("selector", chosen.selector, "status", status, "acl", acl, "held_by", heldBy, "q", text, "locked", locked)
			for _, l := range labels {
				q.Add("label", l)
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				if mine {
					me, err := whoAmI(ctx, client)
					if err != nil {
						return err
					}
					q.Set("used_by", me.Owner)
				}
				return show.list(ctx, cmd, func(ctx context.Context) ([]labapi.Host, error) {
					return labclient.List[labapi.Host](ctx, client, "/hosts", q, limit)
				})
			})
		},
	}
	conn.bind(cmd)
	show.bindWatch(cmd)
	chosen.bindSelector(cmd, "only those whose labels fit")
	f := cmd.Flags()
	f.StringArrayVarP(&labels, "label", "l", nil, "only those that carry this label; all of them, if given again")
	f.BoolVar(&mine, "mine", false, "only those that your jobs and reservations have")
	f.StringVar(&status, "status", "", "only those with this status: "+strings.Join(labapi.HostStatuses, ", "))
	f.StringVar(&acl, "acl", "", "only those in this ACL group")
	f.StringVar(&heldBy, "held-by", "", "only those that this user locks or drains")
	f.StringVar(&locked, "locked", "", "only those that are locked, or are not: true, false")
	f.StringVarP(&text, "query", "q", "", "only those with this text in their name")
	bind(cmd, &limit, "limit", maxLimit, 1, maxLimit, "how many at most")
	completeFlag(cmd, "status", cobra.FixedCompletions(labapi.HostStatuses, cobra.ShellCompDirectiveNoFileComp))
	completeLab(cmd, &conn, "label", labelsOf)
	return cmd
}

func hostPath(name string, more ...string) string {
	return labclient.Path(append([]string{"hosts", name}, more...)...)
}

func hostShowCommand() *cobra.Command {
	show := hostDisplay()
	return showCommand(&cobra.Command{Use: "show HOST", Short: "Show a host", Example: "  hostsched host show eve-1 -o yaml"},
		hostsOf, pathOfName(hostPath), show.bind, show.one)
}

func hostAddCommand() *cobra.Command {
	var conn connection
	var many bulk
	var in labapi.HostInput
	cmd := &cobra.Command{
		Use: "add HOST...", Short: "Enter hosts",
		Example: "  hostsched host add eve-1 eve-2 -l board:eve -l pool:bvt",
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := many.required(cmd, args)
			if err != nil {
				return err
			}
			in.Locked = in.LockReason != ""
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return forEach(ctx, cmd, names, "added", func(ctx context.Context, name string) error {
					one := in
					one.Hostname = name
					return client.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/hosts", Body: one}, nil)
				})
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&in.Labels, "label", "l", nil, "a label that they carry; entered if there is none")
	f.StringArrayVar(&in.ACLGroups, "acl", nil, "an ACL group that they are in; Everyone if none is given")
	f.StringVar(&in.Protection, "protection", "", "what may be done to repair them, as Autotest has it")
	f.StringToStringVar(&in.Attributes, "attribute", nil, "attributes, like serial=C4F2")
	f.StringVar(&in.LockReason, "lock", "", "enter them under a lock with this reason")
	completeLab(cmd, &conn, "label", labelsOf)
	return cmd
}

// addAndRemove is what a command adds to hosts and takes away from them.
type addAndRemove struct{ add, remove []string }

func (a *addAndRemove) bind(cmd *cobra.Command, what string) {
	cmd.Flags().StringArrayVar(&a.add, "add", nil, what+" that they get")
	cmd.Flags().StringArrayVar(&a.remove, "remove", nil, what+" that they lose")
}

func (a *addAndRemove) check(cmd *cobra.Command) error {
	if len(a.add)+len(a.remove) == 0 {
		return fmt.Errorf("%w: say --add or --remove; see '%s --help'", errUsage, cmd.CommandPath())
	}
	return nil
}

// of are the names with what is added and without what is removed.
func (a *addAndRemove) of(names []string) []string {
	out := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(a.remove, n) })
	for _, n := range a.add {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func hostLabelCommand() *cobra.Command {
	return changeHosts("label HOST...", "Give labels to hosts, or take them away", "label", labelsOf, func(ctx context.Context, client *labclient.Client, name string, a addAndRemove) error {
		patch := labapi.HostPatch{AddLabels: a.add, RemoveLabels: a.remove}
		return client.Do(ctx, labclient.Call{Method: http.MethodPatch, Path: hostPath(name), Body: patch, Header: labclient.AnyVersion()}, nil)
	})
}

func hostACLCommand() *cobra.Command {
	return changeHosts("acl HOST...", "Put hosts into ACL groups, or take them out", "ACL group", nil, changeACLs)
}

// changeACLs reads the groups of a host and writes them, again if somebody else has
// changed the host in between.
func changeACLs(ctx context.Context, client *labclient.Client, name string, a addAndRemove) error {
	const attempts = 5
	var err error
	for range attempts {
		var h labapi.Host
		version, readErr := client.GetVersion(ctx, hostPath(name), &h)
		if readErr != nil {
			return readErr
		}
		groups := a.of(h.ACLGroups)
		err = client.Do(ctx, labclient.Call{Method: http.MethodPatch, Path: hostPath(name), Body: labapi.HostPatch{ACLGroups: &groups}, Header: labclient.OfVersion(version)}, nil)
		if !labclient.IsProblem(err, "stale-version") {
			return err
		}
	}
	return err
}

func changeHosts(use, short, what string, list labLister, change func(context.Context, *labclient.Client, string, addAndRemove) error) *cobra.Command {
	var conn connection
	var many bulk
	var a addAndRemove
	cmd := &cobra.Command{
		Use: use, Short: short, Example: "  hostsched host " + strings.Fields(use)[0] + " eve-1 eve-2 --add team-a",
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := many.required(cmd, args)
			if err != nil {
				return err
			}
			if err := a.check(cmd); err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				names, err := many.resolve(ctx, client, names)
				if err != nil {
					return err
				}
				return forEach(ctx, cmd, names, "changed", func(ctx context.Context, name string) error { return change(ctx, client, name, a) })
			})
		},
	}
	conn.bind(cmd)
	many.bind(cmd)
	many.bindSelected(cmd, "all hosts whose labels fit", selectedHosts)
	a.bind(cmd, what)
	cmd.ValidArgsFunction = completeMany(&conn, hostsOf)
	if list != nil {
		completeLab(cmd, &conn, "add", list)
		completeLab(cmd, &conn, "remove", list)
	}
	return cmd
}

func hostHistoryCommand() *cobra.Command {
	show := newDisplay(func(e labapi.Event) string { return fmt.Sprint(e.ID) },
		column[labapi.Event]{title: "ID", wide: true, cell: func(e labapi.Event) any { return e.ID }},
		column[labapi.Event]{title: "AT", cell: func(e labapi.Event) any { return utc(e.At) }},
		column[labapi.Event]{title: "WHAT", cell: func(e labapi.Event) any { return e.Kind }},
		column[labapi.Event]{title: "JOB", cell: func(e labapi.Event) any { return idOrDash(e.Job) }},
		column[labapi.Event]{title: "ENTRY", wide: true, cell: func(e labapi.Event) any { return idOrDash(e.Entry) }},
		column[labapi.Event]{title: "WHO", cell: func(e labapi.Event) any { return orDash(e.Who) }},
		column[labapi.Event]{title: "WHY", cell: func(e labapi.Event) any { return orDash(e.Reason) }},
	)
	cmd := listOfHost(&cobra.Command{Use: "history HOST", Short: "Show what happened to a host, the latest first", Example: "  hostsched host history eve-1 --limit 20"}, show, "history")
	show.bindWatch(cmd)
	return cmd
}

// listOfHost lists what the API has under a path of the host that an argument names.
func listOfHost[T any](cmd *cobra.Command, show *display[T], path string) *cobra.Command {
	var conn connection
	var limit int
	cmd.Args = exactly("HOST")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
			return show.list(ctx, cmd, func(ctx context.Context) ([]T, error) {
				return labclient.List[T](ctx, client, hostPath(args[0], path), nil, limit)
			})
		})
	}
	conn.bind(cmd)
	bindLimit(cmd, &limit)
	cmd.ValidArgsFunction = completeFirst(&conn, hostsOf)
	return cmd
}

func hostExplainCommand() *cobra.Command {
	var out output
	return showCommand(&cobra.Command{Use: "explain HOST", Short: "Say why nobody has a host, who may use it, and who waits for it", Example: "  hostsched host explain eve-1"},
		hostsOf, pathOfName(hostPath, "explain"), func(cmd *cobra.Command) { out.bind(cmd, outputYAML) },
		func(cmd *cobra.Command, e labapi.HostExplanation) error {
			return out.write(cmd, e, func(w io.Writer) error { return hostExplanation(w, e) })
		})
}

func hostExplanation(w io.Writer, e labapi.HostExplanation) error {
	t := newTable(w)
	t.line("%s", e.Text)
	for _, r := range e.Reasons {
		t.row("not given out", r)
	}
	t.row("users", listed(e.Users))
	for _, q := range e.Waiting {
		t.row("waits for it", fmt.Sprintf("job %d of %s, entry %d, priority %d", q.Job, q.Owner, q.Entry, q.Priority))
	}
	return t.flush()
}

func hostUsersCommand() *cobra.Command {
	show := userDisplay()
	cmd := listOfHost(&cobra.Command{Use: "users HOST", Short: "List who may use a host, and by which ACL groups", Example: "  hostsched host users eve-1"}, show, "users")
	show.bind(cmd)
	return cmd
}
