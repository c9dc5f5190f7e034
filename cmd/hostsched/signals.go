package main

import (
	"context"
	"os/signal"
	"syscall"
	"time"
)

// oneRequest is for how long further signals belong to the first: timeout(1), for one,
// sends its signal to the process and then to the process's group.
const oneRequest = time.Second

// untilSignalled is done at the first SIGINT or SIGTERM, so that work ends well; its cause
// says which. A signal after oneRequest does what it does to any process: it ends it.
// Whoever calls it also calls the function, which gives the signals back at once.
func untilSignalled(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, release := signal.NotifyContext(parent, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(oneRequest, release) })
	return ctx, release
}
