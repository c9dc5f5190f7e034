package agentapi

// Choose and NextMillis are what the tests look at by itself.
var (
	Choose     = choose
	NextMillis = nextMillis
)

// Rules are those of all routes, by method and path.
func (a *API) Rules() map[string]Rule { return a.rules }
