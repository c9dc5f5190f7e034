package election

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hostsched/hostsched/shard"
)

// Reasons for the end of a term (Term.Cause) or of a campaign.
var (
	// ErrResigned: the holder ended the term.
	ErrResigned = errors.New("resigned")
	// ErrLeaseLost: the lease is gone.
	ErrLeaseLost = errors.New("lease lost")
	// ErrTrustExpired: no keepalive was answered in time.
	ErrTrustExpired = errors.New("no keepalive was answered in time")
	// ErrDeposed: the key was deleted, or somebody else wrote it.
	ErrDeposed = errors.New("this replica's key of the shard was deleted or changed by somebody else")
)

// Campaigner lets a replica run for the leadership of shards.
type Campaigner interface {
	// Campaign blocks until this replica leads the shard, ctx ends, or the
	// attempt fails and may be repeated.
	Campaign(ctx context.Context, name shard.Name) (*Term, error)
}

// Term is one replica's leadership of one shard.
type Term struct {
	Shard  shard.Name
	Server string
	// Token rises with every term of the shard.
	Token int64
	// Cluster identifies the etcd cluster that issued the token.
	Cluster string
	Since   time.Time

	mu     sync.Mutex
	done   chan struct{}
	cause  error
	resign func(context.Context) error
	// resigned is closed when resign has returned.
	resigned chan struct{}
	// announce writes what the leader says of itself into its key.
	announce func(context.Context, Announcement) error
}

func newTerm(name shard.Name, server string, resign func(context.Context) error) *Term {
	return &Term{Shard: name, Server: server, Since: time.Now(), done: make(chan struct{}), resign: resign, resigned: make(chan struct{})}
}

// Done is closed when the term is over.
func (t *Term) Done() <-chan struct{} { return t.done }

// Cause says why the term is over, nil while it lasts.
func (t *Term) Cause() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cause
}

// Resign ends the term if it still lasts, lets the next candidate win at once,
// and frees everything that belongs to the term. It returns within a bound even if
// etcd does not answer. Calling it again is allowed, and only waits for the first call.
func (t *Term) Resign(ctx context.Context) error {
	t.end(ErrResigned)
	t.mu.Lock()
	resign := t.resign
	t.resign = nil
	t.mu.Unlock()
	if resign != nil {
		defer close(t.resigned)
		return resign(ctx)
	}
	select {
	case <-t.resigned:
	case <-ctx.Done():
	}
	return nil
}

// Announcement is what a leader says of itself in its key.
type Announcement struct {
	// Paused is why the leader schedules nothing, empty if it does.
	Paused string
	// Epoch is that of its takeover in the database.
	Epoch int64
}

// Announce shows the other replicas what the leader says of itself.
func (t *Term) Announce(ctx context.Context, a Announcement) error {
	return t.announce(ctx, a)
}

// end closes Done. The first cause stays.
func (t *Term) end(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause != nil {
		return
	}
	t.cause = cause
	close(t.done)
}
