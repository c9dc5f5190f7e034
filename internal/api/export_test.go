package api

import "github.com/hostsched/hostsched/internal/access"

// Rules are those of all routes, by method and path.
func (a *API) Rules() map[string]access.Rule { return a.rules }
