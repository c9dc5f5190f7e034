package labapi

import "time"

// Summary is a lab in a few numbers.
type Summary struct {
	// Hosts counts hosts by state: each is held, broken, running or idle, the first that fits.
	Hosts map[string]int `json:"hosts" doc:"Hosts by state: held, broken, running, idle."`
	// Waiting counts queue entries that wait for a host, and OldestWait is in seconds.
	Waiting    int     `json:"waiting"`
	OldestWait float64 `json:"oldest_wait" doc:"Seconds that the oldest of them has waited."`
	// Active counts queue entries that have a host.
	Active int `json:"active"`
}

// HostStatuses are all that a host can have as its status.
var HostStatuses = []string{"Ready", "Pending", "Running", "Verifying", "Cleaning", "Resetting", "Provisioning", "Repairing", "Repair Failed"}

// States of hosts, as pools and summaries tell them apart.
const (
	HostHeld    = "held"
	HostBroken  = "broken"
	HostRunning = "running"
	HostIdle    = "idle"
)

// State is the first that fits of held, broken, running and idle.
func (h *Host) State() string {
	switch {
	case h.Locked || h.Drain != nil || h.Bad != nil:
		return HostHeld
	case h.Status == "Repair Failed" || h.Status == "Repairing":
		return HostBroken
	case h.Leased:
		return HostRunning
	}
	return HostIdle
}

// Attention is something about which somebody should do something.
type Attention struct {
	Kind string `json:"kind" enum:"host-bad,host-broken,hold-overdue,agent-unreachable,job-never-runs,no-leader,fence-refused,not-reached,warning"`
	Text string `json:"text" doc:"One sentence for people."`
	// What it is about.
	Host   string     `json:"host,omitempty"`
	Job    int64      `json:"job,omitempty"`
	Agent  string     `json:"agent,omitempty"`
	Shard  string     `json:"shard,omitempty"`
	Server string     `json:"server,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
}

// Kinds of Attention.
const (
	AttentionBad         = "host-bad"
	AttentionBroken      = "host-broken"
	AttentionOverdue     = "hold-overdue"
	AttentionUnreachable = "agent-unreachable"
	AttentionNever       = "job-never-runs"
	AttentionNoLeader    = "no-leader"
	AttentionFence       = "fence-refused"
	AttentionNotReached  = "not-reached"
	AttentionWarning     = "warning"
)

// HostHealth is what became of the work that a host did lately.
type HostHealth struct {
	Hostname string    `json:"hostname"`
	From     time.Time `json:"from" doc:"Since when it is counted, a full hour."`
	To       time.Time `json:"to"`
	// Hours are those in which something happened to the host.
	Hours []HealthHour `json:"hours" doc:"Hours in which the host was not idle, the oldest first."`
	HealthCounts
	// Repairs are repair tasks, and Lost runs whose agent was not heard of any more.
	Repairs int `json:"repairs"`
	Lost    int `json:"lost"`
	// Peers are the other hosts, by each label that the host carries.
	Peers []HealthPeers `json:"peers" doc:"The other hosts with each of its labels."`
}

// HealthHour is an hour of a host. Of several things that happened in it, the first of the
// list counts.
type HealthHour struct {
	At    time.Time `json:"at"`
	State string    `json:"state" enum:"broken,failed,held,passed,task"`
}

// States of an hour, the gravest first.
const (
	HourBroken = "broken"
	HourFailed = "failed"
	HourHeld   = "held"
	HourPassed = "passed"
	HourTask   = "task"
)

// HealthCounts are queue entries that ran and ended, those that were aborted left out.
type HealthCounts struct {
	Finished int `json:"finished"`
	Failed   int `json:"failed"`
}

// HealthPeers are the other hosts with a label.
type HealthPeers struct {
	Label string `json:"label"`
	Hosts int    `json:"hosts" doc:"Other hosts with the label on which something ended."`
	HealthCounts
}
