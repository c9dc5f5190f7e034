package dev

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
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

// commands are command lines to try in another terminal, the first one of which says where the
// lab is. job is one whose log can be followed.
func (d *dev) commands(job string) []string {
	program := os.Args[0]
	tell := ". " + quoted(d.envFile()) + "; "
	if d.opts.Agents == 0 {
		return []string{
			tell + program + " host list",
			"echo '{name: try, owner: alice, labels: [board:b01]}' | " + program + " job submit - --follow",
		}
	}
	return []string{
		tell + program + " run -l " + deskLabel + " -- echo hello {host}",
		program + " job list --state running",
		program + " job logs -f " + job,
	}
}

// envFile is what a shell reads to know where the lab is.
func (d *dev) envFile() string {
	path := d.file("env")
	if !strings.Contains(path, "/") {
		path = "./" + path
	}
	return path
}

func (d *dev) writeEnvFile() error {
	// A token or a context of another lab would be for that one.
	text := "export HOSTSCHED_SERVER=" + strings.Join(d.addresses(), ",") + "\nunset HOSTSCHED_TOKEN HOSTSCHED_CONTEXT\n"
	if err := os.WriteFile(d.envFile(), []byte(text), 0o600); err != nil {
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
