package jobspec_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
)

const (
	asJSON = "application/json"
	asYAML = "application/yaml; charset=utf-8"
)

func TestOneSpecInTwoForms(t *testing.T) {
	yes := true
	want := labapi.JobSpec{
		Name: "smoke", Priority: 3, Labels: []string{"board:eve", "pool:ci"}, Count: 2, Synch: 2, Timeout: "90m", Verify: &yes,
		Reboot: &labapi.RebootSpec{Before: "always"}, Keyvals: map[string]string{"build": "1.10", "n": "5", "fast": "true"}, Script: "a\nb\n",
	}
	fromYAML, err := jobspec.ReadJob(asYAML, []byte("# a job\nname: smoke\npriority: 3\nlabels: &l [board:eve, pool:ci]\ncount: 2\nsynch: 2\ntimeout: 90m\nowner:\nverify: true\nreboot: {before: always}\nkeyvals:\n  build: 1.10\n  n: 5\n  fast: true\nscript: |\n  a\n  b\n"))
	require.NoError(t, err)
	require.Equal(t, want, fromYAML)
	fromJSON, err := jobspec.ReadJob(asJSON, []byte(`{"name":"smoke","priority":3,"labels":["board:eve","pool:ci"],"count":2,"synch":2,"timeout":"90m","owner":null,"verify":true,
		"reboot":{"before":"always"},"keyvals":{"build":"1.10","n":5,"fast":true},"script":"a\nb\n"}`))
	require.NoError(t, err)
	require.Equal(t, want, fromJSON)
}

