package scheduler

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bits-and-blooms/bitset"
)

// CompareHosts is the order in which a plan assigns equal hosts: by hostname,
// then id. MakePlan is faster if the hosts of the snapshot are in this order.
func CompareHosts(a, b *Host) int {
	if c := strings.Compare(a.Hostname, b.Hostname); c != 0 {
		return c
	}
	return cmp.Compare(a.ID, b.ID)
}

// numberHosts numbers the hosts in the order in which equal hosts are assigned, and
// builds the sets of hosts by label, by ACL group and by whether they are assignable.
func (p *planner) numberHosts() {
	n := len(p.s.Hosts)
	p.hosts = make([]*Host, n)
	for i := range p.s.Hosts {
		p.hosts[i] = &p.s.Hosts[i]
	}
	if !slices.IsSortedFunc(p.hosts, CompareHosts) {
		slices.SortFunc(p.hosts, CompareHosts)
	}
	p.hostNum = newLookup(n, func(i int) int64 { return int64(p.hosts[i].ID) })
	p.valid = newHostSet(n)
	p.free = bitset.New(uint(n))
	p.labelHosts = make([]*hostSet, len(p.s.Labels))
	for num, h := range p.hosts {
		if !h.Invalid {
			p.valid.add(num)
		}
		if p.assignable(h) {
			p.free.Set(uint(num))
		}
		for _, l := range h.Labels {
			p.addCarrier(l, num)
		}
		for _, l := range h.StaticLabels {
			addHost(p.staticHosts, l, num, n)
		}
		for _, a := range h.ACLs {
			addHost(p.aclHosts, a, num, n)
		}
	}
}

// addCarrier notes that a host carries a plain label. A label that does not exist is
// left out, because no job that depends on it can be served.
func (p *planner) addCarrier(l LabelID, num int) {
	at, ok := p.labels.num.get(int64(l))
	if !ok {
		return
	}
	if p.labelHosts[at] == nil {
		p.labelHosts[at] = newHostSet(len(p.hosts))
	}
	p.labelHosts[at].add(num)
}

// carriers returns the hosts that carry a plain label, and nil if none does.
func (p *planner) carriers(l LabelID) *hostSet {
	if at, ok := p.labels.num.get(int64(l)); ok {
		return p.labelHosts[at]
	}
	return nil
}
