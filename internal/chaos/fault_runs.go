package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/store/sqldb"
)

// outageFaults take away what claimants need for longer than their leases last, or for so long
// that the servers would give their runs up; the others concern runs that are over, and agents
// of which there are two.
var outageFaults = []fault{
	{kind: "all servers away for longer than a lease", weight: 2, outage: true, strike: serversAway(runsLease, 2*runsLease)},
	{kind: "all servers away until runs would be lost", weight: 1, outage: true, strike: serversAway(lossAfter, lossAfter+runsLease)},
	{kind: "database away for longer than a lease", weight: 2, cluster: oneServer, outage: true, strike: databaseAway(runsLease, 2*runsLease)},
	{kind: "database away until runs would be lost", weight: 1, cluster: oneServer, outage: true, strike: databaseAway(lossAfter, lossAfter+runsLease)},
	{kind: "two agents with one name", weight: 3, light: true, strike: secondAgent},
	{kind: "late calls of a closed run", weight: 4, light: true, strike: lateCalls},
}

const (
	// lossAfter is after how long without renewal a run is given up, and a bit more: its grace
	// is as long as its lease, which is short here.
	lossAfter = 2*runsLease + 2*time.Second
	// awayAfter is after how long the servers know that none of them was there.
	awayAfter = runsLease + 2*time.Second
)

// serversAway kills all servers.
func serversAway(low, high time.Duration) strike {
	return func(_ context.Context, c *chaos) (*broken, error) {
		rs := c.anyReplicas(replicas)
		if len(rs) < replicas { // another fault has one
			for _, r := range rs {
				r.busy = false
			}
			return nil, nil
		}
		b, err := onReplicas(rs, c.between(low, high), (*replica).kill, (*replica).start)
		c.noteReturn(b)
		return b, err
	}
}

// databaseAway kills the database server.
func databaseAway(low, high time.Duration) strike {
	return func(ctx context.Context, c *chaos) (*broken, error) {
		b, err := killDatabase(ctx, c)
		if b != nil {
			b.hold = c.between(low, high)
			c.noteReturn(b)
		}
		return b, err
	}
}

// noteReturn notes when a long outage was over.
func (c *chaos) noteReturn(b *broken) {
	began, mend := time.Now(), b.mend
	b.mend = func(ctx context.Context) error {
		if time.Since(began) >= awayAfter {
			c.runs.returned = append(c.runs.returned, time.Now().UnixMicro())
		}
		return mend(ctx)
	}
}

// secondAgent starts another agent with the name and the token of one, as a copy of its machine
// would be. The first one ends; what it runs goes on.
func secondAgent(_ context.Context, c *chaos) (*broken, error) {
	a := c.anAgent()
	if a == nil {
		return nil, nil
	}
	copied, err := a.copied()
	if err != nil {
		a.busy = false
		return nil, err
	}
	a.replaced = true
	return &broken{what: a.name, hold: c.between(time.Second, 2*runsLease), mend: func(context.Context) error {
		a.busy = false
		return copied.end(syscall.SIGTERM)
	}}, copied.start()
}

// copied is an agent with the files of another one, but for its spool.
func (a *agent) copied() (*agent, error) {
	dir := filepath.Join(a.dir, fmt.Sprintf("copy-%d", time.Now().UnixMilli()))
	text, err := os.ReadFile(a.config)
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(a.dir, "token"))
	if err != nil {
		return nil, err
	}
	b := &agent{party: &party{name: a.name + ", copied"}, program: a.program, dir: dir, log: a.log, config: filepath.Join(dir, "agent.yaml")}
	changed := strings.NewReplacer(a.spool(), b.spool(), filepath.Join(a.dir, "token"), filepath.Join(dir, "token")).Replace(string(text))
	return b, errors.Join(os.MkdirAll(b.spool(), 0o700), os.WriteFile(b.config, []byte(changed), 0o600), os.WriteFile(filepath.Join(dir, "token"), token, 0o600))
}

// noteClaims remembers the tokens of the runs that agents have in their spools.
func (c *chaos) noteClaims() {
	files, _ := filepath.Glob(filepath.Join(c.dir, "agent-*", "spool", "runs", "*", "claim.json")) // the pattern is right
	for _, file := range files {
		var record struct{ Claimed labapi.Claimed }
		text, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(text, &record) == nil {
			c.runs.claims[record.Claimed.Run] = record.Claimed.Token
		}
	}
}

// lateCalls makes the calls of an agent's run that is closed, as an agent does that was cut off
// meanwhile. None of them may be accepted; its end may be told again, and changes nothing.
func lateCalls(ctx context.Context, c *chaos) (*broken, error) {
	run, state, err := c.closedRun(ctx)
	if err != nil || run == 0 {
		return nil, err
	}
	server, _ := pick(c, c.replicas)
	client, err := agentclient.New(labclient.Config{Servers: []string{"http://" + server.listen}})
	if err != nil {
		return nil, err
	}
	calls, err := client.Run(run, c.runs.claims[run])
	if err != nil {
		return nil, err
	}
	late := map[string]func() error{
		"state": func() error { _, err := calls.State(ctx, labapi.RunState{Phase: "running"}); return err },
		"renew": func() error { _, err := calls.Renew(ctx); return err },
		"log":   func() error { _, err := calls.PutLog(ctx, "stdout", 0, []byte("late\n")); return err },
		"finish": func() error {
			_, err := calls.Finish(ctx, labapi.RunFinish{Result: labapi.ResultUnusable})
			if err == nil && state == "done" {
				return agentclient.ErrRunLost // told once more, and nothing changed: triggers see to that
			}
			return err
		},
	}
	for what, call := range late {
		switch err := call(); {
		case errors.Is(err, agentclient.ErrRunLost):
			c.runs.refused++
		case err == nil:
			c.runs.accepted++
			c.wrong("run %d is %s, and its call %s was accepted", run, state, what)
		}
	}
	return &broken{what: fmt.Sprintf("run %d, which is %s, at %s", run, state, server.name)}, nil
}

// closedRun draws one of the runs whose tokens are known and that are closed, rather a lost one.
func (c *chaos) closedRun(ctx context.Context) (run int64, state string, err error) {
	closed := map[string][]int64{}
	err = sqldb.EachRow(ctx, c.db.SQL(), "SELECT id, state FROM hostsched_runs WHERE state IN ('done', 'lost') ORDER BY id", nil, func(scan sqldb.Scanner) error {
		var id int64
		var state string
		err := scan(&id, &state)
		if c.runs.claims[id] != "" {
			closed[state] = append(closed[state], id)
		}
		return err
	})
	state = "lost"
	if len(closed[state]) == 0 || c.rng.IntN(3) == 0 {
		state = "done"
	}
	run, _ = pick(c, closed[state])
	return run, state, err
}
