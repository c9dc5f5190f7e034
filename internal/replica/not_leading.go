package replica

// NotLeading is why a replica does not lead a shard.
type NotLeading struct {
	Reason Reason `json:"reason"`
	// Text says it in words.
	Text string `json:"text"`
}

// Reason is the kind of a NotLeading. The set is bounded, because a metric has it as a label.
type Reason string

// The reasons of a replica that is as it should be.
const (
	// AnotherLeads: the replica stands by.
	AnotherLeads Reason = "another_leads"
	// AnotherShouldLead: nobody leads yet, and placement wants another server to.
	AnotherShouldLead Reason = "another_should_lead"
	// Campaigning: the replica should lead and is about to.
	Campaigning Reason = "campaigning"
	// NoRole: the servers table does not let this server lead.
	NoRole Reason = "role"
)

// The reasons of a replica that cannot do what it should.
const (
	Starting Reason = "starting"
	// WaitingForEtcd: etcd does not answer, or refuses what the replica writes.
	WaitingForEtcd   Reason = "waiting_for_etcd"
	DatabaseAway     Reason = "database_away"
	OldVersion       Reason = "old_version"
	NoServerMayLead  Reason = "no_server_may_lead"
	TakeOverFailed   Reason = "takeover_failed"
	ShardIsNotServed Reason = "not_served"
	// TickHangs: a takeover, or what a term that is over left to do, waits for the database.
	TickHangs Reason = "tick_hangs"
	// Stopping: the process ends.
	Stopping Reason = "stopping"
	// Misconfigured: the settings do not fit the database, or those of other replicas.
	Misconfigured Reason = "misconfigured"
)

// Healthy tells whether a replica with this reason is as it should be.
func (n NotLeading) Healthy() bool {
	switch n.Reason {
	case AnotherLeads, AnotherShouldLead, Campaigning, NoRole:
		return true
	}
	return false
}
