package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/store/admin"
)

// Doctor looks at a cluster that runs: what its configuration names, who leads what, what
// the replicas say of each other, and whether the database contradicts itself.
func Doctor(ctx context.Context, c *config.Config, client *clientv3.Client) (*Checkup, error) {
	up := NewCheckup(c)
	up.Configuration(ctx)
	if c.Standalone && !up.memberAnswers() {
		up.add("servers", CheckFailed, "no replica runs; 'hostsched serve --data-dir %s' starts it", c.DataDir)
		if c.HasLab() {
			up.findings(ctx)
		}
		return up, nil
	}
	reader := NewStatusReader(c, client)
	st, err := reader.Read(ctx)
	err = errors.Join(err, reader.Close())
	if err != nil {
		return up, err
	}
	up.cluster(st)
	up.fences(ctx, client)
	up.findings(ctx)
	return up, nil
}

// memberAnswers tells whether the server's own etcd does, without which there is no cluster to
// look at.
func (c *Checkup) memberAnswers() bool {
	return slices.ContainsFunc(c.Results, func(r CheckResult) bool { return r.Check == "etcd rights" })
}

// cluster says what a status says, as results.
func (c *Checkup) cluster(st ClusterStatus) {
	for _, m := range st.Missing {
		c.add("cluster", CheckFailed, "%s: %s", m.What, m.Why)
	}
	for _, text := range st.Warnings {
		c.add("cluster", CheckWarning, "%s", text)
	}
	versions := map[string][]string{}
	for _, s := range st.Servers {
		versions[s.Version] = append(versions[s.Version], s.Server)
		c.server(s)
	}
	delete(versions, "")
	if len(versions) > 1 {
		c.add("versions", CheckWarning, "the servers have different versions: %v", versions)
	}
	if len(st.Servers) == 0 {
		c.add("servers", CheckFailed, "no replica runs")
	}
	for _, s := range st.Shards {
		c.shard(s)
	}
}

func (c *Checkup) server(s ServerStatus) {
	name := "server " + s.Server
	switch {
	case s.Error != "":
		c.add(name, CheckFailed, "%s", s.Error)
	case s.Why != "":
		c.add(name, CheckWarning, "may not lead: %s", s.Why)
	case len(s.Avoids) > 0:
		c.add(name, CheckWarning, "lately failed to lead %v", s.Avoids)
	default:
		c.add(name, CheckOK, "%s, leads %d of the shards, version %s", s.Role, s.Leads, s.Version)
	}
}

func (c *Checkup) shard(s ShardStatus) {
	name := "shard " + s.Shard.String()
	faults := slices.DeleteFunc([]string{s.NotServed, s.Error}, func(text string) bool { return text == "" })
	if s.Leader == "" && len(faults) == 0 {
		faults = append(faults, "nobody leads it: "+s.WhyNobody)
	}
	switch {
	case len(faults) > 0:
		c.add(name, CheckFailed, "%s", strings.Join(faults, "; "))
	case s.Slow != "":
		c.add(name, CheckWarning, "%s", s.Slow)
	case s.Paused != "":
		c.add(name, CheckWarning, "paused: %s", s.Paused)
	case len(s.Ignored) > 0:
		c.add(name, CheckWarning, "etcd has keys that are nobody's: %v", s.Ignored)
	case s.Heir == "" && c.config.Standalone:
		c.add(name, CheckOK, "%s leads it in term %d, and is the only server of a standalone lab", s.Leader, s.Term)
	case s.Heir == "":
		c.add(name, CheckWarning, "%s leads it, and no other server could take over", s.Leader)
	default:
		c.add(name, CheckOK, "%s leads it in term %d, and %s would take over", s.Leader, s.Term, s.Heir)
	}
}

// findings are what 'hostsched check' finds.
func (c *Checkup) findings(ctx context.Context) {
	db, err := openToRead(ctx, c.config.Store())
	if err != nil {
		return // it was said already
	}
	defer func() { _ = db.Close() }() // it was only read
	found, err := Lab{Config: c.config, Main: admin.New(db)}.Check(ctx, "", "")
	if n := found.Count(); err == nil && n > 0 {
		err = fmt.Errorf("%d findings; 'hostsched check' lists them", n)
	}
	c.verdict("rows of the database", err, "no contradictions and nothing stranded")
}
