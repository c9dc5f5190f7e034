package scheduler

import "github.com/bits-and-blooms/bitset"

// hostSet is a set of hosts, by number. It has them as bits, to test one, and as a list
// in ascending order, because most labels are carried by few hosts and walking over a
// short list is faster than over all bits.
type hostSet struct {
	bits *bitset.BitSet
	list []int32
	// all is true if the set is known to have every host.
	all bool
}

// newHostSet returns an empty set for so many hosts.
func newHostSet(hosts int) *hostSet { return &hostSet{bits: bitset.New(uint(hosts))} }

// has tells whether a host is in the set. A nil set is empty.
func (s *hostSet) has(num int) bool { return s != nil && s.bits.Test(uint(num)) }

// add adds a host. Hosts must be added in the order of their numbers, because the list
// is kept in that order.
func (s *hostSet) add(num int) {
	if n := len(s.list); n > 0 && s.list[n-1] == int32(num) {
		return
	}
	s.bits.Set(uint(num))
	s.list = append(s.list, int32(num))
}

// addHost adds one of so many hosts to the set of a key. A key without a set gets one.
func addHost[K comparable](sets map[K]*hostSet, key K, num, hosts int) {
	set := sets[key]
	if set == nil {
		set = newHostSet(hosts)
		sets[key] = set
	}
	set.add(num)
}
