package replica

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/store"
)

// TestLostBecause: the history says how a term was lost, and what else happened then.
func TestLostBecause(t *testing.T) {
	failed := errors.New("the disk is full")
	fenced := fmt.Errorf("%w: b leads", store.ErrFenced)
	lost := fmt.Errorf("no answer: %w", election.ErrLeaseLost)
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"its tick ended well": {nil, "no answer: lease lost"},
		"it ended for that":   {lost, "no answer: lease lost"},
		"its tick failed":     {failed, "no answer: lease lost; then: the disk is full"},
		"another leads":       {fenced, "fenced: b leads"},
	} {
		t.Run(name, func(t *testing.T) { require.EqualError(t, lostBecause(lost, tt.err), tt.want) })
	}
}
