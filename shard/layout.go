package shard

// ID is the id of a row of afe_shards.
type ID int64

// MasterID is the ID of the master shard, which has no row in afe_shards.
const MasterID ID = 0

// Layout says which shard owns which labels, hosts and entries. Its zero value is a
// lab without shards. Each method returns exactly one owner for its arguments, and
// what no shard owns belongs to the master, so everything has one owner at all times.
type Layout struct {
	// Names are the names of all shards that exist, apart from the master.
	Names map[ID]Name
	// Unserved are the shards that no replica can lead, with the reason for each. What
	// belongs to them stays theirs, and waits.
	Unserved map[ID]string
	// Labels are the rows of afe_shards_labels. The keys are ids of labels, and the values
	// are the shards that own them.
	Labels map[int64]ID
	// Released are the ids of labels that were moved from a shard back to the master and
	// have had no owner since then.
	Released map[int64]bool
}

// existing returns the shard itself if it exists, and the master otherwise.
func (l Layout) existing(id ID) ID {
	if _, ok := l.Names[id]; ok {
		return id
	}
	return MasterID
}

// Name returns the name of a shard. A shard that does not exist has the master's name.
func (l Layout) Name(id ID) Name {
	if name, ok := l.Names[id]; ok {
		return name
	}
	return Master
}

// OfLabel returns the shard that owns a label.
func (l Layout) OfLabel(label int64) ID { return l.existing(l.Labels[label]) }

// OfHost returns the shard that owns a host, given its shard_id column. Ownership is
// stored and not derived from labels, so that it changes only in a transaction.
func (l Layout) OfHost(shardID ID) ID { return l.existing(shardID) }

// OfEntry returns the shard that owns a queue entry. An entry that has or names a host
// belongs to the shard of the host, because only that shard can assign it. Any other entry
// belongs to the shard of its meta_host label.
func (l Layout) OfEntry(named bool, hostShard ID, metaHost int64) ID {
	if named {
		return l.OfHost(hostShard)
	}
	return l.OfLabel(metaHost)
}

// Home returns the shard that a host should belong to, given the shard that owns it now
// and the labels that the host carries. A shard claims the hosts that carry one of its
// labels. If several shards claim a host, it stays with its owner if that is one of them,
// and otherwise the shard with the lowest id gets it. A host that no shard claims stays
// too, unless it carries a label that was moved back to the master: whichever shard had
// the label last, the hosts of those before may not have followed yet. A host whose owner
// is its home stays there.
func (l Layout) Home(owner ID, labels []int64) ID {
	owner = l.existing(owner)
	claims, released := MasterID, false
	for _, label := range labels {
		claim := l.OfLabel(label)
		if claim != MasterID && claim == owner {
			return owner
		}
		if claim != MasterID && (claims == MasterID || claim < claims) {
			claims = claim
		}
		released = released || l.Released[label]
	}
	if claims != MasterID {
		return claims
	}
	if released {
		return MasterID
	}
	return owner
}
