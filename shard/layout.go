package shard

// ID is the id of a row of afe_shards. MasterID stands for the master shard,
// which has no row.
type ID int64

// MasterID is the master's.
const MasterID ID = 0

// Layout says which shard owns which labels, hosts and entries. Its zero value is a
// lab without shards. Each method returns exactly one owner for its arguments, and
// what no shard owns belongs to the master, so everything has one owner at all times.
type Layout struct {
	// Names are the shards there are, by row of afe_shards.
	Names map[ID]Name
	// Labels are the rows of afe_shards_labels: label id to shard.
	Labels map[int64]ID
	// Released are labels that were moved from a shard back to the master: label id
	// to the shard that had it last.
	Released map[int64]ID
}

// existing maps a shard that does not exist to the master.
func (l Layout) existing(id ID) ID {
	if _, ok := l.Names[id]; ok {
		return id
	}
	return MasterID
}

// Name returns what a shard is called.
func (l Layout) Name(id ID) Name {
	if name, ok := l.Names[id]; ok {
		return name
	}
	return Master
}

// OfLabel returns the shard that owns a label.
func (l Layout) OfLabel(label int64) ID { return l.existing(l.Labels[label]) }

// OfHost returns the shard that owns a host, from its shard_id column: ownership
// is a stored fact, so that it changes in one transaction and not by itself.
func (l Layout) OfHost(shardID ID) ID { return l.existing(shardID) }

// OfEntry returns the shard that owns a queue entry. An entry that has or names
// a host belongs where the host does, because only that shard can assign it.
// Any other belongs to the shard of its meta_host label.
func (l Layout) OfEntry(named bool, hostShard ID, metaHost int64) ID {
	if named {
		return l.OfHost(hostShard)
	}
	return l.OfLabel(metaHost)
}

// Home returns the shard that a host should belong to, given the one that owns
// it now and its labels. A shard claims the hosts that carry one of its labels;
// if several claim a host, it stays where it is, or else the oldest shard gets
// it. A host that no shard claims stays too, unless it carries a label that was moved
// from its shard back to the master. Once a host is at home, it stays there.
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
		if from, ok := l.Released[label]; ok && from == owner {
			released = true
		}
	}
	if claims != MasterID {
		return claims
	}
	if released {
		return MasterID
	}
	return owner
}
