package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/selector"
	"github.com/hostsched/hostsched/shard"
)

// maxImport is for a list of all hosts of a large lab.
const maxImport = 32 << 20

// List is where a page of a list begins, and how long it is.
type List struct {
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	After string `query:"after" maxLength:"200" doc:"What the page before said."`
}

// versioned is an answer with the version of what it has.
type versioned[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

func answerVersion[T any](v T, version string, err error) (*versioned[T], error) {
	if err != nil {
		return nil, err
	}
	return &versioned[T]{version, v}, nil
}

// Match is the version that somebody wants to change.
type Match struct {
	IfMatch string `header:"If-Match" maxLength:"200" doc:"The ETag of what you have read, or * for any."`
}

// version returns what to compare, or a problem if nothing was said.
func (m Match) version() (string, error) {
	if m.IfMatch == "" {
		return "", newProblem(http.StatusPreconditionRequired, "version-required", "say in If-Match which version you change: its ETag, or * for any")
	}
	return m.IfMatch, nil
}

// HostPath names a host. The parts of inputs are exported, because huma passes over others.
type HostPath struct {
	Hostname string `path:"hostname" maxLength:"255"`
}

func operation(id, method, path, tag, summary string) huma.Operation {
	op := huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag}}
	switch method {
	case http.MethodDelete:
		op.DefaultStatus = http.StatusNoContent
	case http.MethodPost:
		op.DefaultStatus = http.StatusCreated
	}
	return op
}

// wake tells the leaders of shards that there is something to do.
func (a *API) wake(names ...string) {
	if a.cfg.Wake == nil {
		return
	}
	woken := map[string]bool{}
	for _, n := range names {
		if n != "" && !woken[n] {
			woken[n] = true
			a.cfg.Wake(shard.Name(n))
		}
	}
}

type hostsInput struct {
	Limit  int      `query:"limit" default:"100" minimum:"1" maximum:"10000"`
	After  string   `query:"after" maxLength:"200" doc:"What the page before said."`
	Labels []string `query:"label,explode" maxItems:"100" doc:"All of them must be carried."`
	Status string   `query:"status" enum:"Ready,Pending,Running,Verifying,Cleaning,Resetting,Provisioning,Repairing,Repair Failed"`
	State  string   `query:"state" enum:"held,broken,running,idle" doc:"As pools count hosts."`
	ACL    string   `query:"acl" maxLength:"255" doc:"An ACL group that the host is in."`
	HeldBy string   `query:"held_by" maxLength:"190" doc:"Who locked or drains the host."`
	UsedBy string   `query:"used_by" maxLength:"190" doc:"Whose job or reservation has the host."`
	Locked string   `query:"locked" enum:"true,false"`
	Text   string   `query:"q" maxLength:"255" doc:"Part of the hostname."`
	Selecting
}

// Selecting chooses by labels.
type Selecting struct {
	Selector string `query:"selector" maxLength:"2000" doc:"What the labels must be like, as kubectl has it: board=eve,pool in (bvt,cq),!broken. A label board:eve is the key board with the value eve; any other label is a key."`
}

// selector is what chooses, nothing if there is no text.
func (in Selecting) selector() (selector.Selector, error) {
	if in.Selector == "" {
		return nil, nil
	}
	chosen, err := selector.Parse(in.Selector)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", lab.ErrInput, err)
	}
	return chosen, nil
}

func (in *hostsInput) filter() (lab.HostFilter, error) {
	chosen, err := in.selector()
	f := lab.HostFilter{Labels: in.Labels, Selector: chosen, Status: in.Status, State: in.State, ACL: in.ACL, HeldBy: in.HeldBy, UsedBy: in.UsedBy, Text: in.Text}
	if in.Locked != "" {
		locked := in.Locked == "true"
		f.Locked = &locked
	}
	return f, err
}

