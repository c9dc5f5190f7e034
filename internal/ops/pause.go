package ops

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/admin"
)

// Pause says why nothing is scheduled in a shard.
type Pause struct {
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	Since  time.Time `json:"since"`
}

// String is the pause in a line for people.
func (p Pause) String() string {
	return fmt.Sprintf("by %s since %s: %s", p.By, p.Since.Format(time.RFC3339), p.Reason)
}

// readPause reads who paused a shard, and when. reason is why, as it was read
// before; if somebody resumed the shard since then, nothing else is known.
func readPause(ctx context.Context, db *admin.Lab, name shard.Name, reason string) (Pause, error) {
	p := Pause{Reason: reason}
	f, _, err := db.ReadFence(ctx, name)
	if err != nil || f.Paused == "" {
		return p, err
	}
	return Pause{Reason: f.Paused, By: f.PausedBy, Since: f.PausedAt}, nil
}

// PauseShard stops scheduling in a shard. The reason is what every status shows.
func (l Lab) PauseShard(ctx context.Context, arg string, by By) error {
	return l.setPause(ctx, arg, admin.ActionPause, by.Reason, by)
}

// ResumeShard lets scheduling continue in a shard; admin.ErrNotPaused if it never stopped.
func (l Lab) ResumeShard(ctx context.Context, arg string, by By) error {
	return l.setPause(ctx, arg, admin.ActionResume, "", by)
}

func (l Lab) setPause(ctx context.Context, arg, action, pause string, by By) error {
	if strings.TrimSpace(by.Reason) == "" {
		return fmt.Errorf("%w: %s needs a reason, which others see", admin.ErrInput, action)
	}
	return l.OnShard(ctx, arg, func(s Shard) error {
		if err := s.DB.PauseShard(ctx, s.Name, by.Who, pause, by.Reason); err != nil {
			return err
		}
		return l.record(ctx, s, by, action, by.Reason)
	})
}
