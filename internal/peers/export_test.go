package peers

import "time"

// Stall makes the watcher look as if its process had not run for so long, and calls then
// before anything else of the watcher goes on.
func (w *Watcher) Stall(d time.Duration, then func()) {
	w.mu.Lock()
	w.beat = w.beat.Add(-d)
	for _, c := range w.peers {
		c.last = c.last.Add(-d)
	}
	w.mu.Unlock()
	then()
}
