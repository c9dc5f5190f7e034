package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// How often RemoveShard looks whether the hosts have left, and says that it waits.
const (
	removePoll     = 200 * time.Millisecond
	removeProgress = 2 * time.Second
)

// Shards lists the shards that there are under this configuration. One that has the whole
// database has all its hosts and labels.
func (l Lab) Shards(ctx context.Context) ([]admin.Shard, error) {
	all, err := l.shards(ctx)
	if err != nil || l.Config.Shared() {
		return all, err
	}
	whole := l.Config.Scope().Shard
	sum := admin.Shard{Name: whole, Labels: []string{}}
	out := []admin.Shard{}
	for _, s := range all {
		if s.Name == whole {
			sum.ID = s.ID
		}
		if s.Name == whole {
			sum.Paused = s.Paused
		}
		sum.Hosts, sum.InUse, sum.Labels = sum.Hosts+s.Hosts, sum.InUse+s.InUse, append(sum.Labels, s.Labels...)
		if s.DSN != "" {
			out = append(out, s)
		}
	}
	slices.Sort(sum.Labels)
	return append([]admin.Shard{sum}, out...), nil
}

// pauseTimeout bounds the question to the database of one shard whether it is paused.
const pauseTimeout = 3 * time.Second

// ListedShard is a shard as it is listed.
type ListedShard struct {
	admin.Shard
	// Fault is why its own database does not say whether it is paused.
	Fault string `json:"fault,omitempty"`
}

// ListShards is Shards, and asks shards with databases of their own whether they are paused.
func (l Lab) ListShards(ctx context.Context) ([]ListedShard, error) {
	all, err := l.Shards(ctx)
	if err != nil {
		return nil, err
	}
	return inParallel(all, func(s admin.Shard) ListedShard {
		listed := ListedShard{Shard: s}
		if s.DSN == "" || s.NotServed != "" {
			return listed
		}
		var fault error
		if listed.Paused, fault = l.pauseOf(ctx, s); fault != nil {
			listed.Fault = fault.Error()
		}
		return listed
	}), nil
}

func (l Lab) pauseOf(ctx context.Context, s admin.Shard) (reason string, err error) {
	ctx, cancel := context.WithTimeout(ctx, pauseTimeout)
	defer cancel()
	err = l.on(ctx, s, func(s Shard) error {
		f, _, err := s.DB.ReadFence(ctx, s.Name)
		reason = f.Paused
		return err
	})
	return reason, err
}

// mayDivide refuses to change what belongs to which shard where the configuration gives the
// whole database to one: its replicas would not heed it.
func (l Lab) mayDivide(ctx context.Context) error {
	if l.Config.Shared() {
		return nil
	}
	whole := l.Config.Scope().Shard
	if err := l.Main.RequireShard(ctx, whole); err != nil {
		return err
	}
	return fmt.Errorf("%w: the configuration gives the whole of %s to shard %s, and so nothing there belongs to another; leave the setting 'shard' out to divide the database among shards", admin.ErrInput, l.Main.Target(), whole)
}

// AddShard adds a shard. dsn is its own database, empty if it shares the main
// one.
func (l Lab) AddShard(ctx context.Context, arg, dsn string, by By) (shard.Name, error) {
	name, err := shard.Parse(arg)
	if err != nil {
		return "", err
	}
	if err := l.mayDivide(ctx); err != nil {
		return "", err
	}
	if dsn != "" {
		if dsn, err = sqldb.Absolute(dsn); err != nil {
			return "", err
		}
		if err := l.mayOwn(ctx, admin.Shard{Name: name, DSN: dsn}); err != nil {
			return "", err
		}
	}
	return name, l.Main.AddShard(ctx, name, dsn, by.Who, by.Reason)
}

