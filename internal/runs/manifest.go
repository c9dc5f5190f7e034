package runs

import (
	"maps"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/traceid"
)

// handOn tells the run which span of the trace of its job it is. What the job says itself stays.
func handOn(m *labapi.Manifest, run int64) {
	parent, ok := traceid.Parse(m.Keyvals[traceid.Keyval])
	if _, own := m.Env[traceid.Variable]; !ok || own {
		return
	}
	if m.Env == nil {
		m.Env = map[string]string{}
	}
	m.Env[traceid.Variable] = parent.Run(run).String()
}

// fillSpec adds what only the spec of a job says.
func fillSpec(m *labapi.Manifest, spec *labapi.JobSpec) error {
	m.Env = maps.Clone(spec.Env)
	if len(spec.Secrets) > 0 && m.Env == nil {
		m.Env = map[string]string{}
	}
	maps.Copy(m.Env, spec.Secrets)
	m.Secrets = slices.Sorted(maps.Keys(spec.Secrets))
	m.Artifacts, m.Results, m.ResultFiles = spec.Artifacts, spec.Results, spec.ResultFiles
	quiet, err := jobspec.Minutes(spec.OutputTimeout, 0)
	m.OutputMillis = (time.Duration(quiet) * time.Minute).Milliseconds()
	return err
}
