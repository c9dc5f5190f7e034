package runs

import (
	"context"

	"github.com/hostsched/hostsched/internal/lifecycle"
)

// Lose gives a run up, as a sweep does.
func (r *Runs) Lose(ctx context.Context, run Run) error {
	return r.lose(ctx, run, "nobody was heard of", "")
}

// Step does one event, as a sweep does that finds it due, and tells whether it was possible.
func (r *Runs) Step(ctx context.Context, s lifecycle.Step) (bool, error) {
	var done Swept
	err := r.step(ctx, s, &done)
	return done.Steps > 0, err
}
