package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/hostsched/hostsched/scheduler"
)

// PolicyRule is the name of the setting that says how hosts are chosen.
const PolicyRule = "scheduler.policy"

// rules are the settings on which decisions depend, by their names, and where their values are.
var rules = map[string]func(*scheduler.Rules) any{
	PolicyRule:              func(r *scheduler.Rules) any { return (*string)(&r.Policy) },
	"scheduler.aging":       func(r *scheduler.Rules) any { return &r.Aging },
	"labels.respect_static": func(r *scheduler.Rules) any { return &r.RespectStaticLabels },
	"labels.provision_keys": func(r *scheduler.Rules) any { return &r.Actions.Provision },
	"labels.dropped_keys":   func(r *scheduler.Rules) any { return &r.Actions.Other },
	"labels.skip_provision": func(r *scheduler.Rules) any { return &r.Actions.SkipProvision },
}

// Rules are the settings on which decisions depend, by their names. The replicas of a cluster
// need the same: whoever leads decides by its own.
func (c *Config) Rules() map[string]string {
	r := c.Scope().Rules
	r.Policy = r.Policy.OrDefault()
	out := map[string]string{}
	for name, field := range rules {
		switch v := field(&r).(type) {
		case *string:
			out[name] = *v
		case *float64:
			out[name] = strconv.FormatFloat(*v, 'g', -1, 64)
		case *bool:
			out[name] = strconv.FormatBool(*v)
		case *[]string:
			out[name] = strings.Join(slices.Sorted(slices.Values(*v)), ",")
		}
	}
	return out
}

// RuleApart is a rule that this configuration gives another value than a replica has.
type RuleApart struct{ Name, Ours, Theirs string }

// RulesLike are the rules of a replica, as its [Config.Rules] tell them, but for those that
// somebody gave this configuration another value for. Rules of which the replica says nothing
// are this configuration's, too.
func (c *Config) RulesLike(theirs map[string]string) (like scheduler.Rules, apart []RuleApart, err error) {
	like = c.Scope().Rules
	ours := c.Rules()
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		text, told := theirs[name]
		s := c.settings[slices.IndexFunc(c.settings, func(s *setting) bool { return s.key == name })]
		switch {
		case !told || text == ours[name]:
		case s.given || s.imported:
			apart = append(apart, RuleApart{name, ours[name], text})
		default:
			value, err := s.parse(text)
			if err != nil {
				return like, nil, fmt.Errorf("%s: %w", name, err)
			}
			reflect.ValueOf(rules[name](&like)).Elem().Set(value)
		}
	}
	return like, apart, nil
}
