package store

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// beside does work in a goroutine, and wait returns when it has ended. A panic in it is that of
// whoever waits, who may recover: a bug must end a tick and not the process, which serves other
// shards, too.
func beside(work func()) (wait func()) {
	var working sync.WaitGroup
	var caught any
	working.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				caught = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
		}()
		work()
	})
	return func() {
		working.Wait()
		if p := caught; p != nil {
			caught = nil // whoever waits once more, while it panics, has it already
			panic(p)
		}
	}
}
