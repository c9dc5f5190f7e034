package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/admin"
)

// leaderTimeout bounds the question to the leader.
const leaderTimeout = 5 * time.Second

// Check looks for inconsistencies in the database: in the shard that
// somebody named, or in every shard, those with a database of their own included.
// With the address of a leader it compares that leader's suite recorder, too; then
// it looks at one shard, by default the one that the configuration names, or the
// master. What was found until something failed is returned with the error.
func (l Lab) Check(ctx context.Context, arg, leader string) (admin.Findings, error) {
	out := admin.NoFindings()
	if arg != "" || leader != "" {
		err := l.OnShard(ctx, arg, func(s Shard) error { return check(ctx, s, webClient(l.Config), leader, &out) })
		return out, err
	}
	shards, err := l.reached(ctx)
	if err != nil {
		return out, err
	}
	var failed []error
	for _, s := range shards {
		failed = append(failed, l.on(ctx, s, func(s Shard) error { return check(ctx, s, webClient(l.Config), "", &out) }))
	}
	return out, errors.Join(failed...)
}

// reached lists the shards whose rows this configuration reaches.
func (l Lab) reached(ctx context.Context) ([]admin.Shard, error) {
	if l.Config.Shared() {
		all, err := l.shards(ctx)
		return served(all), err
	}
	s, err := l.Find(ctx, "")
	return []admin.Shard{s}, err
}

// check adds what it finds in one shard to out.
func check(ctx context.Context, s Shard, ask web.Client, leader string, out *admin.Findings) error {
	recorder, err := leaderRecorder(ctx, ask, leader, s.Name)
	if err != nil {
		return err
	}
	found, err := s.DB.Check(ctx, s.Scope, recorder)
	if err != nil {
		return err
	}
	out.Add(found)
	return nil
}

// leaderRecorder asks the leader for its recorder; nil without an address.
func leaderRecorder(ctx context.Context, ask web.Client, address string, name shard.Name) (*scheduler.Recorder, error) {
	if address == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	res, err := ask.Get(ctx, address, "/v1/recorder?shard="+url.QueryEscape(name.String()))
	var malformed *url.Error
	if errors.As(err, &malformed) && malformed.Op == "parse" {
		return nil, fmt.Errorf("%w: the address of the leader: %w", admin.ErrInput, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the leader at %s for its recorder: %w", address, err)
	}
	defer func() { _ = res.Body.Close() }() // it was only read
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s for the recorder of shard %s: it answers %s; only the leader has one, see 'hostsched cluster status'", address, name, res.Status)
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
