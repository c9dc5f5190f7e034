package labapi

import "time"

// Host is a device under test.
type Host struct {
	ID       int64  `json:"id" doc:"Id of the row in afe_hosts."`
	Hostname string `json:"hostname"`
	// Status is the runner's: Ready, Running, Repairing and so on.
	Status string   `json:"status"`
	Shard  string   `json:"shard" doc:"The shard that assigns the host."`
	Labels []string `json:"labels"`
	// StaticLabels are those of Labels that the lab's inventory keeps.
	StaticLabels []string          `json:"static_labels,omitempty" doc:"Those labels that the lab's inventory keeps; nobody changes them here."`
	ACLGroups    []string          `json:"acl_groups" doc:"Whose members may use the host."`
	Protection   string            `json:"protection,omitempty"`
	Attributes   map[string]string `json:"attributes,omitempty"`
	Leased       bool              `json:"leased" doc:"Assigned to somebody."`
	Locked       bool              `json:"locked"`
	Lock         *Lock             `json:"lock,omitempty"`
	Drain        *Drain            `json:"drain,omitempty"`
	Bad          *Bad              `json:"bad,omitempty"`
	// Entry is the active queue entry of the host, if there is one.
	Entry *HostEntry `json:"entry,omitempty"`
	// Reservation is set while that entry is of a person who reserved the host.
	Reservation *Reservation `json:"reservation,omitempty"`
}

// Lock is a hold under which nobody gets the host, and its tasks wait, too.
type Lock struct {
	Reason string     `json:"reason"`
	By     string     `json:"by"`
	Since  *time.Time `json:"since,omitempty"`
	Until  *time.Time `json:"until,omitempty" doc:"When the leader ends the lock; without it a person does."`
}

// Bad is a hold of the lab's own: the host failed again and again. Nobody new gets it until a
// person unlocks it.
type Bad struct {
	Reason string     `json:"reason"`
	Since  *time.Time `json:"since,omitempty"`
}

// Drain is a hold under which nobody new gets the host; what runs may finish, and then
// the host is locked.
type Drain struct {
	Reason   string     `json:"reason"`
	By       string     `json:"by"`
	Since    *time.Time `json:"since,omitempty"`
	Deadline *time.Time `json:"deadline,omitempty"`
	Abort    bool       `json:"abort,omitempty" doc:"Abort what still runs at the deadline."`
}

// Reservation is a host that a person has, until its end at the latest.
type Reservation struct {
	Reason string     `json:"reason"`
	By     string     `json:"by"`
	Until  *time.Time `json:"until,omitempty" doc:"When the host is taken back; its owner may end or extend the reservation before."`
}

// HostEntry is the queue entry that uses a host.
type HostEntry struct {
	ID  int64 `json:"id"`
	Job int64 `json:"job"`
}

