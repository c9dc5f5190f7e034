package agent_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/hostsched/hostsched/internal/labapi"
)

// host is a host of the lab that is reached over ssh: its commands run on this machine, in a
// folder of its own.
type host struct {
	t      *testing.T
	dir    string
	listen net.Listener
	mu     sync.Mutex
	conns  []net.Conn
}

func key(t *testing.T) (ssh.Signer, ed25519.PrivateKey) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return signer, private
}

// newHost writes the files of the agent's key and of known hosts to its folder.
func newHost(t *testing.T) *host {
	h := &host{t: t, dir: t.TempDir()}
	own, _ := key(t)
	agents, private := key(t)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(h.dir, "key"), pem.EncodeToMemory(block), 0o600))
	h.listen, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.listen.Close() })
	h.knows(own.PublicKey())
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if string(k.Marshal()) != string(agents.PublicKey().Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	cfg.AddHostKey(own)
	go h.accept(cfg)
	return h
}

func (h *host) knows(k ssh.PublicKey) {
	line := knownhosts.Line([]string{h.listen.Addr().String()}, k)
	require.NoError(h.t, os.WriteFile(filepath.Join(h.dir, "known"), []byte(line+"\n"), 0o600))
}

func (h *host) accept(cfg *ssh.ServerConfig) {
	for {
		conn, err := h.listen.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns = append(h.conns, conn)
		h.mu.Unlock()
		go func() {
			_, channels, requests, err := ssh.NewServerConn(conn, cfg)
			if err != nil {
				return
			}
			go ssh.DiscardRequests(requests)
			for c := range channels {
				channel, requests, err := c.Accept()
				if err == nil {
					go h.session(channel, requests)
				}
			}
		}()
	}
}

// cut breaks all connections.
func (h *host) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		_ = c.Close()
	}
}

func (h *host) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close() //nolint:errcheck // the test is about the other end
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		_ = r.Reply(true, nil)
		var line struct{ Command string }
		_ = ssh.Unmarshal(r.Payload, &line)
		cmd := exec.Command("/bin/sh", "-c", line.Command)
		cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir}, h.dir
		cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
		in, err := cmd.StdinPipe()
		if err != nil || cmd.Start() != nil {
			return
		}
		go func() {
			defer in.Close() //nolint:errcheck // the command may have ended
			buffer := make([]byte, 1024)
			for {
				n, err := channel.Read(buffer)
				if _, writing := in.Write(buffer[:n]); err != nil || writing != nil {
					return
				}
			}
		}()
		var exit *exec.ExitError
		status := 0
		if err := cmd.Wait(); errors.As(err, &exit) {
			status = exit.ExitCode()
		}
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
		return
	}
}

func (h *host) driver(address string) string {
	return fmt.Sprintf("drivers: [{driver: ssh, ssh: {user: root, address: %q, key_file: %s/key, known_hosts: %s/known, folder: %q}}]", address, h.dir, h.dir, h.dir+"/it's here")
}

// file waits for a number that a script wrote to a file of the host.
func (h *host) file(name string) int {
	h.t.Helper()
	var n int
	require.Eventually(h.t, func() bool {
		text, err := os.ReadFile(filepath.Join(h.dir, name))
		if err != nil {
			return false
		}
		n, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	}, bound, 5*time.Millisecond)
	return n
}

func TestScriptsRunOnHostsOverSSH(t *testing.T) {
	h := newHost(t)
	l := newLab(t)
	newMachine(t, l, h.driver(h.listen.Addr().String())).serve()
	o := job(1, `echo "$HOSTSCHED_HOST $GREETING"; pwd; echo bad >&2; exit 3`)
	o.manifest.Env = map[string]string{"GREETING": "it's  \"me\"\n$HOME"}
	l.offer(o)
	run := l.finished(1)
	require.Equal(t, 3, *run.finish.ExitCode, "%s", run.logs["stderr"])
	require.Equal(t, "h1 it's  \"me\"\n$HOME\n"+h.dir+"/it's here/run-1\n", string(run.logs["stdout"]))
	require.Equal(t, "bad\n", string(run.logs["stderr"]))
	require.NoDirExists(t, h.dir+"/it's here/run-1")
	l.offer(job(2, "kill -9 $$"))
	require.Equal(t, 137, *l.finished(2).finish.ExitCode)
}

const remoteStubborn = `trap '' TERM; sleep 1000 & echo $! >"$HOME/child"; echo $$ >"$HOME/pid"; echo ready; while :; do sleep 0.05; done`

func TestWhatRunsOnAHostOverSSHIsEnded(t *testing.T) {
	h := newHost(t)
	l := newLab(t)
	newMachine(t, l, h.driver(h.listen.Addr().String())).serve()
	o := job(1, remoteStubborn)
	o.manifest.GraceMillis = 1000
	l.offer(o)
	l.says(1, "ready")
	l.change(func() { l.runs[1].stop = &labapi.Stop{Run: 1, Reason: "aborted", GraceMillis: 10_000} })
	run := l.finished(1)
	require.Equal(t, "aborted", run.finish.StopReason)
	gone(t, h.file("child"))
	gone(t, h.file("pid"))
}

func TestTheNextRunOnAHostEndsWhatAnotherLeftThere(t *testing.T) {
	h := newHost(t)
	l := newLab(t)
	newMachine(t, l, h.driver(h.listen.Addr().String())).serve()
	l.offer(job(1, remoteStubborn))
	l.says(1, "ready")
	h.cut()
	run := l.finished(1)
	require.Equal(t, "unusable", run.finish.Result, "nobody knows what runs on the host")
	pids := []int{h.file("child"), h.file("pid")}
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // of a test that failed
		}
	})
	require.True(t, alive(pids[1]))
	reset := offered{Offer: labapi.Offer{Kind: "Reset", Task: 1, Hosts: []string{"h1"}}, manifest: labapi.Manifest{Kind: "Reset", Task: 1, Fence: true, GraceMillis: 1000, LogCap: 1 << 20}}
	l.offer(reset)
	require.Equal(t, "passed", l.finished(2).finish.Result)
	for _, pid := range pids {
		gone(t, pid)
	}
	// A run that was claimed before comes too late.
	require.NoError(t, os.WriteFile(h.dir+"/it's here/epoch", []byte("99\n"), 0o600))
	l.offer(job(3, "echo ran"))
	run = l.finished(3)
	require.Equal(t, "infra", run.finish.Result)
	require.Contains(t, string(run.logs["stderr"]), "the host was given to a later run")
	require.Empty(t, run.logs["stdout"])
}

func TestHostsThatCannotBeReached(t *testing.T) {
	h := newHost(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := free.Addr().String()
	require.NoError(t, free.Close())
	other, _ := key(t)
	for _, c := range []struct {
		name, address, result, says string
		before                      func()
	}{
		{"nobody listens", nobody, "unusable", "connection refused", func() {}},
		{"the name does not resolve", "no-such-host.invalid:22", "infra", "no-such-host.invalid", func() {}},
		{"the host has another key", h.listen.Addr().String(), "infra", "key mismatch", func() { h.knows(other.PublicKey()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.before()
			l := newLab(t)
			newMachine(t, l, h.driver(c.address)).serve()
			l.offer(job(1, "true"))
			run := l.finished(1)
			require.Equal(t, c.result, run.finish.Result)
			require.Contains(t, string(run.logs["stderr"]), c.says)
		})
	}
}
