package main

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
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/browser"
	"github.com/hostsched/hostsched/internal/dev"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// demo is a 'hostsched dev', and a browser that looks at its console.
type demo struct {
	*testing.T
	dir, url string
	api      *labclient.Client
	tab      context.Context
}

func newDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{T: t, dir: filepath.Join(t.TempDir(), "data")}
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0], "dev", "--hosts", "10", "--agents", "1", "--data-dir", d.dir, "--duration", "5m", "--json")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = said, said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait() // it may end before anything was assigned
		require.NoError(t, said.Close())
	})
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(said.Name())
		d.url = dev.ConsoleAddress(text)
		return err == nil && d.url != ""
	}, patience, 20*time.Millisecond, "it says where the console is")
	d.api, err = labclient.New(labclient.Config{Servers: []string{d.url}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return d.api.Do(t.Context(), labclient.Call{Method: "GET", Path: "/whoami"}, &labapi.Whoami{}) == nil
	}, patience, 20*time.Millisecond, "its replica answers")
	tab, stop, err := browser.Start(context.Background(), browser.Desk)
	require.NoError(t, err)
	t.Cleanup(stop)
	d.tab = tab
	return d
}

func (d *demo) do(steps ...chromedp.Action[chromedp.Void]) {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.tab, patience)
	defer cancel()
	require.NoError(d, chromedp.Do(ctx, steps...))
}

// text is what an element of the page says, empty if there is none.
func (d *demo) text(css string) string {
	ctx, cancel := context.WithTimeout(d.tab, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q)?.textContent || ''", css)))
	if err != nil {
		return "" // the browser is between two pages
	}
	return text
}

func (d *demo) shows(css, pattern string) {
	d.Helper()
	wanted := regexp.MustCompile(pattern)
	require.Eventually(d, func() bool { return wanted.MatchString(d.text(css)) }, patience, 20*time.Millisecond, "%s never has %s", css, pattern)
}

// submit puts a job in for a host that the simulation leaves alone.
func (d *demo) submit(script string) int64 {
	d.Helper()
	var made labapi.Submitted
	spec := labapi.JobSpec{Name: "followed", Labels: []string{"pool:desk"}, Script: script}
	require.NoError(d, d.api.Do(d.Context(), labclient.Call{Method: "POST", Path: "/jobs", Body: spec}, &made))
	return made.ID
}

// TestConsoleOfALiveLab: whoever runs the demonstration is its administrator in a browser: he
// follows the log of a job while it runs, aborts it, and sees another leader when the first is
// killed, all without loading a page again.
func TestConsoleOfALiveLab(t *testing.T) {
	d := newDemo(t)
	job := d.submit("printf '\\033[31;1mpower on\\033[0m\\n'; for i in $(seq 1000); do echo line $i; sleep 0.1; done")
	d.do(chromedp.Navigate(fmt.Sprintf("%s/ui/jobs/%d", d.url, job)))
	d.shows(".who", "demo administrator")
	d.shows("#jobstate", "running")
	d.shows(".log .ansi1.bold", "power on")
	d.shows(".log", "line 3")
	d.shows(".log", fmt.Sprintf("line %d", strings.Count(d.text(".log"), "line")+20))

	logs := exec.Command(os.Args[0], "job", "logs", "--server", d.url, fmt.Sprint(job))
	logs.Env = append(os.Environ(), asProgram+"=1")
	text, err := logs.Output()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "\x1b[31;1mpower on\x1b[0m\nline 1\n"), "%q", text)

	d.confirm()
	d.do(chromedp.SetValue(chromedp.CSS("#jobactions [name=reason]"), "seen enough"), chromedp.Click(chromedp.CSS("button[value=abort]")))
	d.shows("[role=status].note", "end was asked for")
	d.shows("#jobstate", "aborted")
	d.shows("#jobevents", "seen enough")

	d.do(chromedp.Navigate(d.url + "/ui/cluster"))
	first := d.leaderBut("")
	d.shows("[data-th='Would follow']", "replica-[1-3]")
	require.NotEqual(t, first, d.text("[data-th='Would follow']"))
	d.pausesAndResumes()
	d.handsOver(first)
	kill := exec.Command(os.Args[0], "dev", "kill-leader", "--data-dir", d.dir)
	kill.Env = append(os.Environ(), asProgram+"=1")
	out, err := kill.CombinedOutput()
	require.NoError(t, err, string(out))
	d.leaderBut(first)
	d.shows("#cluster", "shard.term_ended")
}

