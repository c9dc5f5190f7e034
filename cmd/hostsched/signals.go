package main

import (
	"context"
	"os/signal"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/command"
)

// untilSignalled is done at the first SIGINT or SIGTERM, so that work ends well; its cause
// says which. A signal after command.OneRequest does what it does to any process: it ends it.
// Whoever calls it also calls the function, which gives the signals back at once.
func untilSignalled(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, release := signal.NotifyContext(parent, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(command.OneRequest, release) })
	return ctx, release
}