// HostInput is a new host.
type HostInput struct {
	Hostname   string            `json:"hostname" minLength:"1" maxLength:"255"`
	Labels     []string          `json:"labels,omitempty" maxItems:"1000"`
	ACLGroups  []string          `json:"acl_groups,omitempty" maxItems:"1000" doc:"Everyone if left out."`
	Protection string            `json:"protection,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Locked     bool              `json:"locked,omitempty" doc:"Enter the host under a lock."`
	LockReason string            `json:"lock_reason,omitempty" maxLength:"500"`
}

// HostPatch changes what it names of a host.
type HostPatch struct {
	Labels       *[]string         `json:"labels,omitempty" doc:"All labels from now on."`
	AddLabels    []string          `json:"add_labels,omitempty"`
	RemoveLabels []string          `json:"remove_labels,omitempty"`
	ACLGroups    *[]string         `json:"acl_groups,omitempty" doc:"All ACL groups from now on."`
	Protection   *string           `json:"protection,omitempty"`
	Attributes   map[string]string `json:"attributes,omitempty" doc:"An empty value removes the attribute."`
}

// LockInput is the body of PUT /hosts/{hostname}/lock. Without until the lock lasts
// until a person ends it.
type LockInput struct {
	Reason string     `json:"reason" minLength:"1" maxLength:"500"`
	Until  *time.Time `json:"until,omitempty"`
}

// DrainInput is the body of PUT /hosts/{hostname}/drain.
type DrainInput struct {
	Reason   string     `json:"reason" minLength:"1" maxLength:"500"`
	Deadline *time.Time `json:"deadline,omitempty"`
	Abort    bool       `json:"abort,omitempty"`
}

// The actions of HoldsInput.
const (
	ActionLock    = "lock"
	ActionUnlock  = "unlock"
	ActionDrain   = "drain"
	ActionUndrain = "undrain"
)

// HoldsInput locks, unlocks, drains or undrains many hosts.
type HoldsInput struct {
	Action       string     `json:"action" enum:"lock,unlock,drain,undrain"`
	Hosts        []string   `json:"hosts,omitempty" maxItems:"10000"`
	AllWithLabel string     `json:"all_with_label,omitempty" maxLength:"255" doc:"These hosts, instead of named ones."`
	Selector     string     `json:"selector,omitempty" maxLength:"2000" doc:"Hosts whose labels fit, instead of named ones, like board=eve,!broken."`
	Reason       string     `json:"reason,omitempty" maxLength:"500" doc:"Needed to lock and to drain."`
	Until        *time.Time `json:"until,omitempty" doc:"When a lock ends."`
	Deadline     *time.Time `json:"deadline,omitempty" doc:"When a drain aborts what still runs, with abort."`
	Abort        bool       `json:"abort,omitempty"`
	Steal        bool       `json:"steal,omitempty" doc:"Take the place of another person's hold."`
}

// HoldResult is what became of one host.
type HoldResult struct {
	Hostname string `json:"hostname"`
	Done     bool   `json:"done"`
	Changed  bool   `json:"changed" doc:"False if there was nothing to do."`
	// Entry is what uses a host that was locked.
	Entry *HostEntry `json:"entry,omitempty" doc:"What uses the host: while it is locked its tasks wait, and its job may never begin."`
	// Type and Detail are those of a problem, if it was not done.
	Type   string `json:"type,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Holds are the results of HoldsInput, one for each host.
type Holds struct {
	Results []HoldResult `json:"results"`
}

// HostsInput are the hosts that a lab should have.
type HostsInput struct {
	Hosts []HostInput `json:"hosts" minItems:"1" maxItems:"20000"`
}

// HostsDifference is how the wanted hosts differ from those that there are, and what was
// done about it unless it was only asked for.
type HostsDifference struct {
	DryRun    bool          `json:"dry_run"`
	Added     []string      `json:"added"`
	Changed   []HostEdit    `json:"changed"`
	Removed   []string      `json:"removed"`
	Unchanged int           `json:"unchanged"`
	Refused   []HostRefused `json:"refused"`
}

// HostEdit is a host with what changes of it.
type HostEdit struct {
	Hostname string   `json:"hostname"`
	Changes  []string `json:"changes"`
}

// HostRefused is a host with which nothing was done, and why.
type HostRefused struct {
	Hostname string `json:"hostname"`
	Detail   string `json:"detail"`
}

// HostExplanation says who may use a host, why nobody has it, and who waits for it.
type HostExplanation struct {
	Hostname string `json:"hostname"`
	Text     string `json:"text" doc:"One line for people."`
	// Given tells whether the planner may give the host to somebody now.
	Given   bool     `json:"given" doc:"The planner may give the host to an entry now."`
	Reasons []string `json:"reasons,omitempty" doc:"Why not."`
	Users   []string `json:"users" doc:"Who may use it; the first hundred."`
	// Waiting are entries that could use the host, in the order of the queue.
	Waiting []WaitingFor `json:"waiting" doc:"Entries that could use it, the first hundred in the order of the queue."`
}

// WaitingFor is a queue entry that could use a host.
type WaitingFor struct {
	Entry    int64  `json:"entry"`
	Job      int64  `json:"job"`
	Owner    string `json:"owner"`
	Priority int64  `json:"priority"`
}

// Pool is a label with the hosts that carry it.
type Pool struct {
	Label   string `json:"label"`
	Have    int    `json:"have" doc:"Hosts that carry the label."`
	Idle    int    `json:"idle"`
	Running int    `json:"running"`
	Held    int    `json:"held" doc:"Locked or draining."`
	Broken  int    `json:"broken" doc:"Repair Failed or in repair."`
	Waiting int    `json:"waiting" doc:"Queue entries that ask for the label and wait."`
	// OldestWait is in seconds.
	OldestWait float64 `json:"oldest_wait" doc:"Seconds that the oldest of them has waited."`
}
