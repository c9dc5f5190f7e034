package labapi

// RequestGroup are waiting queue entries that ask for the same and wait for the same reason.
type RequestGroup struct {
	Shard string `json:"shard"`
	// Labels are what a host must carry, and Host is set instead if a host is named.
	Labels []string `json:"labels"`
	Host   string   `json:"host,omitempty"`
	// Priority is that of the entries, and Owner whose they are if they are one person's.
	Priority int64  `json:"priority"`
	Owner    string `json:"owner,omitempty" doc:"Whose entries they are, if all are one person's."`
	Entries  int    `json:"entries"`
	// OldestWait is in seconds.
	OldestWait int64 `json:"oldest_wait" doc:"Seconds that the oldest has waited."`
	// Jobs are those of the first entries, in the order of the queue.
	Jobs []int64 `json:"jobs" doc:"Jobs of the first entries, in the order of the queue."`
	// Code names the reason for programs, Reason is the planner's sentence about the first
	// entry, and Never means that waiting alone does not help.
	Code   string `json:"code"`
	Reason string `json:"reason"`
	Never  bool   `json:"never"`
	QueueNumbers
}

// QueueNumbers are what became of the hosts that the first entry of a group could use.
type QueueNumbers struct {
	Matching int `json:"matching" doc:"Hosts that carry all labels."`
	Eligible int `json:"eligible" doc:"Those of them that the owner may use."`
	Leased   int `json:"leased"`
	Locked   int `json:"locked"`
	Draining int `json:"draining"`
	Away     int `json:"away" doc:"Those whose agent takes nothing new."`
	Given    int `json:"given" doc:"Given to others in the next tick."`
	Ahead    int `json:"ahead" doc:"Entries of other requests that are served before the first one."`
	Minimum  int `json:"minimum,omitempty" doc:"What the suite of the first one is guaranteed."`
	Held     int `json:"held,omitempty" doc:"What that suite holds."`
}
