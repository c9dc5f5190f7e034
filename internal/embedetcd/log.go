package embedetcd

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger is a log for etcd that ends in ours. What etcd says of its daily work is for
// debugging. When etcd wants the process to end, as after a disk is full, fail is told
// why, and only the goroutine ends: the replica hands over first.
func zapLogger(log hclog.Logger, closing *atomic.Bool, fail func(error)) *zap.Logger {
	hook := fatalHook{fail}
	return zap.New(logCore{log: log, closing: closing}, zap.WithFatalHook(hook), zap.WithPanicHook(hook))
}

type fatalHook struct{ fail func(error) }

// OnWrite implements zapcore.CheckWriteHook.
func (h fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := fmt.Errorf("etcd cannot continue: %s", entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("%w: %w", err, cause)
		}
	}
	h.fail(err)
	runtime.Goexit()
}

// logCore is a zapcore.Core.
type logCore struct {
	log hclog.Logger
	// closing: that listeners are closed is no news then.
	closing *atomic.Bool
	fields  []zapcore.Field
}

// levels are ours for etcd's. etcd warns of much that mends itself, like a peer that is
// not there yet.
var levels = map[zapcore.Level]hclog.Level{
	zapcore.DebugLevel: hclog.Trace, zapcore.InfoLevel: hclog.Trace, zapcore.WarnLevel: hclog.Debug,
	zapcore.ErrorLevel: hclog.Warn, zapcore.DPanicLevel: hclog.Error, zapcore.PanicLevel: hclog.Error, zapcore.FatalLevel: hclog.Error,
}

// Enabled implements zapcore.LevelEnabler.
func (c logCore) Enabled(level zapcore.Level) bool {
	// The hooks run for entries that are written.
	return level >= zapcore.PanicLevel || c.level(level) >= c.log.GetLevel()
}

func (c logCore) level(l zapcore.Level) hclog.Level {
	if l == zapcore.ErrorLevel && c.closing.Load() {
		return hclog.Debug
	}
	return levels[l]
}

// With implements zapcore.Core.
func (c logCore) With(fields []zapcore.Field) zapcore.Core {
	return logCore{c.log, c.closing, append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

// Check implements zapcore.Core.
func (c logCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c logCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	encoded := zapcore.NewMapObjectEncoder()
	var args []any
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(encoded)
		if value, ok := encoded.Fields[f.Key]; ok {
			args = append(args, f.Key, value)
		}
	}
	c.log.Log(c.level(e.Level), e.Message, args...)
	return nil
}

// Sync implements zapcore.Core.
func (c logCore) Sync() error { return nil }
