package jobspec

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/hostsched/hostsched/internal/labapi"
)

// Bounds of what a run is given.
const (
	maxEnv      = 64 << 10 // bytes of all variables together
	maxArtifact = 255
	// minSecret keeps logs readable: a secret of a few characters would mask what has
	// nothing to do with it.
	minSecret = 6
)

// variable is the name of a variable of the environment as shells have it.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ReservedEnv begins the names of variables that a run gets from hostsched.
const ReservedEnv = "HOSTSCHED_"

// checkRun checks what the process of a job is given and what is kept of it.
func checkRun(at string, job *labapi.JobSpec, f *faults) {
	size := checkEnv(at+"env.", job.Env, 0, f) + checkEnv(at+"secrets.", job.Secrets, minSecret, f)
	if size > maxEnv {
		f.add(at+"env", "the variables have %d bytes together with the secrets; at most %d are possible", size, maxEnv)
	}
	for _, name := range slices.Sorted(maps.Keys(job.Secrets)) {
		if _, twice := job.Env[name]; twice {
			f.add(at+"secrets."+shown(name), "it is in env, too; leave one out")
		}
	}
	for i, pattern := range job.Artifacts {
		checkArtifact(at+"artifacts["+strconv.Itoa(i)+"]", pattern, f)
	}
	for i, pattern := range job.ResultFiles {
		checkArtifact(at+"result_files["+strconv.Itoa(i)+"]", pattern, f)
	}
	if len(job.ResultFiles) > 0 && job.Results == "" {
		f.add(at+"results", "say the form of the result_files: junit or tap")
	}
	if job.Results != "" && job.Results != "junit" && job.Results != "tap" {
		f.add(at+"results", "%q is neither junit nor tap", cut(job.Results))
	}
	if job.Retry != nil && (job.Retry.Infra < 0 || job.Retry.Infra > 1) {
		f.add(at+"retry.infra", "it must be 0 or 1")
	}
}

// checkEnv checks variables and returns how many bytes they have. Their values are repeated
// nowhere.
func checkEnv(at string, env map[string]string, shortest int, f *faults) (size int) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value := env[name]
		size += len(name) + len(value)
		where := at + shown(name)
		switch {
		case !variable.MatchString(name):
			f.add(where, "a variable has letters, digits and underlines, and begins with no digit")
		case strings.HasPrefix(name, ReservedEnv):
			f.add(where, "variables that begin with %s come from hostsched; choose another name", ReservedEnv)
		case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
			f.add(where, "it must be valid UTF-8 without zero bytes")
		case len(value) < shortest:
			f.add(where, "a secret has at least %d bytes, because it is masked wherever a log has it", shortest)
		}
	}
	return size
}

func checkArtifact(at, pattern string, f *faults) {
	checkLine(at, pattern, maxArtifact, f)
	if !doublestar.ValidatePattern(pattern) {
		f.add(at, "%q is no pattern of files; * ? and [a-z] stand for characters, ** for folders", cut(pattern))
	}
	if path.IsAbs(pattern) || slices.Contains(strings.Split(pattern, "/"), "..") {
		f.add(at, "%q leads out of the run's folder", cut(pattern))
	}
}

// checkOwn checks a job that whoever submits it runs himself.
func checkOwn(at string, job *labapi.JobSpec, f *faults) {
	switch job.Own {
	case "":
		return
	case labapi.OwnRun:
	case labapi.OwnReserve:
		checkReserve(at, job, f)
	default:
		f.add(at+"own", "%q is neither run nor reserve", cut(job.Own))
	}
	if job.Script != "" {
		f.add(at+"script", "no agent runs a job of one's own; leave it out")
	}
	if job.Synch != 0 && job.Synch != Entries(job) {
		f.add(at+"synch", "all hosts of a job of one's own are used together; leave it out")
	}
	if job.Retry != nil {
		f.add(at+"retry", "whoever runs a job himself tries again himself; leave it out")
	}
}

func checkReserve(at string, job *labapi.JobSpec, f *faults) {
	minutes, err := Minutes(job.MaxRuntime, 0)
	switch {
	case job.MaxRuntime == "":
		f.add(at+"max_runtime", "say for how long the hosts are reserved, like 2h")
	case err == nil && minutes > int(LongestReserve.Minutes()):
		f.add(at+"max_runtime", "hosts are reserved for at most %v; extend it later", LongestReserve)
	}
}
