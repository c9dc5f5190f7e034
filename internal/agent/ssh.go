package agent

import (
	"cmp"
	"context"
	_ "embed" // the script that hosts run
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/hostsched/hostsched/internal/labapi"
)

// sshSettings are what a step over ssh needs. They are seen by everybody on the machine, so no
// secret is among them: those are in the environment.
type sshSettings struct {
	Host, Address, User, KeyFile, KnownHosts, Folder string
	Run, Epoch                                       int64
	// Script is the file to run on the host; without one, only what earlier runs left is
	// ended.
	Script string
	Grace  time.Duration
}

const (
	defaultSSHAddress = "{host}:22"
	defaultSSHFolder  = "/var/tmp/hostsched"

	dialBound = 10 * time.Second
	// aliveEvery is how often the host must answer; after aliveMisses it counts as gone.
	aliveEvery  = 15 * time.Second
	aliveMisses = 3
	// killMargin is how long before the step itself is killed what it began on the host is.
	killMargin = time.Second
)

// Exit codes of a step that could not run its script, as a job's command has them.
const (
	exitUnusable = 69 // the host does not answer
	exitInfra    = 75 // the lab's names or keys do not fit
)

func (a *Agent) sshArgs(d *Driver, h labapi.RunHost, run int64, script string, grace time.Duration) []string {
	s := sshSettings{
		Host: h.Hostname, User: d.SSH.User, KeyFile: d.SSH.KeyFile, KnownHosts: d.SSH.KnownHosts, Run: run, Epoch: h.Epoch, Script: script, Grace: grace,
		Address: strings.ReplaceAll(cmp.Or(d.SSH.Address, defaultSSHAddress), "{host}", h.Hostname), Folder: cmp.Or(d.SSH.Folder, defaultSSHFolder),
	}
	text, _ := json.Marshal(s) // strings and numbers always become JSON
	return append(append([]string{}, a.SSH...), string(text))
}

// SSHStep does a step over ssh and returns its exit status.
func SSHStep(ctx context.Context, settings string, stdout, stderr io.Writer) (int, error) {
	var s sshSettings
	if err := json.Unmarshal([]byte(settings), &s); err != nil {
		return exitInfra, fmt.Errorf("read the settings of a step over ssh: %w", err)
	}
	client, err := s.dial()
	if err != nil {
		return dialStatus(err), fmt.Errorf("reach host %s by ssh at %s: %w", s.Host, s.Address, err)
	}
	defer client.Close() //nolint:errcheck // the step is over
	go keepAlive(client)
	if s.Script != "" {
		if err := s.bring(client); err != nil {
			return exitUnusable, fmt.Errorf("bring the script to host %s: %w", s.Host, err)
		}
	}
	status, err := s.run(ctx, client, stdout, stderr)
	if err != nil {
		return exitUnusable, fmt.Errorf("run the script on host %s: %w", s.Host, err)
	}
	return status, nil
}

func (s *sshSettings) dial() (*ssh.Client, error) {
	text, err := os.ReadFile(s.KeyFile)
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("read the key in %s: %w", s.KeyFile, err)
	}
	known, err := knownhosts.New(s.KnownHosts)
	if err != nil {
		return nil, fmt.Errorf("read the known hosts in %s: %w", s.KnownHosts, err)
	}
	conn, err := net.DialTimeout("tcp", s.Address, dialBound)
	if err != nil {
		return nil, err
	}
	cfg := &ssh.ClientConfig{User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: known}
	// A host may accept, and say nothing more.
	if err := conn.SetDeadline(time.Now().Add(dialBound)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c, channels, requests, err := ssh.NewClientConn(conn, s.Address, cfg)
	if err != nil {
		_ = conn.Close() // what it says is no reason
		return nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return ssh.NewClient(c, channels, requests), nil
}

// dialStatus tells hosts that do not answer from names and keys that do not fit: those are no
// host's fault.
func dialStatus(err error) int {
	var dns *net.DNSError
	var op *net.OpError
	if !errors.As(err, &dns) && errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		return exitUnusable
	}
	return exitInfra
}

