package store

import (
	"slices"
	"strings"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// hostRows is what a Snapshots remembers of the hosts; the hosts themselves are
// in its snapshot, by hostname, then id, as plans want them.
type hostRows struct {
	num       map[int64]int32 // id -> position
	seen      []bool          // by position: found by the running read
	others    map[int64]bool  // hosts of other shards, where that matters
	malformed []scheduler.Problem
	texts     sqldb.Interned
}

func (t *Snapshots) readHosts(r *sqldb.Reader) {
	own := &t.own
	// Which hosts are the shard's depends on which shards there are.
	rows := t.tables.stale(r, "afe_hosts") || own.changed
	links := t.tables.stale(r, "afe_hosts_labels", "afe_acl_groups_hosts", "afe_static_hosts_labels")
	if rows {
		links = t.readHostRows(r) || links
	}
	if links {
		t.readHostLinks(r)
	}
	if (rows || links) && own.place(t.last) {
		t.changed = true
	}
}

// readHostRows reads all hosts of the shard, and tells whether there are others
// than before.
func (t *Snapshots) readHostRows(r *sqldb.Reader) (others bool) {
	s, h := t.last, &t.hosts
	if h.num == nil {
		h.num, h.texts = make(map[int64]int32), make(sqldb.Interned)
	}
	h.seen = make([]bool, len(s.Hosts))
	malformed := h.malformed
	h.malformed = nil
	lock := ""
	if s.Details {
		lock = ", CASE WHEN locked = 1 THEN lock_reason END, CASE WHEN locked = 1 THEN lock_time END"
	}
	order := false // a host is new or renamed
	r.Rows("SELECT id, hostname, status, locked, invalid, leased, dirty, protection, shard_id"+lock+" FROM afe_hosts h WHERE 1=1"+t.own.Hosts, func(v sqldb.Row) {
		id := v.Int(0).N
		i, known := h.num[id]
		if !known {
			i = int32(len(s.Hosts))
			h.num[id] = i
			s.Hosts = append(s.Hosts, scheduler.Host{ID: scheduler.HostID(id)})
			h.seen = append(h.seen, false)
			order, others = true, true
		}
		h.seen[i] = true
		changed, renamed := t.hostRow(&s.Hosts[i], v)
		t.changed = t.changed || changed
		order = order || renamed
	})
	if !slices.Equal(malformed, h.malformed) {
		t.changed = true
	}
	if slices.Contains(h.seen, false) {
		t.dropHosts()
		order = true
	}
	if order {
		t.changed = true
		s.Hosts = sortHosts(s.Hosts)
		clear(h.num)
		for i := range s.Hosts {
			h.num[int64(s.Hosts[i].ID)] = int32(i)
		}
	}
	t.readOtherHosts(r)
	return others
}

// dropHosts forgets the hosts that the running read did not find.
func (t *Snapshots) dropHosts() {
	i := -1
	t.last.Hosts = slices.DeleteFunc(t.last.Hosts, func(scheduler.Host) bool {
		i++
		return !t.hosts.seen[i]
	})
}

// sortHosts returns the hosts in the order of plans. Hosts are large: they are
// moved once, to where they belong.
func sortHosts(hosts []scheduler.Host) []scheduler.Host {
	order := make([]int32, len(hosts))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return scheduler.CompareHosts(&hosts[a], &hosts[b]) })
	sorted := make([]scheduler.Host, len(hosts))
	for i, from := range order {
		sorted[i] = hosts[from]
	}
	return sorted
}

