package ops

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/roles"
	"github.com/hostsched/hostsched/store/admin"
)

// ServersChange is a change of the servers table.
type ServersChange struct {
	// Action and Server are for the audit record.
	Action, Server string
	Edits          []admin.ServerEdit
	// Force makes the change even if no running replica may lead afterwards.
	Force bool
}

// ChangeServers changes the servers table, which perhaps is in a database of its own. It
// refuses to take the role from all replicas that run: the lab would stand still, and a
// mistyped name is enough for that.
func (l Lab) ChangeServers(ctx context.Context, servers *admin.Lab, client *clientv3.Client, c ServersChange, by By) (said string, err error) {
	if err := admin.FitsAudit(by.Who, c.Server, by.Reason); err != nil {
		return "", err
	}
	running, unknown := election.View{}, error(nil)
	if !c.Force {
		asked, cancel := context.WithTimeout(ctx, etcdTimeout)
		defer cancel()
		running, unknown = election.Look(asked, client, l.Config.Cluster)
	}
	agree := admin.Agreement{Ask: func(before, after admin.ServersTable) error {
		if c.Force || keepsAll(before, after) {
			return nil
		}
		if unknown != nil {
			// What etcd did not answer must not pass for what the database did not answer.
			return fmt.Errorf("%w: %s %s may take the role %s from all replicas that run, and etcd does not say which do: %s; --force does it all the same", admin.ErrInput, c.Action, c.Server, admin.RoleHostScheduler, unknown.Error())
		}
		return someoneMayLead(running.Servers, before, after, c)
	}}
	for _, m := range running.Servers {
		agree.Servers = append(agree.Servers, m.Server)
	}
	all, err := servers.ChangeServers(ctx, c.Action+" "+c.Server, agree, c.Edits...)
	if err != nil {
		return "", err
	}
	said = strings.Join(all, ", ")
	detail := said
	if by.Reason != "" {
		detail += "; " + by.Reason
	}
	if err := l.Main.Audit(ctx, by.Who, c.Action, c.Server, detail); err != nil {
		return "", fmt.Errorf("%s %s was done in %s, but %s has no record of it: %w", c.Action, c.Server, servers.Target(), l.Main.Target(), err)
	}
	return said, nil
}

// keepsAll tells whether every replica that may lead before a change may do so afterwards,
// whichever run.
func keepsAll(before, after admin.ServersTable) bool {
	if len(before.Rows) == 0 {
		return len(after.Rows) == 0 // every replica may lead
	}
	for _, s := range before.Rows {
		changed, _ := after.Row(s.Row)
		if rowMayLead(s) && !rowMayLead(changed) {
			return false
		}
	}
	return true
}

func rowMayLead(s admin.Server) bool {
	role, _ := roles.OfRow(s)
	return role != election.RoleNone
}

func mayLead(servers admin.ServersTable, name string) bool {
	role, _ := roles.Of(servers, name)
	return role != election.RoleNone
}

// someoneMayLead refuses a change after which no running replica may lead, if one may now.
func someoneMayLead(running []election.Member, before, after admin.ServersTable, c ServersChange) error {
	var names []string
	could := false
	for _, m := range running {
		if mayLead(after, m.Server) {
			return nil
		}
		could = could || mayLead(before, m.Server)
		names = append(names, m.Server)
	}
	if !could {
		return nil
	}
	return fmt.Errorf("%w: after %s %s no replica that runs may lead, because none of %s would have the role %s; check the name, or do it all the same with --force", admin.ErrInput, c.Action, c.Server, strings.Join(names, ", "), admin.RoleHostScheduler)
}
