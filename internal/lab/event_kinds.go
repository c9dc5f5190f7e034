package lab

import (
	"fmt"
	"slices"
	"strings"
)

// eventKinds are the kinds of events that any part of hostsched notes in the journal.
var eventKinds = []string{
	"acl.added", "acl.changed", "acl.members_changed", "acl.removed",
	"agent.added", "agent.drain", "agent.goodbye", "agent.join_token", "agent.joined", "agent.removed", "agent.revoked", "agent.rotate", "agent.run", "agent.session", "agent.stop",
	"entry.aborted", "entry.completed", "entry.ended", "entry.failed", "entry.requeued", "entry.started", "entry.starting", "entry.stopped",
	"host.added", "host.agent", "host.assigned", "host.bad", "host.changed", "host.drain_begun", "host.drain_ended", "host.drained", "host.locked", "host.moved", "host.released", "host.removed", "host.unlocked",
	"job.aborted", "job.requeued", "job.submitted",
	"label.added", "label.removed",
	"role.granted", "role.revoked",
	"run.claimed", "run.closed", "run.ended", "run.extended", "run.lost", "run.started", "run.stopping",
	"shard.added", "shard.fence_adopted", "shard.paused", "shard.removed", "shard.resumed", "shard.switchover", "shard.taken_over", "shard.term_ended",
	"suite.aborted", "suite.submitted",
	"task.dropped", "task.failed", "task.passed", "task.queued", "task.started",
	"token.created", "token.revoked",
	"user.added", "user.removed",
}

// CheckKind refuses a filter for events of a kind that never comes.
func (f EventFilter) CheckKind() error {
	if f.Kind == "" || slices.Contains(eventKinds, f.Kind) {
		return nil
	}
	var nouns, fit []string
	noun, _, _ := strings.Cut(f.Kind, ".")
	for _, kind := range eventKinds {
		of, _, _ := strings.Cut(kind, ".")
		nouns = append(nouns, of+".")
		if of == noun {
			fit = append(fit, kind)
		}
	}
	switch {
	case len(fit) > 0 && f.allOfNoun() && f.Kind == noun+".":
		return nil
	case len(fit) > 0:
		return fmt.Errorf("%w: there are no events of kind %q; about %s there are %s", ErrInput, shortened(f.Kind), noun, strings.Join(fit, ", "))
	}
	return fmt.Errorf("%w: there are no events of kind %q; kinds begin with %s", ErrInput, shortened(f.Kind), strings.Join(slices.Compact(nouns), ", "))
}