func TestWhatIsRefused(t *testing.T) {
	for _, c := range []struct{ kind, text, says string }{
		{asJSON, `{"name":"a","lables":["x"]}`, `lables: there is no such key; did you mean "labels"?`},
		{asJSON, `{"name":"a","labels":["x"],"prio":1}`, `prio: there is no such key; did you mean "priority"?`},
		{asJSON, `{"name":"a","labels":["x"],"reboot":{"colour":1}}`, `reboot.colour: there is no such key; there are after, before`},
		{asYAML, "name: a\nlabels: [x]\nreboot: {befor: always}", `reboot.befor: there is no such key; did you mean "before"?`},
		{asYAML, "name: a\nlabels: [x]\nName: b", `Name: there is no such key; did you mean "name"?`},
		{asYAML, "name: a\nlabels: [x]\nname: b", `"name" is there twice`},
		{asJSON, `{"name":"a","labels":["x"],"name":"b"}`, `"name" is there twice`},
		{asJSON, `{"name":"a","labels":["x"]} {}`, "something follows"},
		{asYAML, "name: a\nlabels: [x]\n---\nname: b", "more than one YAML document"},
		{asJSON, ``, "ends too early"},
		{asJSON, `{"name":"a"`, "ends too early"},
		{asJSON, `{"name":`, "ends too early"},
		{asJSON, `{"name":"a","labels":["x"`, "ends too early"},
		{asJSON, `{"name":"a`, "ends too early"},
		{asJSON, `[]`, "expected object"},
		{asJSON, `null`, "expected object"},
		{asYAML, ``, "empty"},
		{asYAML, "name: [", "no YAML"},
		{asYAML, "name: !!binary aGk=\nlabels: [x]", "!!binary"},
		{asYAML, "a: &a {b: 1}\n<<: *a", "<<"},
		{asYAML, "name: 5\nlabels: [x]", "name: expected string"},
		{asYAML, "name: a\nlabels: x", "labels: expected array"},
		{asJSON, `{"labels":["x"]}`, "expected required property name"},
		{asJSON, `{"name":"","labels":["x"]}`, "name: expected length >= 1"},
		{asJSON, `{"name":"a"}`, "say which hosts"},
		{asJSON, `{"name":"a","hosts":["h"],"count":1}`, "count: each of the hosts"},
		{asJSON, `{"name":"a","labels":["x"],"count":0}`, "count: expected number >= 1"},
		{asJSON, `{"name":"a","labels":["x"],"count":-1}`, "count: expected number >= 1"},
		{asJSON, `{"name":"a","labels":["x"],"count":1e300}`, "count: expected number <= 10000"},
		{asJSON, `{"name":"a","labels":["x"],"count":1.5}`, "count: expected integer"},
		{asYAML, "name: a\nlabels: [x]\ncount: 99999999999999999999", "count"},
		{asYAML, "name: a\nlabels: [x]\ncount: .inf", "cannot be used as a number"},
		{asJSON, `{"name":"a","labels":["x","b\u0007c"]}`, `labels[1]: "b\ac" has a character that cannot be shown`},
		{asJSON, `{"name":"a","labels":["x\u202ey"]}`, "cannot be shown"},
		{asJSON, `{"name":"a","labels":["\ud800"]}`, "cannot be shown"},
		{asJSON, "{\"name\":\"a\",\"labels\":[\"\xff\"]}", "not valid UTF-8"},
		{asJSON, `{"name":"a","labels":[" x"]}`, "begins or ends with a blank"},
		{asJSON, `{"name":"a","labels":[""]}`, "must not be empty"},
		{asJSON, `{"name":"a","labels":["` + strings.Repeat("é", 256) + `"]}`, "more than 255 characters"},
		{asJSON, `{"name":"a","labels":["x"],"timeout":"soon"}`, `timeout: "soon" is no duration`},
		{asJSON, `{"name":"a","labels":["x"],"timeout":"-1h"}`, "not between"},
		{asJSON, `{"name":"a","labels":["x"],"max_runtime":"0s"}`, "max_runtime: 0s is not between"},
		{asJSON, `{"name":"a","labels":["x"],"max_runtime":"9999d"}`, "not between"},
		{asJSON, `{"name":"a","labels":["x"],"notify":"a@b\r\nBcc: c@d"}`, "notify"},
		{asJSON, `{"name":"a","labels":["x"],"script":"` + strings.Repeat("é", 40_000) + `"}`, "script: it has 80000 bytes"},
		{asJSON, `{"name":"a","labels":["x"],"script":"a\u0000b"}`, "zero bytes"},
		{asJSON, `{"name":"a","labels":["x"],"keyvals":{"` + strings.Repeat("k", 91) + `":"v"}}`, "more than 90 characters"},
		{asJSON, `{"name":"a","labels":["x"],"keyvals":{"suite_min_duts":"7"}}`, "belongs to a suite"},
		{asJSON, `{"name":"a","labels":["x"],"keyvals":{"k":["v"]}}`, "expected string"},
		{asJSON, `{"name":"a","labels":["x"],"suite":99999999999}`, "no id of a suite"},
		{asJSON, `{"name":"a","labels":["x"],"priority":3000000000}`, "priority"},
		{asJSON, `{"name":"a","labels":["x"],"output_timeout":"soon"}`, "output_timeout"},
		{asJSON, `{"name":"a","labels":["x"],"env":{"A B":"1"}}`, "env.A B: a variable has"},
		{asJSON, `{"name":"a","labels":["x"],"env":{"HOSTSCHED_RUN":"1"}}`, "come from hostsched"},
		{asJSON, `{"name":"a","labels":["x"],"env":{"A":"a\u0000b"}}`, "zero bytes"},
		{asJSON, `{"name":"a","labels":["x"],"env":{"A":"` + strings.Repeat("é", 40_000) + `"}}`, "80001 bytes"},
		{asJSON, `{"name":"a","labels":["x"],"secrets":{"A":"12345"}}`, "at least 6 bytes"},
		{asJSON, `{"name":"a","labels":["x"],"env":{"A":"1"},"secrets":{"A":"123456"}}`, "in env, too"},
		{asJSON, `{"name":"a","labels":["x"],"artifacts":["../x"]}`, "out of the run's folder"},
		{asJSON, `{"name":"a","labels":["x"],"artifacts":["/etc/passwd"]}`, "out of the run's folder"},
		{asJSON, `{"name":"a","labels":["x"],"artifacts":["[x"]}`, "no pattern"},
		{asJSON, `{"name":"a","labels":["x"],"results":"xml"}`, "results"},
		{asJSON, `{"name":"a","labels":["x"],"retry":{"infra":2}}`, "retry.infra"},
		{asJSON, `{"name":"a","labels":["x"],"own":"me"}`, "own"},
		{asJSON, `{"name":"a","labels":["x"],"own":"reserve"}`, "max_runtime: say for how long"},
		{asJSON, `{"name":"a","labels":["x"],"own":"run","script":"true"}`, "script: no agent"},
		{asJSON, `{"name":"a","labels":["x"],"own":"run","count":3,"synch":2}`, "synch: all hosts"},
		{asJSON, `{"name":"a","labels":["x"],"own":"run","retry":{"infra":1}}`, "retry: whoever"},
		{asJSON, `{"name":"a","labels":["x"],"cleanup":true,"reset":true}`, "cleanup: a reset cleans the host, too"},
		{asJSON, `{"name":"a","labels":["x"],"cleanup":false,"reboot":{"before":"always"}}`, "cleanup: reboot.before says the same"},
		{asJSON, `{"name":"a","labels":["x"],"result_files":["*.xml"]}`, "results: say the form"},
		{asJSON, `{"name":"a","labels":["x"],"results":"tap","result_files":["../x"]}`, "result_files[0]:"},
		{asJSON, `{"name":"a","labels":["x"],"artifacts":["a["]}`, "is no pattern of files"},
		{asJSON, strings.Repeat("[", 100_000), "nested too deeply"},
		{asYAML, strings.Repeat("[", 5000), "no YAML"},
	} {
		_, err := jobspec.ReadJob(c.kind, []byte(c.text))
		require.ErrorIs(t, err, jobspec.ErrSpec, c.text)
		require.ErrorContains(t, err, c.says, c.text)
		require.NotContains(t, err.Error(), "\n")
		require.Less(t, len(err.Error()), 1000)
	}
	_, err := jobspec.ReadJob("text/html", nil)
	require.ErrorIs(t, err, jobspec.ErrMediaType)
}

