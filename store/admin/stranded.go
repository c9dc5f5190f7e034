package admin

import (
	"context"
	"fmt"
	"strings"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// resident is a host of a shard, and why it is still there.
type resident struct {
	id       int64
	shardID  shard.ID
	hostname string
	labels   []int64
	// used tells whether an active entry or an open special task uses it.
	used, leased, locked bool
	ready                bool
	status               string
}

// stays says why a host does not leave the shard that owns it. stuck is true if
// waiting does not help, because somebody has to change the host.
func (h resident) stays(layout shard.Layout, owner shard.ID) (why string, stuck bool) {
	switch {
	case h.used:
		return "in use", false
	case h.leased && h.locked:
		return "leased for nobody, and not released while locked: unlock", true
	case h.leased && !h.ready:
		return fmt.Sprintf("leased for nobody, and not released while the status is %s: repair", h.status), true
	case h.leased:
		return "about to be released", false
	case h.claimed(layout, owner):
		return "carrying a label of the shard", false
	case layout.Home(owner, h.labels) == owner:
		return "there by afe_hosts.shard_id alone, and no label takes it elsewhere: set that to NULL", true
	}
	return "about to move", false
}

// claimed tells whether a label of the host belongs to the shard that owns the host.
func (h resident) claimed(layout shard.Layout, owner shard.ID) bool {
	if owner == shard.MasterID {
		return layout.Home(owner, h.labels) == owner
	}
	for _, l := range h.labels {
		if layout.OfLabel(l) == owner {
			return true
		}
	}
	return false
}

// readResidents reads the hosts that meet a condition on afe_hosts h, which begins
// with AND, with their labels.
func readResidents(r *sqldb.Reader, where string) []resident {
	var out []resident
	num := map[int64]int{}
	r.Rows("SELECT h.id, h.hostname, h.leased, h.locked, "+sqldb.Spelled("h.status", scheduler.HostReady)+", h.shard_id, "+
		"CASE WHEN EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.host_id = h.id AND q.active = 1) OR h.id IN "+store.BusyHosts+" THEN 1 ELSE 0 END"+
		" FROM afe_hosts h WHERE 1=1"+where+" ORDER BY h.hostname, h.id", func(v sqldb.Row) {
		leased, locked, used := v.Int(2), v.Int(3), v.Int(6)
		h := resident{id: v.Int(0).N, shardID: shard.ID(v.Int(5).N), hostname: v.Text(1), leased: leased.Flag(), locked: locked.Flag(), status: v.Text(4), used: used.N != 0}
		h.ready = v[4] == nil || h.status == scheduler.HostReady
		num[h.id] = len(out)
		out = append(out, h)
	})
	r.Pairs("SELECT host_id, label_id FROM afe_hosts_labels WHERE host_id IN (SELECT h.id FROM afe_hosts h WHERE 1=1"+where+")", func(host, label int64) {
		if i, ok := num[host]; ok {
			out[i].labels = append(out[i].labels, label)
		}
	})
	return out
}

// readStranded finds the hosts of a shared database that are not where their labels
// belong, and will not move until somebody changes them.
func readStranded(r *sqldb.Reader, scope store.Scope, own store.Ownership) (out []Finding) {
	if !scope.Shared || own.Hosts == "" {
		return nil
	}
	layout := store.ReadLayout(r, true)
	owner := shard.MasterID
	for id, name := range layout.Names {
		if _, unserved := layout.Unserved[id]; name == scope.Shard && !unserved {
			owner = id
		}
	}
	for _, h := range readResidents(r, own.Hosts+suspects(owner)) {
		if len(h.labels) == 0 || h.claimed(layout, owner) {
			continue
		}
		if why, stuck := h.stays(layout, owner); stuck {
			home := layout.Name(layout.Home(shard.MasterID, h.labels))
			text := fmt.Sprintf("is in shard %s, but carries labels that belong to shard %s, whose entries cannot have it: it is %s", scope.Shard, home, why)
			out = append(out, Finding{Shard: scope.Shard, Host: scheduler.HostID(h.id), Hostname: h.hostname, Text: text})
		}
	}
	return out
}

// suspects leaves out most of the hosts that are where they belong: the leader looks
// often, and large labs have many hosts. Of the master's hosts only those in use stay
// although a shard claims them.
func suspects(owner shard.ID) string {
	const claims = "EXISTS (SELECT 1 FROM afe_hosts_labels c JOIN afe_shards_labels s ON s.label_id = c.label_id WHERE c.host_id = h.id"
	if owner == shard.MasterID {
		return " AND h.leased = 1 AND " + claims + ")"
	}
	return fmt.Sprintf(" AND NOT %s AND s.shard_id = %d)", claims, owner)
}

// Elsewhere reads the valid hosts that belong to other shards than that of a shared
// database which is looked at.
func (lab *Lab) Elsewhere(ctx context.Context, scope store.Scope) (out []scheduler.OtherHost, err error) {
	err = lab.Read(ctx, func(r *sqldb.Reader) {
		own := store.ReadOwnership(r, scope)
		if own.Hosts == "" {
			return
		}
		layout := store.ReadLayout(r, true)
		for _, h := range readResidents(r, " AND h.invalid = 0 AND h.id NOT IN (SELECT h.id FROM afe_hosts h WHERE 1=1"+own.Hosts+")") {
			labels := make([]scheduler.LabelID, len(h.labels))
			for i, l := range h.labels {
				labels[i] = scheduler.LabelID(l)
			}
			out = append(out, scheduler.OtherHost{Shard: layout.Name(layout.OfHost(h.shardID)).String(), Labels: labels})
		}
	})
	return out, sqldb.Explain(err, "look for the hosts of other shards", lab.Target())
}

// shownHosts is how many hosts a message names for each reason.
const shownHosts = 5

// Remaining says which hosts still belong to a shard that should be removed, and why.
// stuck is true if nothing of it goes away by waiting.
func (lab *Lab) Remaining(ctx context.Context, id shard.ID) (text string, stuck bool, err error) {
	var hosts []resident
	var layout shard.Layout
	err = lab.Read(ctx, func(r *sqldb.Reader) {
		layout = store.ReadLayout(r, true)
		hosts = readResidents(r, fmt.Sprintf(" AND h.shard_id = %d", id))
	})
	if err != nil {
		return "", false, sqldb.Explain(err, fmt.Sprintf("look for the hosts of row %d of afe_shards", id), lab.Target())
	}
	stuck = len(hosts) > 0
	var order []string
	names := map[string][]string{}
	for _, h := range hosts {
		why, stays := h.stays(layout, id)
		stuck = stuck && stays
		if names[why] == nil {
			order = append(order, why)
		}
		names[why] = append(names[why], h.hostname)
	}
	parts := make([]string, 0, len(order))
	for _, why := range order {
		parts = append(parts, fmt.Sprintf("%d hosts (%s) are %s", len(names[why]), someOf(names[why]), why))
	}
	return strings.Join(parts, "; "), stuck, nil
}

// someOf lists the first names, and how many more there are.
func someOf(names []string) string {
	if len(names) <= shownHosts {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shownHosts], ", "), len(names)-shownHosts)
}
