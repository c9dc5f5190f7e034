package agent

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runfiles"
	"github.com/hostsched/hostsched/internal/runlog"
	"github.com/hostsched/hostsched/internal/shim"
	"github.com/hostsched/hostsched/internal/testresults"
)

// jobResult is what a job may write into result.json in its folder, to say more than its exit
// code does.
type jobResult struct {
	TestsFailed int    `json:"tests_failed"`
	Text        string `json:"text"`
}

// maxJobResult is more than that needs.
const maxJobResult = 64 << 10

// readJobResult reads nothing outside of the job's folder, whatever links the job made.
func readJobResult(work string) (out jobResult) {
	root, err := os.OpenRoot(work)
	if err != nil {
		return out
	}
	defer root.Close() //nolint:errcheck // nothing was written
	info, err := root.Stat("result.json")
	if err != nil || !info.Mode().IsRegular() {
		return out
	}
	file, err := root.Open("result.json")
	if err != nil {
		return out
	}
	defer file.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(file, maxJobResult))
	if err != nil || json.Unmarshal(text, &out) != nil || out.TestsFailed < 0 {
		return jobResult{}
	}
	return out
}

// finishOf is how a run ended whose shim wrote a result.
func (r *run) finishOf(result shim.Result) labapi.RunFinish {
	in := labapi.RunFinish{
		ExitCode: result.ExitCode, Signal: result.Signal, StopReason: result.StopReason, NotRunReason: result.NotRunReason,
		Detail: cut(result.Detail), Streams: result.Streams, Result: r.resultOf(result),
	}
	if result.NotRunReason == "" {
		said := readJobResult(r.folder.Work())
		in.TestsFailed = said.TestsFailed
		if in.Detail == "" {
			in.Detail = cut(said.Text)
		}
	}
	return in
}

// collect takes up what a job left in its folder, when nothing of it lives any more.
func (r *run) collect(ctx context.Context) *runfiles.Found {
	m := r.rec.Claimed.Manifest
	if m.Kind != kindJob || r.rec.Done != nil || r.finish.NotRunReason != "" {
		return &runfiles.Found{}
	}
	secrets := r.agent.cfg.secretsOf(m)
	found := runfiles.Collect(ctx, r.folder.Work(), runfiles.Wanted{
		Artifacts: m.Artifacts, Results: m.Results, ResultFiles: m.ResultFiles, Output: r.folder.Stream(runlog.Streams[0]),
		Mask: func(text string) string { return runlog.Masked(secrets, text) }, Owner: r.agent.cfg.owner(),
	})
	r.finish.Tests = found.Tests
	r.finish.TestsFailed = max(r.finish.TestsFailed, testresults.Failed(found.Tests))
	return found
}

// owner is the user whose files are those of runs.
func (c *Config) owner() uint32 {
	if c.runAs != nil {
		return c.runAs.UID
	}
	return uint32(os.Getuid())
}

// sendFiles sends the files that the run leaves, and tells whether the servers have all that
// they take.
func (r *run) sendFiles(ctx context.Context, found *runfiles.Found) bool {
	err := found.Send(ctx, func(ctx context.Context, file agentclient.Artifact, offset int64, data []byte) (int64, error) {
		sent := command.Now()
		end, err := r.calls.PutArtifact(ctx, file, offset, data)
		r.hear(sent, end.RunAnswer, err)
		return end.End, err
	})
	r.mu.Lock()
	r.spooled = found.Left()
	r.mu.Unlock()
	return err == nil
}

// detailed adds what could not be kept to what is said of the end of a run.
func detailed(in labapi.RunFinish, found *runfiles.Found) labapi.RunFinish {
	parts := slices.DeleteFunc([]string{in.Detail, found.Detail()}, func(s string) bool { return s == "" })
	in.Detail = cut(strings.Join(parts, "; "))
	return in
}

func (r *run) resultOf(result shim.Result) string {
	passed := result.ExitCode != nil && *result.ExitCode == 0
	switch {
	case result.NotRunReason != "" && !r.ownScript():
		return labapi.ResultInfra // the lab's command, or its machine
	case result.StopReason == shim.StopLease, result.StopReason == shim.StopAgent:
		return labapi.ResultInfra // the lab has ended it
	case result.NotRunReason != "" || result.Signal != nil || result.StopReason != "" || result.ExitCode == nil:
		return labapi.ResultFailed
	case result.Step == taskFence && !passed:
		return labapi.ResultUnusable // nobody knows what runs on the host
	}
	return labapi.ResultOf(*result.ExitCode)
}

// ownScript tells whether what runs is the job's, and not a command of the lab.
func (r *run) ownScript() bool {
	d, err := r.agent.cfg.driverOf(r.rec.Claimed.Hosts)
	return err == nil && r.rec.Claimed.Manifest.Kind == kindJob && d.Kind == driverExec && len(d.Command) == 0
}
