package dev

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"
)

// Commands that other terminals send over the control socket, one per
// connection; the answer is one line that begins with "ok" or "error".
const (
	// KillLeader kills the leader with SIGKILL.
	KillLeader = "kill-leader"
	// PauseLeader stops the leader for three TTLs.
	PauseLeader = "pause-leader"

	controlTimeout = 2 * time.Minute
)

// errControl is an answer of the supervisor that reports a failure.
var errControl = errors.New("hostsched dev")

func controlSocket(dir string) string { return filepath.Join(dir, "control.sock") }

// inUse tells whether somebody answers on the data folder's control socket.
func inUse(dir string) bool {
	conn, err := net.Dial("unix", controlSocket(dir))
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// control answers commands until ctx ends.
func (d *dev) control(ctx context.Context) error {
	l, err := net.Listen("unix", controlSocket(d.opts.DataDir))
	if err != nil {
		return fmt.Errorf("open the control socket: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		go d.obey(ctx, conn)
	}
}

func (d *dev) obey(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return // somebody only looked whether we are here
	}
	var text string
	switch command := strings.TrimSpace(line); command {
	case KillLeader:
		text, err = d.killLeader(ctx)
	case PauseLeader:
		text, err = d.pauseLeader(ctx)
	default:
		err = fmt.Errorf("unknown command %q", command)
	}
	if err != nil {
		fmt.Fprintf(conn, "error %v\n", err)
		return
	}
	fmt.Fprintf(conn, "ok %s\n", text)
}

// Send sends a command to the `hostsched dev` that runs in a data folder and
// returns its answer.
func Send(ctx context.Context, dir, command string) (string, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", controlSocket(dir))
	if err != nil {
		return "", fmt.Errorf("%w: nothing runs in %s; start it with 'hostsched dev --data-dir %s'", errControl, dir, dir)
	}
	answer, err := ask(conn, command)
	if err := errors.Join(err, conn.Close()); err != nil {
		return "", fmt.Errorf("%w in %s: %w", errControl, dir, err)
	}
	if text, ok := strings.CutPrefix(answer, "ok "); ok {
		return strings.TrimSpace(text), nil
	}
	return "", fmt.Errorf("%w in %s: %s", errControl, dir, strings.TrimSpace(strings.TrimPrefix(answer, "error ")))
}

func ask(conn net.Conn, command string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}