// hostRow decodes a row of afe_hosts, and tells whether it says anything new,
// and whether the host has another name. A host with nonsense in it is taken for
// locked: it is not given out and not released until somebody looks at it.
func (t *Snapshots) hostRow(h *scheduler.Host, v sqldb.Row) (changed, renamed bool) {
	locked, invalid, leased, dirty, protection, shardID := v.Int(3), v.Int(4), v.Int(5), v.Int(6), v.Int(7), v.Int(8)
	fresh := scheduler.Host{
		ID: h.ID, Hostname: h.Hostname, Status: t.hosts.texts.Text(v, 2),
		Locked: locked.Flag(), Leased: leased.Flag(), Invalid: invalid.Flag(), Dirty: dirty.N != 0,
		Shard: h.Shard,
	}
	if t.last.Details {
		fresh.LockReason, fresh.LockedSince = v.Text(9), v.Text(10)
	}
	if renamed = !v.Same(1, h.Hostname); renamed {
		fresh.Hostname = v.Text(1)
	}
	fresh.Ready = v[2] == nil || strings.EqualFold(fresh.Status, scheduler.HostReady)
	if !t.own.basis.Shared {
		fresh.Shard = scheduler.ShardID(shardID.N)
	}
	if protection.N == int64(scheduler.DoNotVerify) {
		fresh.Protection = scheduler.DoNotVerify
	}
	id := v.Int(0)
	if sqldb.AnyBad(&id, &locked, &invalid, &leased, &dirty, &protection, &shardID) {
		t.hosts.malformed = append(t.hosts.malformed, malformed(0, "host %d (%s) has a value that is no integer; it counts as locked", h.ID, fresh.Hostname))
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

// readOtherHosts notes the hosts of other shards: an entry that names one of
// them is not the master's, but one that names no host at all is.
func (t *Snapshots) readOtherHosts(r *sqldb.Reader) {
	t.hosts.others = nil
	if !t.own.basis.Shared || t.own.basis.Shard != 0 || t.own.Hosts == "" {
		return
	}
	t.hosts.others = make(map[int64]bool)
	r.Ids("SELECT id FROM afe_hosts WHERE shard_id IN (SELECT id FROM afe_shards)", func(id int64) { t.hosts.others[id] = true })
}

// readHostLinks reads the labels and ACL groups of all hosts. In one query:
// hosts of ACL groups come as negative numbers.
func (t *Snapshots) readHostLinks(r *sqldb.Reader) {
	s := t.last
	labels, acls, static := newLinks[scheduler.LabelID](linksPerHost*len(s.Hosts)), newLinks[scheduler.ACLID](len(s.Hosts)), newLinks[scheduler.LabelID](0)
	ours := t.own.ofHost("host_id")
	r.Pairs("SELECT host_id, label_id FROM afe_hosts_labels WHERE host_id > 0"+ours+
		" UNION ALL SELECT -host_id, aclgroup_id FROM afe_acl_groups_hosts WHERE host_id > 0"+ours, func(host, id int64) {
		if i, ok := t.hosts.num[host]; ok {
			labels.add(i, scheduler.LabelID(id))
		} else if i, ok := t.hosts.num[-host]; ok {
			acls.add(i, scheduler.ACLID(id))
		}
	})
	if s.Rules.RespectStaticLabels {
		r.Pairs("SELECT host_id, staticlabel_id FROM afe_static_hosts_labels WHERE 1=1"+ours, func(host, id int64) {
			if i, ok := t.hosts.num[host]; ok {
				static.add(i, scheduler.LabelID(id))
			}
		})
	}
	labelsOf, aclsOf, staticOf := labels.lists(), acls.lists(), static.lists()
	for i := range s.Hosts {
		n, h := int32(i), &s.Hosts[i]
		renew(t, &h.Labels, labelsOf(n), same)
		renew(t, &h.ACLs, aclsOf(n), same)
		renew(t, &h.StaticLabels, staticOf(n), same)
	}
}

// linksPerHost is room for the labels of a usual host.
const linksPerHost = 8

// noteUses notes which hosts active entries and special tasks use.
func (t *Snapshots) noteUses() {
	s := t.last
	if t.queue.usesChanged || t.changed {
		active := make([]bool, len(s.Hosts))
		for i := range t.queue.live {
			e := &t.queue.live[i]
			if num, ok := t.hosts.num[int64(e.entry.Host)]; ok && e.standing&isActive != 0 {
				active[num] = true
			}
		}
		for i := range s.Hosts {
			if s.Hosts[i].ActiveEntry != active[i] {
				s.Hosts[i].ActiveEntry, t.changed = active[i], true
			}
		}
	}
	if !t.queue.tasksStale && !t.changed {
		return
	}
	open := make([]bool, len(s.Hosts))
	for _, host := range t.queue.tasks {
		if num, ok := t.hosts.num[host]; ok {
			open[num] = true
		}
	}
	var hosts []scheduler.HostID
	for _, host := range t.queue.frontend {
		if _, ok := t.hosts.num[host]; ok {
			hosts = append(hosts, scheduler.HostID(host))
		}
	}
	for i := range s.Hosts {
		if s.Hosts[i].OpenTask != open[i] {
			s.Hosts[i].OpenTask, t.changed = open[i], true
		}
	}
	renew(t, &s.TaskHosts, hosts, same)
}
