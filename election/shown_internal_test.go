package election

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAwaitShownByTime: the wait ends when the key has what was set before, or cannot have it
// yet, and else after its bound.
func TestAwaitShownByTime(t *testing.T) {
	const write = 50 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		m := newMembership(Presence{}, nil, nil)
		waited := func() time.Duration {
			began := time.Now()
			m.AwaitShown(t.Context())
			return time.Since(began)
		}
		require.Equal(t, ShowFirst, waited(), "there is no key")

		var fails error
		lost, ended := make(chan struct{}), make(chan error)
		go func() {
			ended <- m.keepPut(t.Context(), lost, func(string) error {
				time.Sleep(write)
				return fails
			})
		}()
		require.Equal(t, write, waited(), "the first write")
		require.Zero(t, waited(), "nothing is left to be shown")
		m.Set(func(p *Presence) { p.Weight = 1 })
		require.Equal(t, write, waited())

		fails = errors.New("there is no room")
		m.Set(func(p *Presence) { p.Weight = 2 })
		require.Equal(t, write, waited(), "it is tried again later")

		close(lost)
		require.ErrorIs(t, <-ended, ErrLeaseLost)
		require.Equal(t, ShowFirst, waited(), "the key is gone")
	})
}

// TestResignTwice: who resigns while somebody else does waits for that, but not for longer than
// he wants to.
func TestResignTwice(t *testing.T) {
	const takes = 50 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		term := newTerm("s", "a", func(context.Context) error {
			time.Sleep(takes)
			return errors.New("no answer")
		})
		first := make(chan error)
		go func() { first <- term.Resign(t.Context()) }()
		<-term.Done()
		synctest.Wait()
		began := time.Now()
		short, cancel := context.WithTimeout(t.Context(), takes/2)
		defer cancel()
		require.NoError(t, term.Resign(short))
		require.Equal(t, takes/2, time.Since(began))
		require.NoError(t, term.Resign(t.Context()))
		require.Equal(t, takes, time.Since(began))
		require.ErrorContains(t, <-first, "no answer")
		require.NoError(t, term.Resign(t.Context()), "again")
	})
}
