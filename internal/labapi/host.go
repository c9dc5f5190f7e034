package labapi

import "time"

// Host is a device under test.
type Host struct {
	ID       int64  `json:"id" doc:"Id of the row in afe_hosts."`
	Hostname string `json:"hostname"`
	// Status is the runner's: Ready, Running, Repairing and so on.
	Status     string            `json:"status"`
	Shard      string            `json:"shard" doc:"The shard that assigns the host."`
	Labels     []string          `json:"labels"`
	ACLGroups  []string          `json:"acl_groups" doc:"Whose members may use the host."`
	Protection string            `json:"protection,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Leased     bool              `json:"leased" doc:"Assigned to somebody."`
	Locked     bool              `json:"locked"`
	Lock       *Lock             `json:"lock,omitempty"`
	Drain      *Drain            `json:"drain,omitempty"`
	// Entry is the active queue entry of the host, if there is one.
	Entry *HostEntry `json:"entry,omitempty"`
}

// Lock is a hold under which nobody gets the host, and its tasks wait, too.
type Lock struct {
	Reason string     `json:"reason"`
	By     string     `json:"by"`
	Since  *time.Time `json:"since,omitempty"`
	Until  *time.Time `json:"until,omitempty" doc:"When the leader ends the lock; without it a person does."`
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
