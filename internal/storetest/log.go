package storetest

import (
	"strings"
	"sync"
)

// Log is what a test's replicas log, from several goroutines.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Count returns how often a text was logged.
func (l *Log) Count(part string) int { return strings.Count(l.String(), part) }

// String returns everything that was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
