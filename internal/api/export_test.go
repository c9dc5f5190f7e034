package api

import (
	"time"

	"github.com/hostsched/hostsched/internal/access"
)

// Rules are those of all routes, by method and path.
func (a *API) Rules() map[string]access.Rule { return a.rules }

// SetPatience says how long clients of long answers may read nothing.
func (a *API) SetPatience(d time.Duration) { a.streamPatience, a.downloadPatience = d, d }