// keepAlive ends a connection whose other end is gone without a word.
func keepAlive(client *ssh.Client) {
	for {
		answered := make(chan error, 1)
		go func() {
			_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		}()
		select {
		case err := <-answered:
			if err != nil {
				return
			}
			time.Sleep(aliveEvery)
		case <-time.After(aliveMisses * aliveEvery):
			_ = client.Close() // what waits for it fails
			return
		}
	}
}

// own is the run's folder on the host.
func (s *sshSettings) own() string { return path.Join(s.Folder, fmt.Sprintf("run-%d", s.Run)) }

// bring puts the script and its environment into the run's folder.
func (s *sshSettings) bring(client *ssh.Client) error {
	script, err := os.Open(s.Script)
	if err != nil {
		return err
	}
	defer script.Close() //nolint:errcheck // it was only read
	own := quote(s.own())
	for _, file := range []struct {
		name string
		from io.Reader
	}{{"script", script}, {"env", strings.NewReader(s.exports())}} {
		session, err := client.NewSession()
		if err != nil {
			return err
		}
		session.Stdin = file.from
		text, err := session.CombinedOutput(fmt.Sprintf("umask 077; mkdir -p %s && cat >%s/%s && chmod 700 %s/%s", own, own, file.name, own, file.name))
		if err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(text)))
		}
	}
	return nil
}

// notForHosts are variables of this machine.
var notForHosts = map[string]bool{"PATH": true, "HOME": true, "TMPDIR": true, "LANG": true, "LC_ALL": true, "TZ": true, "HOSTSCHED_DIR": true, "HOSTSCHED_CLAIM": true, "PWD": true}

// exports are the variables of the run, as a shell reads them.
func (s *sshSettings) exports() string {
	var b strings.Builder
	for _, line := range os.Environ() {
		if name, value, _ := strings.Cut(line, "="); !notForHosts[name] {
			fmt.Fprintf(&b, "export %s=%s\n", name, quote(value))
		}
	}
	fmt.Fprintf(&b, "export HOSTSCHED_DIR=%s\n", quote(s.own()))
	return b.String()
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

//go:embed host.sh
var hostScript string

// remote is a command of the script that hosts run.
func (s *sshSettings) remote(what string) string {
	return "/bin/sh -c " + quote(hostScript) + " hostsched " + strings.Join([]string{
		what, quote(s.Folder), quote(s.own()), strconv.FormatInt(s.Epoch, 10),
	}, " ")
}

// run runs the script, and passes on that it is to end.
func (s *sshSettings) run(ctx context.Context, client *ssh.Client, stdout, stderr io.Writer) (int, error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	session, err := client.NewSession()
	if err != nil {
		return 0, err
	}
	session.Stdout, session.Stderr = stdout, stderr
	what := "run"
	if s.Script == "" {
		what = "fence"
	}
	if err := session.Start(s.remote(what)); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- session.Wait() }()
	select {
	case err := <-ended:
		return exitOf(err)
	case <-signals:
	case <-ctx.Done():
	}
	s.signal(client, "TERM")
	select {
	case err := <-ended:
		return exitOf(err)
	case <-time.After(max(s.Grace-killMargin, s.Grace/2)):
	}
	s.signal(client, "KILL")
	return exitOf(<-ended)
}

// signal signals all that the script began. sshd passes on no signals of its own accord.
func (s *sshSettings) signal(client *ssh.Client, name string) {
	session, err := client.NewSession()
	if err == nil {
		err = session.Run(s.remote("kill-" + name))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "hostsched: what runs on host %s cannot be told to end: %s\n", s.Host, err)
	}
}

func exitOf(err error) (int, error) {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil // 128 and the signal's number, if one ended it
	}
	return 0, fmt.Errorf("the connection is lost: %w", err)
}
