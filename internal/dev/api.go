package dev

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/simlab"
)

// submitBound is how long a suite may take to be submitted: a replica that is paused accepts
// connections and answers nothing, and then another one is asked.
const submitBound = 2 * time.Second

// openAPI prepares to call the replicas as people do.
func (d *dev) openAPI() (err error) {
	d.api, err = labclient.New(labclient.Config{Servers: d.addresses()})
	return err
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
		// Some of the jobs ask for labels that no host has together.
		in.Jobs = append(in.Jobs, labapi.JobSpec{Name: job.Name, Labels: job.Labels, Reset: &job.Reset, AllowUnplaceable: true})
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

// commands are command lines to try in another terminal, which has to be told where the lab
// is first.
func (d *dev) commands() []string {
	program := os.Args[0]
	return []string{
		"export HOSTSCHED_SERVER=" + strings.Join(d.addresses(), ","),
		program + " host list",
		"echo '{name: try, owner: alice, labels: [board:b01]}' | " + program + " job submit - --follow",
	}
}