// mayOwn makes sure that a database can be a shard's own: a replica can work with
// it, and nobody else does. Two shards that both had the whole of a database
// would lead the same hosts, each under a fence of its own.
func (l Lab) mayOwn(ctx context.Context, s admin.Shard) error {
	mine, err := l.identity(ctx, s, func(db *admin.Lab) error {
		return schema.Check(ctx, db.DB.DB, schema.Use{StaticLabels: l.Config.Labels.RespectStatic})
	})
	if err != nil {
		return err
	}
	all, err := l.Main.Shards(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.NotServed != "" || other.DSN == "" && !other.Name.IsMaster() {
			continue // nobody leads it, or it shares the main database with the master
		}
		theirs, err := l.identity(ctx, other, func(*admin.Lab) error { return nil })
		switch {
		case err != nil:
			return fmt.Errorf("find out whether shard %s has the same database: %w", other.Name, err)
		case mine != theirs:
		case other.Name.IsMaster():
			return fmt.Errorf("%w: %s is the main database of this lab; leave --dsn out and the shard shares it", admin.ErrInput, s.DSN)
		default:
			return fmt.Errorf("%w: %s is the database of shard %s already; every shard needs one of its own", admin.ErrInput, s.DSN, other.Name)
		}
	}
	return nil
}

// identity returns the identity of a shard's database, after a look at it.
func (l Lab) identity(ctx context.Context, s admin.Shard, look func(*admin.Lab) error) (id string, err error) {
	err = l.inDatabase(ctx, s, func(db *admin.Lab) error {
		if err := look(db); err != nil {
			return fmt.Errorf("the database of shard %s: %w", s.Name, err)
		}
		id, err = db.Identity(ctx)
		return err
	})
	return id, err
}

// AssignLabel gives a label, and the hosts that carry it, to a shard. It returns
// the shards that it belonged to and belongs to now.
func (l Lab) AssignLabel(ctx context.Context, arg, label string, by By) (from, to shard.Name, err error) {
	s, err := l.Find(ctx, arg)
	if err != nil {
		return "", "", err
	}
	if err := l.mayDivide(ctx); err != nil {
		return "", "", err
	}
	from, err = l.Main.AssignLabel(ctx, label, s.Name, by.Who, by.Reason)
	return from, s.Name, err
}

// RemoveShard gives everything of a shard back to the master, waits until its
// hosts have followed, and removes it. waiting is told every now and then what it
// waits for.
func (l Lab) RemoveShard(ctx context.Context, s admin.Shard, by By, waiting func(error)) error {
	if err := l.mayDivide(ctx); err != nil {
		return err
	}
	if s.NotServed != "" {
		if err := l.releaseJobs(ctx, s); err != nil {
			return err
		}
		return l.Main.RemoveUnserved(ctx, s.ID, by.Who, by.Reason)
	}
	if err := l.giveBack(ctx, s, by); err != nil {
		return err
	}
	var shown time.Time
	var inUse error
	for {
		err := l.Main.RemoveShard(ctx, s.Name, by.Who, by.Reason)
		if ctx.Err() != nil && inUse != nil && err != nil {
			err = inUse // the time was over in the middle of an attempt
		}
		if !errors.Is(err, admin.ErrInUse) {
			return err
		}
		if inUse == nil {
			inUse = err
		}
		if time.Since(shown) > removeProgress && ctx.Err() == nil {
			shown = time.Now()
			text, stuck, why := l.Main.Remaining(ctx, s.ID)
			if why == nil && text != "" {
				err = fmt.Errorf("%w: %s", err, text)
			}
			inUse = err
			if stuck {
				return fmt.Errorf("%w; the shard has no labels any more; run the command again when these hosts have been changed", err)
			}
			waiting(err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; does somebody lead it? see 'hostsched cluster status', and run the command again", inUse)
		case <-time.After(removePoll):
		}
	}
}

// giveBack gives the labels and jobs of a shard back to the master. Those of a
// shard with its own database are rows of that database, where they stay.
func (l Lab) giveBack(ctx context.Context, s admin.Shard, by By) error {
	if s.Name.IsMaster() {
		return nil // the removal is refused
	}
	if s.DSN == "" {
		for _, label := range s.Labels {
			if _, err := l.Main.AssignLabel(ctx, label, shard.Master, by.Who, by.Reason); err != nil {
				return err
			}
		}
	}
	return l.releaseJobs(ctx, s)
}

func (l Lab) releaseJobs(ctx context.Context, s admin.Shard) error {
	for {
		n, err := l.Main.ReleaseJobs(ctx, s.ID)
		if err != nil || n == 0 {
			return err
		}
	}
}
