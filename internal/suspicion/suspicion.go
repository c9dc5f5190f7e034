// Package suspicion decides which replica is dead, so that nobody has to wait for
// its lease to expire.
//
// Every replica keeps a connection to every other one, over which heartbeats come
// ([Contact]; package peers holds the connections). [Judge] says what one replica
// thinks of another. Replicas share what they think through etcd, and [Condemn]
// says when that is enough to revoke a replica's leases.
//
// A wrong verdict costs a needless hand-over and nothing else, because the fence in
// the database refuses every write of a leader that was replaced. Therefore the
// rules only have to be right nearly always, and may be quick.
//
// The package is pure: times are milliseconds that the caller measured.
package suspicion

// Verdict is what one replica thinks of another. It is also the reason that the
// history of terms shows.
type Verdict string

// The verdicts.
const (
	Alive Verdict = ""
	// Crashed: its connection ended, and then nobody listened at its address any
	// more, or another process did. One replica that says so is enough.
	Crashed Verdict = "crashed"
	// Silent: there were heartbeats, and there have been none for too long. All who
	// can tell must agree.
	Silent Verdict = "silent"
	// Unreachable: there never was a heartbeat. That is no evidence of death, but
	// such a replica cannot contradict others either.
	Unreachable Verdict = "unreachable"
)

// The patience with a silent replica, in milliseconds. The first is longer than a
// stall of one second behind a network that delays by 400 ms, and short enough for a
// successor to assign within two seconds. Each needless takeover doubles it.
const (
	patience     = 1500
	longPatience = 60_000
	// doublings are enough to reach the longest one.
	doublings = 10
)

// Contact is what one replica knows of another process from their connection.
type Contact struct {
	// Heard is true if a heartbeat of this process was ever received.
	Heard bool
	// Silence is how long ago the last heartbeat was received, in milliseconds. Time
	// during which the receiver itself stood still does not count.
	Silence int64
	// Gone is true if the connection ended and afterwards nobody listened at the
	// address, or another process answered.
	Gone bool
	// Needless is how often this process lost its leases lately although it lived.
	Needless int
}

// Patience is how long a replica may be silent, in milliseconds, that lost its
// leases so often although it lived.
func Patience(needless int) int64 {
	return min(int64(patience)<<min(max(needless, 0), doublings), longPatience)
}

// Judge says what a contact means. A process that was once declared dead although
// it lived may sit behind a network that refuses connections for it, so for such a
// one only silence counts.
func Judge(c Contact) Verdict {
	switch {
	case !c.Heard:
		return Unreachable
	case c.Gone && c.Needless == 0:
		return Crashed
	case c.Silence > Patience(c.Needless):
		return Silent
	}
	return Alive
}

// Voter is another replica, as far as what it says about a suspect counts.
type Voter struct {
	// Says is its verdict.
	Says Verdict
	// MayLead is true if it has a role with which servers lead; SameShards if it serves
	// the shards that the suspect serves; ReachesLab if it reaches etcd and the database.
	MayLead, SameShards, ReachesLab bool
}

// couldFollow tells whether it could lead in the suspect's place.
func (v Voter) couldFollow() bool { return v.MayLead && v.SameShards && v.ReachesLab }

// Condemn says whether a replica's leases are to be revoked, and why. Only those count
// that could lead in its place: by a verdict of others nothing would be gained, and the
// veto of others would keep successors waiting.
func Condemn(voters []Voter) Verdict {
	silent, all := false, true
	for _, v := range voters {
		if !v.couldFollow() {
			continue
		}
		switch v.Says {
		case Crashed:
			return Crashed
		case Silent:
			silent = true
		case Unreachable:
		default:
			all = false
		}
	}
	if silent && all {
		return Silent
	}
	return Alive
}
