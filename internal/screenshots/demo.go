package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/browser"
	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/dev"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

const (
	// begins is how long the demonstration may take until it answers, and runsFor how long it
	// runs until the pages have something to show.
	begins  = time.Minute
	runsFor = 25 * time.Second
)

// demo is a 'hostsched dev' whose pages are looked at.
type demo struct {
	cmd   *exec.Cmd
	ended *child.Exit
	dir   string
	url   string
	api   *labclient.Client
}

func startDemo(ctx context.Context, program string) (*demo, error) {
	dir, err := os.MkdirTemp("", "screenshots")
	if err != nil {
		return nil, err
	}
	said := filepath.Join(dir, "said")
	d := &demo{dir: dir, cmd: exec.CommandContext(ctx, program, "dev", "--hosts", "120", "--data-dir", filepath.Join(dir, "data"), "--json", "--duration", "10m")} //nolint:gosec // it is ours
	if d.ended, err = child.StartLogging(d.cmd, said); err != nil {
		return nil, err
	}
	for over := time.Now().Add(begins); time.Now().Before(over); time.Sleep(100 * time.Millisecond) {
		text, err := os.ReadFile(said)
		if err != nil {
			return nil, err
		}
		if url := dev.ConsoleAddress(text); url != "" && d.answers(ctx, url) {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%s dev did not say within %v where its console is; %s has what it said", program, begins, said)
}

// answers tells whether the replica at an address has found its database.
func (d *demo) answers(ctx context.Context, url string) bool {
	api, err := labclient.New(labclient.Config{Servers: []string{url}})
	if err != nil {
		return false
	}
	d.url, d.api = url, api
	return api.Do(ctx, labclient.Call{Method: http.MethodGet, Path: "/whoami"}, &labapi.Whoami{}) == nil
}

// stop ends the demonstration, whose verdict of itself is none of ours.
func (d *demo) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-d.ended.Done()
	return os.RemoveAll(d.dir)
}

// prepare lets happen what pages show, and tells which are looked at.
func (d *demo) prepare(ctx context.Context) ([]picture, error) {
	var hosts labapi.Page[labapi.Host]
	if err := d.read(ctx, "/hosts", url.Values{"limit": {"40"}}, &hosts); err != nil {
		return nil, err
	}
	name := func(i int) string { return hosts.Items[i].Hostname }
	for _, in := range []labapi.HoldsInput{
		{Action: labapi.ActionLock, Hosts: []string{name(5), name(11), name(12)}, Reason: "new cables"},
		{Action: labapi.ActionDrain, Hosts: []string{name(8), name(19)}, Reason: "moves to rack 4"},
	} {
		if err := d.api.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/hosts/holds", Body: in}, nil); err != nil {
			return nil, err
		}
	}
	var job labapi.Submitted
	spec := labapi.JobSpec{Name: "boot test", Labels: []string{"pool:desk"}, Script: `printf '\033[1mpower on\033[0m\n'; for i in $(seq 400); do printf '[%s] kernel: test %s \033[32mpassed\033[0m\n' $i $i; sleep 0.3; done`}
	if err := d.api.Do(ctx, labclient.Call{Method: http.MethodPost, Path: "/jobs", Body: spec}, &job); err != nil {
		return nil, err
	}
	if err := d.changeShard(ctx); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(runsFor):
	}
	var runs labapi.Page[labapi.Run]
	if err := d.read(ctx, "/runs", url.Values{"job": {fmt.Sprint(job.ID)}, "limit": {"1"}}, &runs); err != nil {
		return nil, err
	}
	var suites labapi.Page[labapi.Suite]
	if err := d.read(ctx, "/suites", url.Values{"limit": {"1"}}, &suites); err != nil {
		return nil, err
	}
	if len(runs.Items) == 0 || len(suites.Items) == 0 {
		return nil, fmt.Errorf("the lab at %s has no run of job %d or no suite after %v", d.url, job.ID, runsFor)
	}
	desk := func(name, path string) picture { return picture{name, path, browser.Desk, false} }
	return []picture{
		desk("overview", ""), {"overview-dark", "", browser.Desk, true}, {"overview-phone", "", browser.Phone, false},
		desk("hosts", "hosts"), desk("grid", "hosts?view=grid"), {"host", "hosts/" + name(0), browser.Size{Width: browser.Desk.Width, Height: 1700}, false}, {"hosts-phone", "hosts", browser.Phone, false},
		desk("queue", "queue"), desk("jobs", "jobs"), desk("job", fmt.Sprint("jobs/", job.ID)), desk("suites", "suites"),
		desk("pools", "pools"), desk("agents", "agents"), desk("cluster", "cluster"), desk("audit", "audit"),
		desk("log", fmt.Sprintf("runs/%d/log/stdout", runs.Items[0].ID)), desk("suite", fmt.Sprint("suites/", suites.Items[0].ID)), desk("login", "login"),
	}, nil
}

func (d *demo) read(ctx context.Context, path string, query url.Values, out any) error {
	return d.api.Do(ctx, labclient.Call{Method: http.MethodGet, Path: path, Query: query}, out)
}

// changeShard does what the page of the cluster tells of.
func (d *demo) changeShard(ctx context.Context) error {
	for _, c := range []struct {
		action string
		change any
	}{
		{"switchover", labapi.Switchover{ShardChange: labapi.ShardChange{Reason: "kernel update"}}},
		{"pause", labapi.ShardChange{Reason: "power work in row 7"}},
		{"resume", labapi.ShardChange{Reason: "power is back"}},
	} {
		if err := d.api.Do(ctx, labclient.Call{Method: http.MethodPost, Path: labclient.Path("shards", "master", c.action), Body: c.change}, nil); err != nil {
			return err
		}
	}
	return nil
}
