package scheduler

import (
	"slices"
	"strings"
)

// Actions lists the labels that special tasks act on. Such labels are not
// required of a host (Autotest provision.is_for_special_action).
type Actions struct {
	// Provision are the keys of labels that a Provision task can put on a host. Hosts that
	// already carry such a label are preferred.
	Provision []string
	// Other are the keys of labels that other special tasks handle. The scheduler ignores
	// such labels.
	Other []string
	// SkipProvision is the label of jobs that must not be preceded by a Provision task.
	SkipProvision string
}

// DefaultActions returns Autotest's own list (site_utils/provision).
func DefaultActions() Actions {
	return Actions{
		Provision:     []string{"cros-version", "cheets-version", "fwrw-version", "fwro-version"},
		Other:         []string{"cleanup-reboot", "modem_repair", "rpm"},
		SkipProvision: "skip_provision",
	}
}

func (a Actions) orDefault() Actions {
	if a.SkipProvision == "" && len(a.Provision) == 0 && len(a.Other) == 0 {
		return DefaultActions()
	}
	return a
}

// labelKind is what a label means for a job that has it. All that depends on the kind
// is in this file: kind tells it from the label's name, sortLabels what it requires of
// a host, and needsProvision which special task it causes.
type labelKind int8

const (
	// labelRequired is a label that the host must carry.
	labelRequired labelKind = iota
	// labelProvision is a label that a Provision task can put on a host. Hosts that
	// carry it already are preferred.
	labelProvision
	// labelDropped is a label that another special task handles. It is ignored.
	labelDropped
	// labelSkipProvision is the label of jobs that must not be preceded by a Provision
	// task. It requires nothing of the host.
	labelSkipProvision
)

// kind classifies a label by its key, which is the text before the first colon, or the
// whole name if there is no colon. So "rpm" and "rpm:x" are of the same kind.
func (a Actions) kind(name string) labelKind {
	if name == a.SkipProvision {
		return labelSkipProvision
	}
	key, _, _ := strings.Cut(name, ":")
	if slices.Contains(a.Provision, key) {
		return labelProvision
	}
	if slices.Contains(a.Other, key) {
		return labelDropped
	}
	return labelRequired
}

// requirements are what a list of labels requires: labels that a host must have, and labels
// that it should have. impossible is true if one of them does not exist.
type requirements struct {
	deps, preferred setID
	impossible      bool
}

// Required tells whether a host must carry a label that a job has, or
// special tasks act on it.
func (a Actions) Required(name string) bool { return a.orDefault().kind(name) == labelRequired }

// sortLabels sorts the labels of a job into those that a host must have and those that
// it should have.
func (p *planner) sortLabels(labels []LabelID) requirements {
	required, preferred := p.required[:0], p.preferred[:0]
	for _, l := range labels {
		info := p.labels.get(l)
		if !info.known {
			return requirements{impossible: true}
		}
		switch info.kind {
		case labelRequired:
			required = append(required, int64(l))
		case labelProvision:
			preferred = append(preferred, int64(l))
		}
	}
	p.required, p.preferred = required, preferred
	return requirements{deps: p.sets.intern(required), preferred: p.sets.intern(preferred)}
}

// needsProvision tells whether the host must be provisioned for the entry, because it
// lacks one of the labels that a Provision task can put on it. Both the dependencies of
// the job and the meta_host of the entry count. Only plain labels of the host count.
func (p *planner) needsProvision(e *pending) bool {
	missing := false
	check := func(l LabelID) (skip bool) {
		switch p.labels.get(l).kind {
		case labelSkipProvision:
			return true
		case labelProvision:
			if !p.carriers(l).has(int(e.host)) {
				missing = true
			}
		}
		return false
	}
	if e.entry.MetaHost != 0 && check(e.entry.MetaHost) {
		return false
	}
	for _, l := range e.job.Deps {
		if check(l) {
			return false
		}
	}
	return missing
}

// labelInfo is what a label id stands for.
type labelInfo struct {
	name  string
	kind  labelKind
	known bool
}

// unknownLabel is what an id stands for that no label has.
var unknownLabel labelInfo

// labelTable finds labels by id.
type labelTable struct {
	num   lookup
	infos []labelInfo
}

func newLabelTable(labels []Label, actions Actions) *labelTable {
	t := &labelTable{
		num:   newLookup(len(labels), func(i int) int64 { return int64(labels[i].ID) }),
		infos: make([]labelInfo, len(labels)),
	}
	for i, l := range labels {
		t.infos[i] = labelInfo{name: l.Name, kind: actions.kind(l.Name), known: true}
	}
	return t
}

// get returns what a label id stands for, and unknownLabel if no label has it.
func (t *labelTable) get(id LabelID) *labelInfo {
	if i, ok := t.num.get(int64(id)); ok {
		return &t.infos[i]
	}
	return &unknownLabel
}

// namesOf lists the names of labels, separated by commas.
func (t *labelTable) namesOf(ids []int64) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = t.get(LabelID(id)).name
	}
	return strings.Join(names, ", ")
}
