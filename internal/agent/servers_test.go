package agent_test

import (
	"bytes"
	"os"
	"os/user"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/agent"
	"github.com/hostsched/hostsched/internal/labapi"
)

func TestWhatTheServersSayOfTheAgent(t *testing.T) {
	running := func(t *testing.T) (*lab, *machine, *serving, int) {
		l := newLab(t)
		m := newMachine(t, l, execDriver)
		s := m.serve()
		l.offer(job(1, "echo $$ >pid; echo ready; while ! [ -e go ]; do sleep 0.01; done"))
		l.says(1, "ready")
		return l, m, s, m.pid(1, "pid")
	}
	t.Run("revoked", func(t *testing.T) {
		l, _, s, pid := running(t)
		l.change(func() { l.problem = labapi.ProblemRevoked })
		require.ErrorIs(t, s.result(t), agent.ErrRevoked)
		require.False(t, alive(pid))
	})
	t.Run("replaced", func(t *testing.T) {
		l, _, s, pid := running(t)
		l.change(func() { l.problem = labapi.ProblemReplaced })
		require.ErrorIs(t, s.result(t), agent.ErrReplaced)
		require.True(t, alive(pid), "what runs is the other's")
	})
	for name, problem := range map[string]string{"the token is not known": labapi.ProblemToken, "too old": labapi.ProblemProtocol} {
		t.Run(name, func(t *testing.T) {
			l, m, _, pid := running(t)
			l.change(func() { l.problem = problem })
			time.Sleep(time.Second)
			require.True(t, alive(pid))
			l.change(func() { l.problem = "" })
			require.NoError(t, os.WriteFile(filepath.Join(m.folder(1).Work(), "go"), nil, 0o600))
			require.Equal(t, "passed", l.finished(1).finish.Result)
		})
	}
	t.Run("the run is lost", func(t *testing.T) {
		l, m, _, pid := running(t)
		l.change(func() { l.runs[1].lost = true })
		gone(t, pid)
		require.Eventually(t, func() bool { _, err := os.Stat(string(m.folder(1))); return err != nil }, bound, 10*time.Millisecond)
	})
	t.Run("stop", func(t *testing.T) {
		l, _, s, pid := running(t)
		l.change(func() { l.desired = labapi.DesiredStop })
		require.NoError(t, s.result(t))
		require.False(t, alive(pid))
		require.Equal(t, "infra agent-stop", l.finished(1).finish.Result+" "+l.finished(1).finish.StopReason)
	})
	t.Run("drain", func(t *testing.T) {
		l, m, _, _ := running(t)
		l.change(func() { l.desired = labapi.DesiredDrain })
		l.offer(job(2, "true"))
		require.NoError(t, os.WriteFile(filepath.Join(m.folder(1).Work(), "go"), nil, 0o600))
		l.finished(1)
		time.Sleep(200 * time.Millisecond)
		_, claimed := l.run(2)
		require.False(t, claimed)
	})
}

// TestTokensChange while the agent serves: by the servers, or by an administrator's join token.
func TestTokensChange(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	m.serve()
	l.offer(job(1, "true"))
	l.finished(1)
	kept := func(want string) {
		t.Helper()
		require.Eventually(t, func() bool {
			text, err := os.ReadFile(filepath.Join(m.dir, "token"))
			return err == nil && string(text) == want+"\n"
		}, bound, 5*time.Millisecond, want)
	}
	l.change(func() { l.rotated = "hsa_second" })
	l.offer(job(2, "true"))
	kept("hsa_second")
	l.change(func() { l.token = "hsa_third" })
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "join"), []byte("hsj_again\n"), 0o600))
	l.offer(job(3, "true"))
	kept("hsa_third")
	l.finished(3)
	l.mu.Lock()
	defer l.mu.Unlock()
	require.Equal(t, "hsj_again", l.joins[len(l.joins)-1].JoinToken)
}

// TestARevokedAgentJoinsAgain when it is started with a new join token.
func TestARevokedAgentJoinsAgain(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	s := m.serve()
	l.offer(job(1, "true"))
	l.finished(1)
	l.change(func() { l.revoked, l.token = l.token, "hsa_back" })
	require.ErrorIs(t, s.result(t), agent.ErrRevoked)
	require.Len(t, l.joins, 1, "its join token was used")
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "join"), []byte("hsj_back\n"), 0o600))
	m.serve()
	l.offer(job(2, "true"))
	l.finished(2)
	require.Equal(t, "hsj_back", l.joins[1].JoinToken)
}

// TestAgentsOfTwoLabsOnOneMachine leave each other's runs alone, which may have the same
// numbers.
func TestAgentsOfTwoLabsOnOneMachine(t *testing.T) {
	const script = "echo $$ >pid; echo ready; while ! [ -e go ]; do sleep 0.01; done"
	labs, machines := []*lab{newLab(t), newLab(t)}, []*machine{}
	for _, l := range labs {
		m := newMachine(t, l, execDriver)
		m.serve()
		l.offer(job(1, script))
		l.says(1, "ready")
		machines = append(machines, m)
	}
	pid := machines[1].pid(1, "pid")
	labs[0].change(func() { labs[0].runs[1].lost = true })
	gone(t, machines[0].pid(1, "pid"))
	require.Eventually(t, func() bool { _, err := os.Stat(string(machines[0].folder(1))); return err != nil }, bound, 10*time.Millisecond)
	require.True(t, alive(pid))
	require.NoError(t, os.WriteFile(filepath.Join(machines[1].folder(1).Work(), "go"), nil, 0o600))
	require.Equal(t, "passed", labs[1].finished(1).finish.Result)
}

