package scheduler

// The following are the primary keys of the AFE tables. Zero means none.
type (
	HostID  int64
	LabelID int64
	ACLID   int64
	UserID  int64
	JobID   int64
	EntryID int64
	ShardID int64
)

// NoPriority stands for an afe_jobs.priority that is NULL. It is lower than every real
// priority.
const NoPriority = -1 << 40

// Snapshot is everything that one tick needs to know, as it was at one moment. The order
// of its slices does not change the plan.
type Snapshot struct {
	Rules Rules

	// Now is the database's clock, in seconds since 1970.
	Now int64

	Labels []Label
	// ReplacedLabels are the labels listed in afe_replaced_labels.
	ReplacedLabels []ReplacedLabel

	Hosts []Host
	Users []User
	// Jobs holds at least the job of every entry in Entries.
	Jobs []Job
	// Entries are the pending queue entries of this shard (Autotest
	// JobQueryManager.get_pending_queue_entries). Such an entry has the status Queued and
	// a host or a meta_host, and is neither active nor complete nor aborted.
	Entries []Entry
	// Siblings are those entries of jobs in Jobs which are not in Entries but matter:
	// entries of jobs with SynchCount > 1, and entries that hold a host which cannot
	// be assigned to the job a second time.
	Siblings []Sibling
	// Minimums are the suite_min_duts keyvals of the jobs that are parents.
	Minimums []Minimum
	// TaskHosts are the hosts of frontend tasks, which are special tasks without queue
	// entry that are neither active nor complete.
	TaskHosts []HostID

	// Holds are the drains of hosts, and the ends of their locks.
	Holds []Hold
	// Away are the hosts whose agent takes nothing new. Hosts that no agent serves are not
	// among them.
	Away []Away

	// Contended are the rows that others keep locked. They are not read from the database,
	// but known from writing the last plans.
	Contended Contended

	// Malformed are rows with values that cannot be used. They are not in the lists
	// above; the plan reports them as problems.
	Malformed []Problem

	// Details adds names to the reasons: the suites that hold the hosts, who locked
	// them, the ACL groups that have them. This costs time, so a tick does not ask
	// for it.
	Details bool
	// ACLGroups are needed for details only.
	ACLGroups []ACLGroup
	// Elsewhere are the valid hosts of other shards. They are needed for details only.
	Elsewhere []OtherHost

	// Basis is what the snapshot was read for. MakePlan copies it to the plan.
	Basis Basis

	// Recorder says how many hosts each suite holds. MakePlan only reads it.
	// Nil counts as empty.
	Recorder *Recorder
}

// FirstTried begins the ids of jobs and entries that a snapshot has only to see what would
// become of them. They come after all others, and no reason says them.
const FirstTried = 1 << 40

// Basis says what a plan depends on. Apply refuses a plan whose basis has changed.
type Basis struct {
	// Shard owns the hosts and entries of the snapshot. It is 0 for the master.
	Shard ShardID
	// Shared is true if the database has hosts and entries of other shards too.
	Shared bool
	// Layout counts how often the ownership of labels or hosts of the shard changed.
	Layout int64
	// Paused says why the shard is paused. It is empty if the shard is not paused. The
	// plan of a paused shard is empty.
	Paused string
}

// Rules are the switches that change decisions.
type Rules struct {
	// Policy is how hosts are chosen for entries that may get any host.
	Policy Policy
	// Aging is how many points of priority a job gains for each hour since it was created.
	Aging float64
	// RespectStaticLabels makes a replaced label count only as a static label of the same
	// name (Autotest global_config [SKYLAB] respect_static_labels).
	RespectStaticLabels bool
	// OnShard is true if this scheduler serves a shard and not the master. The master does
	// not assign the host of a shard to an entry that names it.
	OnShard bool
	// Actions are the labels that special tasks act on. The zero value means
	// DefaultActions.
	Actions Actions
}

// Label is a row of afe_labels.
type Label struct {
	ID   LabelID
	Name string
}

// ReplacedLabel is a label that counts only as a static label of the same name. Which names
// are the same is the database's decision.
type ReplacedLabel struct {
	ID LabelID
	// Static is the row of afe_static_labels with the name, and 0 if there is none. The ids
	// of static labels are independent of those of labels.
	Static LabelID
}

// ACLGroup is a row of afe_acl_groups.
type ACLGroup struct {
	ID   ACLID
	Name string
}

// Protection is afe_hosts.protection.
type Protection int8

