package runs

import (
	"maps"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
)

// fillSpec adds what only the spec of a job says.
func fillSpec(m *labapi.Manifest, spec *labapi.JobSpec) error {
	m.Env = maps.Clone(spec.Env)
	if len(spec.Secrets) > 0 && m.Env == nil {
		m.Env = map[string]string{}
	}
	maps.Copy(m.Env, spec.Secrets)
	m.Secrets = slices.Sorted(maps.Keys(spec.Secrets))
	m.Artifacts, m.Results = spec.Artifacts, spec.Results
	quiet, err := jobspec.Minutes(spec.OutputTimeout, 0)
	m.OutputMillis = (time.Duration(quiet) * time.Minute).Milliseconds()
	return err
}
