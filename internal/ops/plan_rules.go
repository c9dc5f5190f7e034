package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/store"
)

// PlanRules are whose rules a plan follows.
type PlanRules struct {
	// Server is the server that leads the shard, if the rules are those of its replica but for what
	// the configuration says otherwise; empty if they are the configuration's.
	Server string `json:"rules_of,omitempty"`
	// Note says in what the two differ, or why the replica that leads was not asked.
	Note string `json:"rules_note,omitempty"`

	apart []config.RuleApart
}

// PolicyOfServer tells whether the policy is that of Server.
func (r PlanRules) PolicyOfServer() bool {
	return r.Server != "" && !slices.ContainsFunc(r.apart, func(a config.RuleApart) bool { return a.Name == config.PolicyRule })
}

// AsLed is a shard with the rules of the replica that leads it, because that replica will carry
// the plan out. What somebody gave the configuration is kept.
func (l Lab) AsLed(ctx context.Context, s Shard) (Shard, error) {
	if s.Scope.Bare {
		return s, nil // no replica can lead here
	}
	fence, led, err := s.DB.ReadFence(ctx, s.Name)
	if err != nil {
		return s, err
	}
	if !led {
		s.Rules.Note = fmt.Sprintf("no replica has led shard %s yet: policy, aging and labels are those of the configuration", s.Name)
		return s, nil
	}
	server, theirs, err := l.rulesOfLeader(ctx, s, fence)
	if err != nil {
		s.Rules.Note = fmt.Sprintf("policy, aging and labels are those of the configuration: server %s led shard %s last, and %v", server, s.Name, err)
		return s, nil
	}
	rules, apart, err := l.Config.RulesLike(theirs)
	if err != nil {
		s.Rules.Note = fmt.Sprintf("policy, aging and labels are those of the configuration, because this version of hostsched does not know the rules of server %s, which leads shard %s: %v", server, s.Name, err)
		return s, nil
	}
	s.Scope.Rules, s.Rules = rules, PlanRules{Server: server, apart: apart}
	var texts []string
	for _, r := range apart {
		texts = append(texts, fmt.Sprintf("%s is %q in the configuration and %q there", r.Name, r.Ours, r.Theirs))
	}
	if len(texts) > 0 {
		s.Rules.Note = fmt.Sprintf("server %s leads shard %s and decides otherwise: %s", server, s.Name, strings.Join(texts, ", "))
	}
	return s, nil
}

// rulesOfLeader asks the replica that holds a fence for its rules.
func (l Lab) rulesOfLeader(ctx context.Context, s Shard, fence store.Fence) (server string, rules map[string]string, err error) {
	server, address := store.SplitHolder(fence.Holder)
	if address == "" {
		return server, nil, errors.New("its address is not known")
	}
	a := askReplicas(ctx, webClient(l.Config), []string{address})[address]
	switch st := statusOf(a, s.Name); {
	case a.err != nil:
		return server, nil, fmt.Errorf("does not answer: %w", a.err)
	case a.status.Server != server:
		return server, nil, fmt.Errorf("server %s answers at its address %s", a.status.Server, address)
	case st == nil || st.State != replica.StateLeader:
		return server, nil, errors.New("does not lead it now")
	}
	return server, a.status.Rules, nil
}