// DoNotVerify is the protection level of hosts that are neither verified nor reset
// (Autotest host_protections.Protection.DO_NOT_VERIFY).
const DoNotVerify Protection = 4

// The statuses of a host that the scheduler reads or writes.
const (
	HostReady        = "Ready"
	HostPending      = "Pending"
	HostRepairFailed = "Repair Failed"
)

// Host is a device under test.
type Host struct {
	ID       HostID
	Hostname string
	// Ready is true when the status is Ready or NULL, the two statuses in which
	// an unused host is released.
	Ready      bool
	Status     string
	Locked     bool
	LockReason string
	// LockedSince is when the host was locked, by the database's clock. It is empty if
	// unknown.
	LockedSince string
	Invalid     bool
	Leased      bool
	Dirty       bool
	Protection  Protection
	Shard       ShardID
	// Displaced is true if the host belongs to another shard, Home, by its labels. Such a
	// host is not assigned any more, and moves as soon as it is not in use.
	Displaced bool
	Home      ShardID

	Labels []LabelID
	// StaticLabels are ids of afe_static_labels.
	StaticLabels []LabelID
	ACLs         []ACLID

	// ActiveEntry is the active queue entry that has this host, 0 if none has. If several
	// have it, it is one of them.
	ActiveEntry EntryID
	// OpenTask is true while any special task of this host is incomplete.
	OpenTask bool
}

// User owns jobs.
type User struct {
	ID    UserID
	Login string
	ACLs  []ACLID
}

// RebootBefore is afe_jobs.reboot_before.
type RebootBefore int8

// The values of afe_jobs.reboot_before.
const (
	RebootNever RebootBefore = iota
	RebootIfDirty
	RebootAlways
)

// Job is what the scheduler needs of a row of afe_jobs.
type Job struct {
	ID JobID
	// Owner is the text that the job has for its owner, and User the user whose login that
	// is, 0 if it is nobody's. Which texts are the same is the database's decision.
	Owner string
	User  UserID
	// Priority is higher for more urgent jobs. It is NoPriority if NULL.
	Priority int64
	// Parent is the suite job, and 0 if there is none.
	Parent       JobID
	SynchCount   int
	RunVerify    bool
	RunReset     bool
	RebootBefore RebootBefore
	// Created is when the job was created, in seconds since 1970 by the database's
	// clock. It is 0 if unknown.
	Created int64
	// Deps are the labels of afe_jobs_dependency_labels.
	Deps []LabelID
}

// EntryStatus is afe_host_queue_entries.status.
type EntryStatus string

// The statuses the scheduler reads or writes (Autotest
// host_queue_entry_states).
const (
	StatusQueued       EntryStatus = "Queued"
	StatusPending      EntryStatus = "Pending"
	StatusStarting     EntryStatus = "Starting"
	StatusStopped      EntryStatus = "Stopped"
	StatusVerifying    EntryStatus = "Verifying"
	StatusCleaning     EntryStatus = "Cleaning"
	StatusResetting    EntryStatus = "Resetting"
	StatusProvisioning EntryStatus = "Provisioning"
)

// EntryStatuses are all of these.
var EntryStatuses = []EntryStatus{
	StatusQueued, StatusPending, StatusStarting, StatusStopped, StatusVerifying, StatusCleaning, StatusResetting, StatusProvisioning,
}

// notYetRun tells whether an entry in this status may still come to run
// (Autotest PRE_JOB_STATUSES). Cleaning is not among them: a synchronous job that would need
// an entry whose host is cleaned is stopped, as in Autotest.
func (s EntryStatus) notYetRun() bool {
	switch s {
	case StatusQueued, StatusPending, StatusVerifying, StatusResetting, StatusProvisioning:
		return true
	}
	return false
}

// Entry is a pending queue entry.
type Entry struct {
	ID  EntryID
	Job JobID
	// Host is the host that the entry names. It is 0 if the entry may get any host.
	Host HostID
	// MetaHost is the meta_host label. It does not restrict the host, and counts only when
	// it is decided whether the host must be provisioned.
	MetaHost LabelID
}

// Sibling is an entry of a job that also has pending entries.
type Sibling struct {
	ID     EntryID
	Job    JobID
	Host   HostID
	Status EntryStatus
	// Subdir is execution_subdir, which names the groups already started.
	Subdir string
}

// Minimum is the guaranteed minimum of hosts of a suite, as text, because the keyval
// suite_min_duts in afe_job_keyvals can hold anything.
type Minimum struct {
	Suite JobID
	Value string
}