// hostRoutes are about hosts and what holds them.
func (a *API) hostRoutes() {
	route(a, access.Reading, operation("list-hosts", http.MethodGet, "/hosts", "hosts", "Hosts, by id"),
		func(ctx context.Context, l *lab.Lab, in *hostsInput) (*body[labapi.Page[labapi.Host]], error) {
			filter, err := in.filter()
			if err != nil {
				return nil, err
			}
			return answer(l.Hosts(ctx, filter, in.After, in.Limit))
		})
	route(a, access.Operating, operation("add-host", http.MethodPost, "/hosts", "hosts", "Enter a host"),
		func(ctx context.Context, l *lab.Lab, in *body[labapi.HostInput]) (*versioned[labapi.Host], error) {
			h, version, err := l.AddHost(ctx, callerOf(ctx), in.Body)
			a.wake(h.Shard)
			return answerVersion(h, version, err)
		})
	imports := operation("import-hosts", http.MethodPut, "/hosts", "hosts", "Make the hosts what the list says; run twice it changes nothing")
	imports.MaxBodyBytes = maxImport
	route(a, access.Operating, imports, a.importHosts)
	route(a, access.ChangingHosts, func() huma.Operation {
		op := operation("hold-hosts", http.MethodPost, "/hosts/holds", "hosts", "Lock, unlock, drain or undrain many hosts, with a result for each")
		op.DefaultStatus = http.StatusOK
		return op
	}(), a.holdHosts)
	route(a, access.Reading, operation("get-host", http.MethodGet, "/hosts/{hostname}", "hosts", "A host"),
		func(ctx context.Context, l *lab.Lab, in *HostPath) (*versioned[labapi.Host], error) {
			return answerVersion(l.Host(ctx, in.Hostname))
		})
	route(a, access.ChangingHosts, operation("change-host", http.MethodPatch, "/hosts/{hostname}", "hosts", "Change labels, ACL groups, protection or attributes of a host"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			HostPath
			Match
			Body labapi.HostPatch
		}) (*versioned[labapi.Host], error) {
			version, err := in.version()
			if err != nil {
				return nil, err
			}
			h, version, err := l.PatchHost(ctx, callerOf(ctx), in.Hostname, version, in.Body)
			a.wake(h.Shard)
			return answerVersion(h, version, err)
		})
	route(a, access.ChangingHosts, operation("remove-host", http.MethodDelete, "/hosts/{hostname}", "hosts", "Remove a host that is not in use"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			HostPath
			Match
		}) (*nothing, error) {
			version, err := in.version()
			if err != nil {
				return nil, err
			}
			return nil, l.RemoveHost(ctx, callerOf(ctx), in.Hostname, version)
		})
	a.holdRoutes()
	a.aboutHostRoutes()
}

// holdRoutes lock and drain one host.
func (a *API) holdRoutes() {
	type Stealing struct {
		Steal bool `query:"steal" doc:"Take the place of another person's hold."`
	}
	route(a, access.ChangingHosts, operation("lock-host", http.MethodPut, "/hosts/{hostname}/lock", "hosts", "Lock a host: nobody gets it, and its tasks wait"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			HostPath
			Stealing
			Body labapi.LockInput
		}) (*versioned[labapi.Host], error) {
			return a.hold(ctx, l, in.Hostname, lab.Hold{Action: labapi.ActionLock, Reason: in.Body.Reason, Until: in.Body.Until, Steal: in.Steal})
		})
	route(a, access.ChangingHosts, operation("drain-host", http.MethodPut, "/hosts/{hostname}/drain", "hosts", "Drain a host: what has it may finish, then it is locked"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			HostPath
			Stealing
			Body labapi.DrainInput
		}) (*versioned[labapi.Host], error) {
			return a.hold(ctx, l, in.Hostname, lab.Hold{Action: labapi.ActionDrain, Reason: in.Body.Reason, Deadline: in.Body.Deadline, Abort: in.Body.Abort, Steal: in.Steal})
		})
	for _, end := range []struct{ id, path, action, summary string }{
		{"unlock-host", "lock", labapi.ActionUnlock, "End the lock of a host, if it has one"},
		{"undrain-host", "drain", labapi.ActionUndrain, "End the drain of a host, if there is one"},
	} {
		op := operation(end.id, http.MethodDelete, "/hosts/{hostname}/"+end.path, "hosts", end.summary)
		op.DefaultStatus = http.StatusOK
		route(a, access.ChangingHosts, op, func(ctx context.Context, l *lab.Lab, in *struct {
			HostPath
			Reason string `query:"reason" maxLength:"500"`
		}) (*versioned[labapi.Host], error) {
			return a.hold(ctx, l, in.Hostname, lab.Hold{Action: end.action, Reason: in.Reason})
		})
	}
}

func (a *API) hold(ctx context.Context, l *lab.Lab, hostname string, h lab.Hold) (*versioned[labapi.Host], error) {
	host, version, err := l.HoldHost(ctx, callerOf(ctx), hostname, h)
	a.wake(host.Shard)
	return answerVersion(host, version, err)
}

func (a *API) holdHosts(ctx context.Context, l *lab.Lab, in *body[labapi.HoldsInput]) (*body[labapi.Holds], error) {
	b := in.Body
	names := b.Hosts
	if !oneOf(len(names) > 0, b.AllWithLabel != "", b.Selector != "") {
		return nil, newProblem(http.StatusUnprocessableEntity, "bad-input", "say which hosts: either hosts, or all_with_label, or selector")
	}
	if len(names) == 0 {
		chosen, err := Selecting{b.Selector}.selector()
		if err != nil {
			return nil, err
		}
		filter := lab.HostFilter{Selector: chosen}
		if b.AllWithLabel != "" {
			filter.Labels = []string{b.AllWithLabel}
		}
		if names, err = l.HostNames(ctx, filter); err != nil {
			return nil, err
		}
	}
	done, err := l.HoldHosts(ctx, callerOf(ctx), names, lab.Hold{Action: b.Action, Reason: b.Reason, Until: b.Until, Deadline: b.Deadline, Abort: b.Abort, Steal: b.Steal})
	if err != nil && len(done) == 0 {
		return nil, err
	}
	out := labapi.Holds{Results: make([]labapi.HoldResult, 0, len(names))}
	var shards []string
	for _, d := range done {
		if d.Changed {
			shards = append(shards, d.Shard)
		}
		out.Results = append(out.Results, a.holdResult(d))
	}
	// Those of earlier transactions are done, whatever became of the rest.
	for _, name := range names[len(done):] {
		out.Results = append(out.Results, a.holdResult(lab.Held{Hostname: name, Err: err}))
	}
	a.wake(shards...)
	return answer(out, nil)
}

