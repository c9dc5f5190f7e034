package store

import (
	"maps"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// hostRows is what is kept of the hosts; the hosts themselves are in the snapshot,
// by hostname, then id, as plans want them.
type hostRows struct {
	num       map[int64]int32 // id -> position
	others    map[int64]bool  // hosts of other shards, where that matters
	malformed []scheduler.Problem
	texts     sqldb.Interned
}

// readHosts reads the shard's hosts with their labels and ACL groups, as far as
// they may have changed, and tells whether any host is different. moved means that
// other hosts may be the shard's, or belong elsewhere.
func (lab *labRows) readHosts(r *sqldb.Reader, stale func(tables ...string) bool, moved bool) (changed bool) {
	rows := stale("afe_hosts") || moved
	links := stale("afe_hosts_labels", "afe_acl_groups_hosts", "afe_static_hosts_labels")
	if rows {
		different, added := lab.readHostRows(r)
		changed, links = different, links || added
	}
	if links {
		changed = lab.readHostLinks(r) || changed
	}
	if changed || moved {
		changed = lab.own.place(lab.snapshot.Hosts) || changed
	}
	return changed
}

// readHostRows reads all hosts of the shard, and tells whether any is different,
// and whether there are any that were not there before.
func (lab *labRows) readHostRows(r *sqldb.Reader) (changed, added bool) {
	s, h := &lab.snapshot, &lab.hosts
	if h.num == nil {
		h.num, h.texts = make(map[int64]int32), make(sqldb.Interned)
	}
	seen := make([]bool, len(s.Hosts))
	malformed := h.malformed
	h.malformed = nil
	lock := ""
	if s.Details {
		lock = ", CASE WHEN locked = 1 THEN lock_reason END, CASE WHEN locked = 1 THEN lock_time END"
	}
	reordered := false // a host is new or renamed
	r.Rows("SELECT id, hostname, "+sqldb.Spelled("status", scheduler.HostReady, scheduler.HostRepairFailed)+", locked, invalid, leased, dirty, protection, shard_id"+lock+" FROM afe_hosts h WHERE 1=1"+lab.own.Hosts, func(v sqldb.Row) {
		id := v.Int(0).N
		i, known := h.num[id]
		if !known {
			i = int32(len(s.Hosts))
			h.num[id] = i
			if len(s.Hosts) == cap(s.Hosts) {
				s.Hosts = slices.Grow(s.Hosts, len(s.Hosts)+1) // hosts are large: twice as much room moves them less often
			}
			s.Hosts = append(s.Hosts, scheduler.Host{ID: scheduler.HostID(id)})
			seen = append(seen, false)
			added = true
		}
		seen[i] = true
		different, renamed := lab.hostRow(&s.Hosts[i], v)
		changed, reordered = changed || different, reordered || renamed || !known
	})
	if slices.Contains(seen, false) {
		s.Hosts = dropHosts(s.Hosts, seen)
		reordered = true
	}
	if reordered {
		s.Hosts = sortHosts(s.Hosts)
		clear(h.num)
		for i := range s.Hosts {
			h.num[int64(s.Hosts[i].ID)] = int32(i)
		}
	}
	others := lab.readOtherHosts(r)
	return changed || reordered || others || !slices.Equal(malformed, h.malformed), added
}

// dropHosts leaves out the hosts that were not seen.
func dropHosts(hosts []scheduler.Host, seen []bool) []scheduler.Host {
	i := -1
	return slices.DeleteFunc(hosts, func(scheduler.Host) bool {
		i++
		return !seen[i]
	})
}

// sortHosts returns the hosts in the order of plans. Hosts are large: their names are sorted
// beside each other, and each host is moved once, to where it belongs.
func sortHosts(hosts []scheduler.Host) []scheduler.Host {
	type key struct {
		name string
		at   int32
	}
	order := make([]key, len(hosts))
	for i := range order {
		order[i] = key{hosts[i].Hostname, int32(i)}
	}
	slices.SortFunc(order, func(a, b key) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return scheduler.CompareHosts(&hosts[a.at], &hosts[b.at])
	})
	sorted := make([]scheduler.Host, len(hosts))
	for i, from := range order {
		sorted[i] = hosts[from.at]
	}
	return sorted
}

