package election

import (
	"context"
	"sync"

	"github.com/hostsched/hostsched/shard"
)

// Memory holds elections within one process. Replicas of one lab share a
// Memory.
type Memory struct {
	mu       sync.Mutex
	revision int64
	leaders  map[shard.Name]*Term
	// changed is closed and replaced whenever a term ends.
	changed chan struct{}
}

// NewMemory returns a Memory in which nobody leads.
func NewMemory() *Memory {
	return &Memory{leaders: make(map[shard.Name]*Term), changed: make(chan struct{})}
}

// Candidate returns the Campaigner of one server.
func (m *Memory) Candidate(server string) Campaigner { return memoryCandidate{m, server} }

type memoryCandidate struct {
	m      *Memory
	server string
}

func (c memoryCandidate) Campaign(ctx context.Context, name shard.Name) (*Term, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		term, changed := c.m.try(name, c.server)
		if term != nil {
			return term, nil
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

func (m *Memory) try(name shard.Name, server string) (*Term, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leaders[name] != nil {
		return nil, m.changed
	}
	m.revision++
	term := newTerm(name, server, func(context.Context) error {
		m.vacate(name, nil)
		return nil
	})
	term.Token, term.Cluster = m.revision, "memory"
	m.leaders[name] = term
	return term, nil
}

// Revoke ends the current term of a shard as a lost lease does.
func (m *Memory) Revoke(name shard.Name) { m.vacate(name, ErrLeaseLost) }

// vacate ends the current term for a cause; with none, it clears away a term
// that has ended by itself. (A term that was revoked may be resigned when
// another leads already: that one stays.)
func (m *Memory) vacate(name shard.Name, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	term := m.leaders[name]
	if term == nil {
		return
	}
	if cause != nil {
		term.end(cause)
	}
	if term.Cause() == nil {
		return
	}
	delete(m.leaders, name)
	close(m.changed)
	m.changed = make(chan struct{})
}