// oneOf tells whether exactly one holds.
func oneOf(conditions ...bool) bool {
	n := 0
	for _, holds := range conditions {
		if holds {
			n++
		}
	}
	return n == 1
}

func (a *API) holdResult(d lab.Held) labapi.HoldResult {
	r := labapi.HoldResult{Hostname: d.Hostname, Done: d.Err == nil, Changed: d.Changed, Entry: d.Entry}
	if d.Err == nil {
		return r
	}
	var model *huma.ErrorModel
	if errors.As(a.asProblem(d.Err), &model) {
		r.Type, r.Detail = model.Type, model.Detail
	}
	return r
}

func (a *API) importHosts(ctx context.Context, l *lab.Lab, in *struct {
	DryRun bool `query:"dry_run" doc:"Only say what differs."`
	Prune  bool `query:"prune" doc:"Remove hosts that are not in the list, but for those in use."`
	Body   labapi.HostsInput
}) (*body[labapi.HostsDifference], error) {
	d, err := l.ImportHosts(ctx, callerOf(ctx), in.Body.Hosts, in.DryRun, in.Prune)
	if len(d.Added)+len(d.Changed) > 0 && !in.DryRun {
		a.wakeShards(ctx, l)
	}
	return answer(d, err)
}

// wakeShards wakes the leaders of all shards. Where a host belongs is theirs to find out.
func (a *API) wakeShards(ctx context.Context, l *lab.Lab) {
	names, err := l.ShardNames(ctx)
	if err != nil {
		a.cfg.Log.Debug("no leader was woken; the next poll finds what there is", "error", err)
		return
	}
	a.wake(names...)
}

// aboutHostRoutes only read.
func (a *API) aboutHostRoutes() {
	type hostList struct {
		HostPath
		List
	}
	route(a, access.Reading, operation("host-history", http.MethodGet, "/hosts/{hostname}/history", "hosts", "What happened to a host, the latest first"),
		func(ctx context.Context, l *lab.Lab, in *hostList) (*body[labapi.Page[labapi.Event]], error) {
			return answer(l.HostHistory(ctx, in.Hostname, in.After, in.Limit))
		})
	route(a, access.Reading, operation("host-users", http.MethodGet, "/hosts/{hostname}/users", "hosts", "Who may use a host, by which ACL groups"),
		func(ctx context.Context, l *lab.Lab, in *hostList) (*body[labapi.Page[labapi.User]], error) {
			return answer(l.HostUsers(ctx, in.Hostname, in.After, in.Limit))
		})
	route(a, access.Reading, operation("explain-host", http.MethodGet, "/hosts/{hostname}/explain", "hosts", "Why nobody has a host, and which entries could use it"),
		func(ctx context.Context, l *lab.Lab, in *HostPath) (*body[labapi.HostExplanation], error) {
			return answer(l.ExplainHost(ctx, in.Hostname))
		})
	route(a, access.Reading, operation("host-health", http.MethodGet, "/hosts/{hostname}/health", "hosts", "What became of the work of a host in the last 30 days, and of that of its peers"),
		func(ctx context.Context, l *lab.Lab, in *HostPath) (*body[labapi.HostHealth], error) {
			return answer(l.HostHealth(ctx, in.Hostname))
		})
	route(a, access.Reading, operation("list-pools", http.MethodGet, "/pools", "hosts", "What the hosts of each label do"),
		func(ctx context.Context, l *lab.Lab, _ *struct{}) (*body[labapi.Page[labapi.Pool]], error) {
			all, err := l.Pools(ctx, "")
			return answer(labapi.Page[labapi.Pool]{Items: all}, err)
		})
	route(a, access.Reading, operation("get-pool", http.MethodGet, "/pools/{label}", "hosts", "What the hosts of a label do"),
		func(ctx context.Context, l *lab.Lab, in *LabelPath) (*body[labapi.Pool], error) {
			one, err := l.Pools(ctx, in.Label)
			if err != nil {
				return nil, err
			}
			return answer(one[0], nil)
		})
}

// LabelPath names a label.
type LabelPath struct {
	Label string `path:"label" minLength:"1" maxLength:"750"`
}