// TestAliases: an alias repeats what it stands for, and cannot fill the memory.
func TestAliases(t *testing.T) {
	s, err := jobspec.ReadSuite(asYAML, []byte("name: s\nminimum: 2\njobs:\n- {name: a, labels: &l [x, y]}\n- {name: b, labels: *l}\n"))
	require.NoError(t, err)
	require.Equal(t, s.Jobs[0].Labels, s.Jobs[1].Labels)

	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		n := string(rune('0' + i))
		m := string(rune('1' + i))
		bomb += "a" + m + ": &a" + m + " [" + strings.TrimSuffix(strings.Repeat("*a"+n+",", 10), ",") + "]\n"
	}
	_, err = jobspec.ReadJob(asYAML, []byte(bomb))
	require.ErrorContains(t, err, "too many values")
	_, err = jobspec.ReadJob(asYAML, []byte("labels: &a [*a]"))
	require.ErrorIs(t, err, jobspec.ErrSpec)
}

func TestSuite(t *testing.T) {
	_, err := jobspec.ReadSuite(asJSON, []byte(`{"name":"s","jobs":[{"name":"a","labels":["x"]},{"name":"b","labels":["x"],"lable":1}]}`))
	require.ErrorContains(t, err, `jobs[1].lable: there is no such key; did you mean "labels"?`)
	_, err = jobspec.ReadSuite(asJSON, []byte(`{"name":"s","jobs":[{"name":"a","labels":["x"],"suite":7}]}`))
	require.ErrorContains(t, err, "jobs[0].suite: the jobs of a new suite belong to it")
	_, err = jobspec.ReadSuite(asJSON, []byte(`{"name":"s","minimum":-1}`))
	require.ErrorContains(t, err, "minimum")
}

func TestMinutes(t *testing.T) {
	for text, want := range map[string]int{"": 7, "1s": 1, "90m": 90, "90m1s": 91, "24h": 1440, "2d": 2880} {
		got, err := jobspec.Minutes(text, 7)
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
}

func TestHostsThatRunTogether(t *testing.T) {
	for text, want := range map[string]int{
		`{"name":"a","labels":["x"]}`:                                       1,
		`{"name":"a","labels":["x"],"count":4,"synch":2}`:                   2,
		`{"name":"a","labels":["x"],"count":4}`:                             1,
		`{"name":"a","labels":["x"],"count":4,"own":"run"}`:                 4,
		`{"name":"a","hosts":["h","i"],"own":"reserve","max_runtime":"2h"}`: 2,
	} {
		job, err := jobspec.ReadJob(asJSON, []byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, jobspec.Synch(&job), text)
	}
}

// TestSchemaIsKept: the schema in the documentation is the one that is served.
func TestSchemaIsKept(t *testing.T) {
	served, err := jobspec.Schema()
	require.NoError(t, err)
	kept, err := os.ReadFile("../../docs/job-spec.schema.json")
	require.NoError(t, err)
	require.JSONEq(t, string(kept), string(served), "run 'go generate ./internal/api', and read the difference")
}

func FuzzJobSpec(f *testing.F) {
	for _, text := range []string{`{"name":"a","labels":["x"],"keyvals":{"a":1}}`, "name: a\nlabels: &l [x]\nhosts: *l\nkeyvals: {v: 1.10}\n", "a: &a [*a]", "? [a]\n: b", "{\"a\":[[[[", "\xff"} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, yaml bool) {
		kind := asJSON
		if yaml {
			kind = asYAML
		}
		job, err := jobspec.ReadJob(kind, []byte(text))
		if err != nil {
			require.ErrorIs(t, err, jobspec.ErrSpec)
			require.NotContains(t, err.Error(), "\n")
			require.Less(t, len(err.Error()), 2000)
			return
		}
		require.NoError(t, jobspec.CheckJob(&job))
		require.Positive(t, jobspec.Entries(&job))
	})
}

// TestCleaned: cleanup takes the place of a reset, and leaves what comes after the job.
func TestCleaned(t *testing.T) {
	yes, no := true, false
	reboot := &labapi.RebootSpec{After: "always"}
	job := jobspec.Cleaned(labapi.JobSpec{Cleanup: &yes, Reboot: reboot})
	require.Equal(t, labapi.RebootSpec{Before: "always", After: "always"}, *job.Reboot)
	require.False(t, *job.Reset)
	job = jobspec.Cleaned(labapi.JobSpec{Cleanup: &no, Reset: &yes})
	require.Equal(t, labapi.RebootSpec{Before: "never"}, *job.Reboot)
	require.True(t, *job.Reset)
	require.Equal(t, labapi.JobSpec{Reboot: reboot}, jobspec.Cleaned(labapi.JobSpec{Reboot: reboot}))
	require.Equal(t, labapi.RebootSpec{After: "always"}, *reboot)
}
