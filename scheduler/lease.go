package scheduler

import "slices"

// leaseTaskHosts leases the hosts of frontend tasks before any entry can get them. Neither
// the shard of such a host matters, nor whether it is marked as invalid (Autotest
// host_scheduler._lease_hosts_of_frontend_tasks).
func (p *planner) leaseTaskHosts() {
	var nums []int
	for _, id := range p.s.TaskHosts {
		if num, ok := p.hostNum.get(int64(id)); ok {
			nums = append(nums, num)
		}
	}
	slices.Sort(nums)
	for _, num := range slices.Compact(nums) {
		h := p.hosts[num]
		if h.Locked || h.ActiveEntry != 0 || p.contended.hosts[h.ID] {
			continue
		}
		p.free.Clear(uint(num))
		if !h.Leased && p.drains[h.ID] == nil && p.away[h.ID] == nil {
			p.plan.Leases = append(p.plan.Leases, Lease{Host: h.ID, Hostname: h.Hostname})
		}
	}
	p.freeAtStart = p.free.Clone()
}