func TestJobsRunAsAnotherUserWhoSeesNothingOfTheAgent(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, "user: nobody\n"+execDriver)
	for dir := m.dir; dir != os.TempDir(); dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o711))
	}
	m.serve()
	l.offer(job(1, "id -un; id -G; cat ../claim.json ../spec.json ../../../../token 2>&1 | grep -c 'Permission denied'; touch mine ../other; ls ../.. || true; ln -s ../claim.json result.json"))
	run := l.finished(1)
	u, err := user.Lookup("nobody")
	require.NoError(t, err)
	require.Equal(t, "nobody\n"+u.Gid+"\n3\n", string(run.logs["stdout"]), "%s", run.logs["stderr"])
	require.Empty(t, run.finish.Detail)
}

func TestAutoservHasTheCommandLinesOfMonitorDB(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, `drivers: [{driver: autoserv, command: [/bin/echo, first]}]`)
	m.serve()
	work := func(run int64) string { return m.folder(run).Work() }
	l.offer(job(1, "job.run_test('x')"))
	require.Equal(t, "first -p -r "+work(1)+"/results -m h1 -u ada -l j -s -P 1-ada -n "+work(1)+"/script\n", string(l.finished(1).logs["stdout"]))
	for i, c := range []struct{ kind, want string }{
		{"Verify", "-v"}, {"Cleanup", "--cleanup"}, {"Reset", "--reset"}, {"Provision", "--provision --job-labels board:eve,pool:x"}, {"Repair", "-R --host-protection NO_PROTECTION"},
	} {
		id := int64(i + 2)
		l.offer(offered{
			Offer:    labapi.Offer{Kind: c.kind, Task: id, Hosts: []string{"h1"}},
			manifest: labapi.Manifest{Kind: c.kind, Task: id, GraceMillis: 100, LogCap: 1 << 20}, labels: []string{"board:eve", "pool:x"},
		})
		require.Equal(t, "first -p -r "+work(id)+"/results -m h1 "+c.want+"\n", string(l.finished(id).logs["stdout"]))
	}
}

func TestOneSpoolHasOneAgent(t *testing.T) {
	l := newLab(t)
	m := newMachine(t, l, execDriver)
	m.serve()
	l.offer(job(1, "true"))
	l.finished(1)
	cfg, err := agent.Read(m.config)
	require.NoError(t, err)
	require.ErrorIs(t, program(cfg).Run(t.Context()), agent.ErrSpoolUsed)
}

func TestOneHostHasOneRun(t *testing.T) {
	l := newLab(t)
	l.lease = 10 * time.Minute // so long that a wait shows
	m := newMachine(t, l, "capacity: 2\n"+execDriver)
	m.serve()
	l.offer(job(1, "echo ready; while ! [ -e go ]; do sleep 0.01; done"))
	l.says(1, "ready")
	second := job(2, "true")
	second.Hosts = []string{"h1"}
	l.offer(second)
	third := job(3, "true")
	l.offer(third)
	require.EqualValues(t, 3, l.finished(2).claimed.Manifest.Job, "another host is free")
	require.NoError(t, os.WriteFile(filepath.Join(m.folder(1).Work(), "go"), nil, 0o600))
	began := time.Now()
	require.EqualValues(t, 2, l.finished(3).claimed.Manifest.Job)
	require.Less(t, time.Since(began), 10*time.Second, "what was refused is taken as soon as the host is free")
}

func TestBadFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "name is missing",
		"nam: x":                        "nam",
		"name: a\nservers: [http://x]":  "drivers is missing",
		"drivers: [{driver: docker}]":   `not "docker"`,
		"drivers: [{driver: autoserv}]": "the path of autoserv",
		"drivers: [{driver: exec, command: [/no/such/driver]}]":          "/no/such/driver",
		"drivers: [{driver: exec, tasks: {verify: [/no/such/verify]}}]":  "/no/such/verify",
		"drivers: [{driver: exec, tasks: {polish: [x]}}]":                "no task",
		"drivers: [{driver: ssh, ssh: {user: u, key_file: /no/such/k}}]": "known_hosts is missing",
		"user: nobody-at-all\ndrivers: [{driver: exec}]":                 "nobody-at-all",
		"capacity: 0\ndrivers: [{driver: exec}]":                         "capacity",
	} {
		path := filepath.Join(t.TempDir(), "agent.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := agent.Read(path)
		require.ErrorIs(t, err, agent.ErrConfig, text)
		require.ErrorContains(t, err, want, text)
	}
}

// TestExampleFile: whoever copies it has to make its user and its keys, and nothing else.
func TestExampleFile(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("../../deploy/hostsched-agent.example.yaml")
	require.NoError(t, err)
	for _, name := range []string{"lab_key", "known_hosts"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	text = bytes.ReplaceAll(text, []byte("/etc/hostsched/"), []byte(dir+"/"))
	text = bytes.ReplaceAll(text, []byte("user: hostsched-job"), []byte("user: nobody"))
	text = bytes.ReplaceAll(text, []byte("[ping,"), []byte("[sh,")) // not every machine has ping
	path := filepath.Join(dir, "agent.yaml")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	_, err = agent.Read(path)
	require.NoError(t, err)
}

// TestOffersThatAreLeft are taken as soon as that can be, although the servers tell of each
// offer only once as long as calls wait.
func TestOffersThatAreLeft(t *testing.T) {
	l := newLab(t)
	l.reserved, l.lease = true, 10*time.Minute
	second := job(2, "true")
	second.Hosts = []string{"h1"}
	l.offer(job(1, "true"))
	l.offer(second)
	newMachine(t, l, execDriver).serve()
	began := time.Now()
	l.finished(2)
	require.Less(t, time.Since(began), 10*time.Second)
}
