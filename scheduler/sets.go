package scheduler

import "slices"

// setID refers to an interned, sorted set of label or ACL ids; 0 is the empty
// set.
type setID int32

// setTable interns id sets, so that requests compare by a few integers. It is a
// hash table of its own because a map would need every set as a string.
type setTable struct {
	sets  [][]int64
	ids   []int64 // room for the sets
	slots []setID // by hash, open addressing; 0 is free
}

const (
	firstSlots = 1 << 8
	setRoom    = 1 << 12 // ids
	// The multiplier of 64-bit FNV-1a, which mixes ids well enough.
	fnvPrime  = 1099511628211
	fnvOffset = 14695981039346656037
)

func newSetTable(jobs int) setTable {
	return setTable{sets: [][]int64{nil}, slots: make([]setID, slotsFor(jobs))}
}

// slotsFor is the size of a hash table for what so many jobs ask for: they
// mostly repeat each other.
func slotsFor(jobs int) int {
	slots := firstSlots
	for slots < jobs/2 {
		slots *= 2
	}
	return slots
}

// intern sorts ids in place and returns the set's id.
func (t *setTable) intern(ids []int64) setID {
	if len(ids) > 1 {
		slices.Sort(ids)
		ids = slices.Compact(ids)
	}
	return t.put(ids)
}

// put returns the id of a list of ids as it is; new lists are numbered one after
// the other.
func (t *setTable) put(ids []int64) setID {
	if len(ids) == 0 {
		return 0
	}
	slot := t.slot(ids)
	if id := t.slots[slot]; id != 0 {
		return id
	}
	id := setID(len(t.sets))
	t.slots[slot] = id
	t.sets = append(t.sets, t.copy(ids))
	if 2*len(t.sets) > len(t.slots) {
		t.grow()
	}
	return id
}

// slot finds where a set is, or would be.
func (t *setTable) slot(ids []int64) uint64 {
	hash := uint64(fnvOffset)
	for _, id := range ids {
		hash = (hash ^ uint64(id)) * fnvPrime
	}
	mask := uint64(len(t.slots) - 1)
	for i := (hash ^ hash>>32) & mask; ; i = (i + 1) & mask {
		if id := t.slots[i]; id == 0 || slices.Equal(t.sets[id], ids) {
			return i
		}
	}
}

func (t *setTable) grow() {
	t.slots = make([]setID, 2*len(t.slots))
	for id := 1; id < len(t.sets); id++ {
		t.slots[t.slot(t.sets[id])] = setID(id)
	}
}

func (t *setTable) copy(ids []int64) []int64 {
	if cap(t.ids)-len(t.ids) < len(ids) {
		t.ids = make([]int64, 0, max(len(ids), setRoom))
	}
	begin := len(t.ids)
	t.ids = append(t.ids, ids...)
	return t.ids[begin:len(t.ids):len(t.ids)]
}

func (t *setTable) get(id setID) []int64 {
	if id == 0 {
		return nil
	}
	return t.sets[id]
}