// leaderBut waits until the page of the cluster shows another leader than the one given.
func (d *demo) leaderBut(former string) (now string) {
	d.Helper()
	require.Eventually(d, func() bool {
		now = regexp.MustCompile("replica-[0-9]").FindString(d.text("[data-th=Leader]"))
		return now != "" && now != former
	}, patience, 20*time.Millisecond)
	return now
}

// pausesAndResumes: a page shows at once that somebody else paused the shard, and its administrator
// resumes it there.
func (d *demo) pausesAndResumes() {
	d.Helper()
	const paused, tries = "[data-th=Paused]", 10
	d.shows("#live", "live")
	best := time.Hour
	for i := 0; best > changeShows && i < tries; i++ {
		reason := fmt.Sprint("power work ", i)
		began := time.Now()
		require.NoError(d, d.changeShard("master", "pause", labapi.ShardChange{Reason: reason}))
		d.shows(paused, reason)
		best = min(best, time.Since(began))
	}
	d.Logf("a pause was seen after %v", best)
	require.LessOrEqual(d, best, changeShows)
	d.do(chromedp.SetValue(chromedp.CSS("[name=reason]"), "power is back"), chromedp.Click(chromedp.CSS("button[value=resume]")))
	d.shows("[role=status].note", "scheduled again")
	d.shows("#cluster", "(?s)shard.resumed.*power is back")
	require.NotContains(d, d.text(paused), "paused")

	for name, status := range map[string]int{"master": http.StatusConflict, "nowhere": http.StatusNotFound} {
		require.Equal(d, status, statusOf(d.changeShard(name, "resume", labapi.ShardChange{Reason: "once more"})), name)
	}
	require.Equal(d, http.StatusUnprocessableEntity, statusOf(d.changeShard("master", "pause", labapi.ShardChange{Reason: " "})))
	require.Equal(d, http.StatusUnprocessableEntity, statusOf(d.changeShard("master", "switchover", labapi.Switchover{To: "nobody", ShardChange: labapi.ShardChange{Reason: "test"}})))
}

// handsOver: the page hands the shard over to whom would follow, and then back to the first
// leader, which is chosen.
func (d *demo) handsOver(first string) {
	d.Helper()
	reason, follows := chromedp.CSS("[name=reason]"), d.text("[data-th='Would follow']")
	d.do(chromedp.SetValue(reason, "kernel update"), chromedp.Click(chromedp.CSS("button[value=switchover]")))
	d.shows("[role=status].note", "Another server leads")
	require.Equal(d, follows, d.leaderBut(first))
	d.shows("#cluster", "shard.switchover")
	d.do(chromedp.SetValue(reason, "back again"), chromedp.SetValue(chromedp.CSS("[name=to]"), first), chromedp.Click(chromedp.CSS("button[value=switchover]")))
	d.shows("#cluster", "back again")
	d.shows("[data-th=Leader]", first)
}

// changeShows is how soon a change is to be seen.
const changeShows = 500 * time.Millisecond

func (d *demo) changeShard(name, action string, change any) error {
	return d.api.Do(d.Context(), labclient.Call{Method: "POST", Path: labclient.Path("shards", name, action), Body: change}, nil)
}

// statusOf is the status with which the API refused something, 0 if it did not.
func statusOf(err error) int {
	var problem *labclient.Problem
	if !errors.As(err, &problem) {
		return 0
	}
	return problem.Status
}

// confirm says yes to whatever the page asks.
func (d *demo) confirm() {
	dialogs := chromedp.Events(d.tab, page.JavascriptDialogOpening)
	go func() {
		for _, err := range dialogs {
			if err != nil {
				return
			}
			// The page does not go on unless this succeeds.
			_, _ = chromedp.Call(d.tab, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}
	}()
}
