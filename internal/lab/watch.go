package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
)

// Bounds of watching the journal.
const (
	// watchEvery is how often the journal is read while somebody watches.
	watchEvery = 50 * time.Millisecond
	// gapEvery is how often it is asked whether an id that is missing can still come.
	gapEvery = 250 * time.Millisecond
	// maxWatchers bounds the streams of a replica.
	maxWatchers = 1000
	// watchBatch is how many events are read at once, and watchBuffer how many such
	// batches a watcher may be behind before it is cut off.
	watchBatch  = 2000
	watchBuffer = 64
)

// ErrTooMany means that as many as possible watch already.
var ErrTooMany = errors.New("too many streams of events")

// Watch reads the journal once for all who watch it through this replica.
type Watch struct {
	// Failed is told when the journal cannot be read; reading goes on.
	Failed func(error)
	// Frame appends an event as watchers get it. It is called once for all of them.
	Frame func(to []byte, e *labapi.Event) []byte

	mu       sync.Mutex
	watchers map[*Watcher]bool
	// position is the event up to which all was handed on.
	position int64
	// stop ends the reading; nil while nobody watches.
	stop   context.CancelFunc
	closed bool
}

// Watcher gets the events that come after it began.
type Watcher struct {
	// Batches is closed when the watcher was too slow.
	Batches chan *Batch
	// After is the event after which the first batch begins.
	After int64
}

// Batch is some events in the order of their ids, with their frames, and all frames in one.
type Batch struct {
	Events []labapi.Event
	Frames [][]byte
	All    []byte
}

// Concerns tells whether any of the events is about a job.
func (b *Batch) Concerns(job int64) bool {
	return slices.ContainsFunc(b.Events, func(e labapi.Event) bool { return e.Job == job })
}

func (w *Watch) batch(events []labapi.Event) *Batch {
	b := &Batch{Events: events}
	ends := make([]int, len(events))
	for i := range events {
		b.All = w.Frame(b.All, &events[i])
		ends[i] = len(b.All)
	}
	begin := 0
	for _, end := range ends {
		b.Frames = append(b.Frames, b.All[begin:end])
		begin = end
	}
	return b
}

// Begin adds a watcher, who ends with End.
func (w *Watch) Begin(ctx context.Context, l *Lab) (*Watcher, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, fmt.Errorf("%w: this replica is ending; watch through another one", ErrTooMany)
	}
	if len(w.watchers) >= maxWatchers {
		return nil, fmt.Errorf("%w: this replica has %d; watch through another one, or read pages", ErrTooMany, maxWatchers)
	}
	if w.stop == nil {
		var err error
		if w.position, err = l.horizon(ctx); err != nil {
			return nil, err
		}
		var reading context.Context
		reading, w.stop = context.WithCancel(context.WithoutCancel(ctx))
		w.watchers = map[*Watcher]bool{}
		go w.read(reading, l)
	}
	at := &Watcher{Batches: make(chan *Batch, watchBuffer), After: w.position}
	w.watchers[at] = true
	return at, nil
}

// End removes a watcher. The last one ends the reading.
func (w *Watch) End(at *Watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.watchers, at)
	if len(w.watchers) == 0 && w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// Close cuts all watchers off, and takes no more: the replica is ending.
func (w *Watch) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for at := range w.watchers {
		close(at.Batches)
		delete(w.watchers, at)
	}
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// read reads the journal until ctx ends.
func (w *Watch) read(ctx context.Context, l *Lab) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var lookedAgain time.Time
	w.mu.Lock()
	position := w.position
	w.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		events, err := l.readEvents(ctx, "e.id > ?", "ASC", []any{position, watchBatch})
		if err != nil {
			w.failed(ctx, err)
			continue
		}
		if len(events) == 0 {
			continue
		}
		ready := w.untilGap(ctx, l, position, events)
		if len(ready) == 0 && time.Since(lookedAgain) > gapEvery {
			lookedAgain = time.Now()
			ready = w.settled(ctx, l, position)
		}
		if len(ready) > 0 {
			position = ready[len(ready)-1].ID
			w.hand(ctx, ready)
		}
	}
}

// settled are the events after a position before which none can appear any more, although ids
// are missing. All gaps that are old enough are passed over together: where a cluster of
// database servers gives each its own ids, there is one before nearly every event. The events
// are read after it is known how far they are settled, because one may have filled a gap since
// they were read last.
func (w *Watch) settled(ctx context.Context, l *Lab, position int64) []labapi.Event {
	horizon, err := l.horizonAfter(ctx, position)
	var events []labapi.Event
	if err == nil && horizon > position {
		events, err = l.readEvents(ctx, "e.id > ? AND e.id <= ?", "ASC", []any{position, horizon, watchBatch})
	}
	if err != nil {
		w.failed(ctx, err)
		return nil
	}
	return events
}

func (w *Watch) failed(ctx context.Context, err error) {
	if ctx.Err() == nil && w.Failed != nil {
		w.Failed(err)
	}
}

// untilGap are the events up to the first id that is missing and may still come.
func (w *Watch) untilGap(ctx context.Context, l *Lab, position int64, events []labapi.Event) []labapi.Event {
	by := int64(1)
	for i := range events {
		if events[i].ID != position+1 && by == 1 {
			var err error
			if by, err = l.steps(ctx); err != nil {
				w.failed(ctx, err)
			}
		}
		if !follows(position, events[i].ID, by) {
			return events[:i]
		}
		position = events[i].ID
	}
	return events
}

// hand gives events to all watchers. One that does not take them is cut off: it can begin
// again after the last event that it got.
func (w *Watch) hand(ctx context.Context, events []labapi.Event) {
	batch := w.batch(events)
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return // another reading has begun
	}
	w.position = events[len(events)-1].ID
	for at := range w.watchers {
		select {
		case at.Batches <- batch:
		default:
			close(at.Batches)
			delete(w.watchers, at)
		}
	}
}

// Between reads the events after one up to another that fit a filter, for a watcher who was
// away. There are no gaps below where watchers begin.
func (w *Watch) Between(ctx context.Context, l *Lab, f EventFilter, upTo int64, each func(*Batch) error) error {
	for {
		events, err := l.readEvents(ctx, "e.id > ? AND e.id <= ?", "ASC", []any{f.After, upTo, watchBatch})
		if err != nil || len(events) == 0 {
			return err
		}
		if err := each(w.batch(events)); err != nil {
			return err
		}
		f.After = events[len(events)-1].ID
	}
}
