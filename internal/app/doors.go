package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/console"
	"github.com/hostsched/hostsched/internal/labapi"
)

// door is where the API answers besides the address for all pages.
type door struct {
	listener net.Listener
	server   *http.Server
}

func (d door) serve() error {
	serve := d.server.Serve
	if d.server.TLSConfig != nil {
		serve = func(l net.Listener) error { return d.server.ServeTLS(l, "", "") }
	}
	if err := serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the API on %s: %w", d.listener.Addr(), err)
	}
	return nil
}

// newServer bounds what one caller can take from others: how long it sends the head of a
// request, keeps a connection that it does not use, and takes to read an answer. Streams have
// bounds of their own for each write.
func (a *App) newServer(handler http.Handler) *http.Server {
	return &http.Server{
		ReadHeaderTimeout: httpHeaderTimeout, IdleTimeout: httpIdleTimeout, WriteTimeout: httpAnswerTimeout, Handler: handler,
		ErrorLog: a.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
}

// openDoors opens the API's own address and its socket, if there are any.
func (a *App) openDoors(calls *api.API) error {
	if address := a.cfg.API.Listen; address != "" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("%w: api.listen: %w; choose another address with --api-listen", config.ErrConfig, err)
		}
		server := a.newServer(a.apis(calls))
		server.TLSConfig = a.server.TLSConfig
		a.addDoor(door{l, server})
	}
	if path := a.cfg.API.Socket; path != "" {
		l, err := listenOnSocket(path)
		if err != nil {
			return fmt.Errorf("%w: api.socket: %w", config.ErrConfig, err)
		}
		server := a.newServer(a.apis(calls))
		server.ConnContext = localCaller
		a.addDoor(door{l, server})
	}
	return nil
}

// apis answers people and agents at the same doors.
func (a *App) apis(calls *api.API) http.Handler {
	all := http.NewServeMux()
	a.addAPIs(all, calls)
	all.Handle("/", calls)
	return all
}

// addAPIs adds what people and agents call, and the console that shows it.
func (a *App) addAPIs(to *http.ServeMux, calls *api.API) {
	pages := console.New(a.consoleConfig(calls))
	to.Handle(api.Prefix+"/", calls)
	to.Handle(labapi.AgentPrefix+"/", a.agents)
	to.Handle(console.Prefix, pages)
	to.Handle(console.Prefix+"/", pages)
	to.Handle("GET /{$}", pages)
}

func (a *App) addDoor(d door) {
	a.doors = append(a.doors, d)
	a.closers = append(a.closers, func() error { return unlessClosed(d.listener.Close()) })
}

// unlessClosed: a server that was stopped has closed its listener already.
func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

const (
	socketMode = 0o600
	// dialTimeout bounds the question whether somebody answers on a socket.
	dialTimeout = time.Second
)

// socketListener removes its file when it is closed, unless another process has put its
// own socket there meanwhile.
type socketListener struct {
	*net.UnixListener
	path string
	made os.FileInfo
}

func (l *socketListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(l.made, now) {
		err = os.Remove(l.path)
		return errors.Join(l.UnixListener.Close(), err)
	}
	return l.UnixListener.Close()
}

// listenOnSocket makes a socket that only this user and root may open. One that a dead
// process left is replaced; one on which somebody answers is left alone. The socket is made
// under another name and moved to its place when its mode is right, so nobody finds it
// before.
func listenOnSocket(path string) (net.Listener, error) {
	if err := requireFree(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("make a socket in %s: %w; the folder must be there and writable", filepath.Dir(path), err)
	}
	defer func() { _ = os.Remove(dir) }() // it is empty by then
	fresh := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make the socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(fresh, socketMode)
	if err == nil {
		err = os.Rename(fresh, path)
	}
	made, statErr := os.Lstat(path)
	if err = errors.Join(err, statErr); err != nil {
		return nil, errors.Join(fmt.Errorf("put the socket %s into place: %w", path, err), l.Close())
	}
	return &socketListener{l, path, made}, nil
}

// requireFree refuses a path at which somebody answers, or which is no socket.
func requireFree(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("%s is there and is no socket; choose another path", path)
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	if err == nil {
		return errors.Join(fmt.Errorf("another process answers on %s; stop it, or choose another path", path), conn.Close())
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil // whoever made it is gone
	}
	return fmt.Errorf("find out whether somebody answers on %s: %w", path, err)
}

// localCaller says who has opened a connection over the socket: an administrator, because
// only this user and root may.
func localCaller(ctx context.Context, conn net.Conn) context.Context {
	uid, err := peerOf(conn)
	if err != nil || uid != 0 && uid != os.Getuid() {
		return ctx // whoever it is needs a token
	}
	name := strconv.Itoa(uid)
	if u, err := user.LookupId(name); err == nil {
		name += "/" + u.Username
	}
	return api.WithCaller(ctx, access.Caller{Login: "local:" + name, Role: access.Admin, By: access.BySocket})
}

// peerOf asks the kernel which user is at the other end of a unix socket.
func peerOf(conn net.Conn) (uid int, err error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T is no connection over a unix socket", conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) { cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, asked); err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}