// hostRow decodes a row of afe_hosts, and tells whether it says anything new,
// and whether the host has another name. A host with nonsense in it is taken for
// locked: it is not assigned and not released until somebody looks at it.
func (lab *labRows) hostRow(h *scheduler.Host, v sqldb.Row) (changed, renamed bool) {
	locked, invalid, leased, dirty, protection, shardID := v.Int(3), v.Int(4), v.Int(5), v.Int(6), v.Int(7), v.Int(8)
	fresh := scheduler.Host{
		ID: h.ID, Hostname: h.Hostname, Status: lab.hosts.texts.Text(v, 2),
		Locked: locked.Flag(), Leased: leased.Flag(), Invalid: invalid.Flag(), Dirty: dirty.N != 0,
		Shard: h.Shard,
	}
	if lab.snapshot.Details {
		fresh.LockReason, fresh.LockedSince = v.Text(9), v.Text(10)
	}
	if renamed = !v.Same(1, h.Hostname); renamed {
		fresh.Hostname = v.Text(1)
	}
	fresh.Ready = v[2] == nil || fresh.Status == scheduler.HostReady
	if !lab.own.basis.Shared {
		fresh.Shard = scheduler.ShardID(shardID.N)
	}
	if protection.N == int64(scheduler.DoNotVerify) {
		fresh.Protection = scheduler.DoNotVerify
	}
	id := v.Int(0)
	if sqldb.AnyBad(&id, &locked, &invalid, &leased, &dirty, &protection, &shardID) {
		lab.hosts.malformed = append(lab.hosts.malformed, malformed(0, "host %d (%s) has a value that is no integer; it counts as locked", h.ID, fresh.Hostname))
		fresh.Locked, fresh.LockReason = true, "malformed row"
	}
	changed = renamed || h.Status != fresh.Status || h.Ready != fresh.Ready || h.Locked != fresh.Locked || h.Leased != fresh.Leased || h.Invalid != fresh.Invalid ||
		h.Dirty != fresh.Dirty || h.Protection != fresh.Protection || h.Shard != fresh.Shard || h.LockReason != fresh.LockReason || h.LockedSince != fresh.LockedSince
	if changed {
		// What comes from other tables stays.
		fresh.Labels, fresh.StaticLabels, fresh.ACLs = h.Labels, h.StaticLabels, h.ACLs
		fresh.ActiveEntry, fresh.OpenTask = h.ActiveEntry, h.OpenTask
		fresh.Displaced, fresh.Home = h.Displaced, h.Home
		*h = fresh
	}
	return changed, renamed
}

// readOtherHosts reads the hosts of other shards, because an entry that names one
// of them is not the master's, but one that names no host at all is. It tells
// whether they are others than before.
func (lab *labRows) readOtherHosts(r *sqldb.Reader) (changed bool) {
	var others map[int64]bool
	if own := &lab.own; own.basis.Shared && own.basis.Shard == 0 && own.Hosts != "" {
		others = make(map[int64]bool)
		r.IDs("SELECT id FROM afe_hosts WHERE shard_id IN (SELECT id FROM afe_shards)", func(id int64) { others[id] = true })
	}
	changed = !maps.Equal(others, lab.hosts.others)
	lab.hosts.others = others
	return changed
}

// readHostLinks reads the labels and ACL groups of all hosts, and tells whether
// any are different. In one query: hosts of ACL groups come as negative numbers.
func (lab *labRows) readHostLinks(r *sqldb.Reader) (changed bool) {
	s, num := &lab.snapshot, lab.hosts.num
	labels, acls, static := newGrouped[scheduler.LabelID](linksPerHost*len(s.Hosts)), newGrouped[scheduler.ACLID](len(s.Hosts)), newGrouped[scheduler.LabelID](0)
	ours := lab.own.ofHost("host_id")
	r.Pairs("SELECT host_id, label_id FROM afe_hosts_labels WHERE host_id > 0"+ours+
		" UNION ALL SELECT -host_id, aclgroup_id FROM afe_acl_groups_hosts WHERE host_id > 0"+ours, func(host, id int64) {
		if i, ok := num[host]; ok {
			labels.add(i, scheduler.LabelID(id))
		} else if i, ok := num[-host]; ok {
			acls.add(i, scheduler.ACLID(id))
		}
	})
	if s.Rules.RespectStaticLabels {
		r.Pairs("SELECT host_id, staticlabel_id FROM afe_static_hosts_labels WHERE 1=1"+ours, func(host, id int64) {
			if i, ok := num[host]; ok {
				static.add(i, scheduler.LabelID(id))
			}
		})
	}
	labelsOf, aclsOf, staticOf := labels.lists(), acls.lists(), static.lists()
	for i := range s.Hosts {
		n, h := int32(i), &s.Hosts[i]
		changed = renew(&h.Labels, labelsOf(n), same) || changed
		changed = renew(&h.ACLs, aclsOf(n), same) || changed
		changed = renew(&h.StaticLabels, staticOf(n), same) || changed
	}
	return changed
}

// linksPerHost is room for the labels of a usual host.
const linksPerHost = 8
