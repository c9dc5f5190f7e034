package dev

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/simlab"
)

// submitBound is how long a suite may take to be submitted: a replica that is paused accepts
// connections and answers nothing, and then another one is asked.
const submitBound = 2 * time.Second

// openAPI prepares to call the replicas as people do, and tells people how.
func (d *dev) openAPI() (err error) {
	if d.api, err = labclient.New(labclient.Config{Servers: d.addresses()}); err != nil {
		return err
	}
	return d.writeEnvFile()
}

func (d *dev) addresses() []string {
	var out []string
	for _, p := range d.processes {
		out = append(out, "http://"+p.listen)
	}
	return out
}

// submit sends a suite of the simulated lab. That all replicas are away, as between the death
// of a leader and its restart, is what the lab is there to show.
func (d *dev) submit(ctx context.Context, s simlab.Arriving) error {
	in := labapi.SuiteInput{Name: s.Name, Owner: s.Owner, Priority: s.Priority, Minimum: s.Minimum}
	for _, job := range s.Jobs {
		// A few of the jobs ask for labels that no host has together.
		spec := labapi.JobSpec{Name: job.Name, Labels: job.Labels, Reset: &job.Reset, AllowUnplaceable: true}
		if d.opts.Agents > 0 {
			spec.Script = testScript
		}
		in.Jobs = append(in.Jobs, spec)
	}
	// A suite that was submitted twice is one more suite, and nobody misses one.
	err := d.api.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/suites", Body: in, Repeatable: true, Timeout: submitBound}, nil)
	if err != nil {
		return fmt.Errorf("%w: submit a suite: %w", away(err), err)
	}
	return nil
}

// away tells what passes by itself from what does not.
func away(err error) error {
	if errors.Is(err, labclient.ErrAway) {
		return simlab.ErrBusy
	}
	return ErrProof
}

// consoleURL is where a browser finds the console: of the last replica, because the first one leads
// and is the first to be killed.
func (d *dev) consoleURL() string {
	return "http://" + d.processes[len(d.processes)-1].listen + "/ui/"
}

// lookAt says where the console is, in words in which [ConsoleAddress] finds it.
const lookAt = "look at %s in a browser: you are its administrator there"

var consoleLine = regexp.MustCompile(fmt.Sprintf(lookAt, "(http://[^/]+)/ui/"))

// ConsoleAddress finds the address of the replica with the console in what a lab said of itself,
// empty as long as that says nothing of it.
func ConsoleAddress(said []byte) string {
	if found := consoleLine.FindSubmatch(said); found != nil {
		return string(found[1])
	}
	return ""
}

// commands are command lines to try in another terminal, in any folder: the first one tells its
// shell where the lab and the program are. Each can be typed as it is.
func (d *dev) commands() []string {
	program := quoted(filepath.Base(d.program))
	list := []string{". " + quoted(d.envFile) + "; " + program + " host list"}
	submit := func(more string) string {
		return "echo '{name: try, owner: alice, " + more + "}' | " + program + " job submit - --follow"
	}
	if d.opts.Agents == 0 {
		return append(list, submit("labels: [board:b01]"))
	}
	return append(list,
		program+" run -l "+deskLabel+" -- echo hello {host}",
		submit(`labels: [`+deskLabel+`], script: "echo hello from $HOSTSCHED_HOST"`),
		program+` job logs -f "$(`+program+` job list --state running --limit 1 -o name)"`,
	)
}

// locate finds out what other terminals, which may be in any folder, have to be told.
func (d *dev) locate() error {
	program, err := thisProgram()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if d.program, err = filepath.Abs(program); err != nil {
		return err
	}
	d.dataDir, err = filepath.Abs(d.opts.DataDir)
	d.envFile = filepath.Join(d.dataDir, "env")
	return err
}

// thisProgram is its file under the name by which it was called, which may be a link to it. Whoever
// started it may have told it any other name.
func thisProgram() (string, error) {
	own, err := os.Executable()
	if err != nil {
		return "", err
	}
	called, err := exec.LookPath(os.Args[0])
	if err != nil || !sameFile(called, own) {
		return own, nil
	}
	return called, nil
}

func sameFile(a, b string) bool {
	of, err := os.Stat(a)
	other, otherErr := os.Stat(b)
	return errors.Join(err, otherErr) == nil && os.SameFile(of, other)
}

func (d *dev) writeEnvFile() error {
	// A token or a context of another lab would be for that one. Commands like plan and
	// cluster ask the database and etcd.
	text := "export HOSTSCHED_SERVER=" + strings.Join(d.addresses(), ",") + "\nunset HOSTSCHED_TOKEN HOSTSCHED_CONTEXT\n" +
		"export HOSTSCHED_DATABASE_DSN=" + quoted("sqlite:"+filepath.Join(d.dataDir, labFile)) + " HOSTSCHED_ETCD_ENDPOINTS=" + d.etcd.Endpoint + " HOSTSCHED_CLUSTER=" + clusterName + "\n" +
		"export PATH=" + quoted(filepath.Dir(d.program)) + ":\"$PATH\"\n"
	if err := os.WriteFile(d.envFile, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write how to find the lab: %w", err)
	}
	return nil
}

// quoted is a path as a shell reads it.
func quoted(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool {
		return r != '/' && r != '.' && r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
