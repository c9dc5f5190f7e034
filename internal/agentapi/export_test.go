package agentapi

// LongestSilence is how long an agent that calls as it is told may seem silent.
const LongestSilence = longestInterval + 2*seenEvery

// Choose and NextMillis are what the tests look at by itself.
var (
	Choose     = choose
	NextMillis = nextMillis
)

// Rules are those of all routes, by method and path.
func (a *API) Rules() map[string]Rule { return a.rules }
