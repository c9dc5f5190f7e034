package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// The results of a check.
const (
	CheckOK      = "ok"
	CheckWarning = "warning"
	CheckFailed  = "failed"
)

// CheckResult is one thing that was looked at.
type CheckResult struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Detail string `json:"detail"`
}

// Checkup collects results.
type Checkup struct {
	config  *config.Config
	Results []CheckResult `json:"checks"`
}

// NewCheckup returns a checkup of a configuration that was loaded.
func NewCheckup(c *config.Config) *Checkup { return &Checkup{config: c, Results: []CheckResult{}} }

// Failed is how many checks failed.
func (c *Checkup) Failed() (n int) {
	for _, r := range c.Results {
		if r.Result == CheckFailed {
			n++
		}
	}
	return n
}

func (c *Checkup) add(check, result, format string, args ...any) {
	c.Results = append(c.Results, CheckResult{check, result, shard.OneLine(fmt.Sprintf(format, args...))})
}

// verdict is ok with a detail, or failed with an error.
func (c *Checkup) verdict(check string, err error, detail string) bool {
	if err != nil {
		c.add(check, CheckFailed, "%v", err)
		return false
	}
	c.add(check, CheckOK, "%s", detail)
	return true
}

// warn adds a warning for a fault, if there is one.
func (c *Checkup) warn(check, fault, fine string) {
	if fault != "" {
		c.add(check, CheckWarning, "%s", fault)
		return
	}
	c.add(check, CheckOK, "%s", fine)
}

// Bounds of questions.
const (
	etcdCheckTimeout     = 3 * time.Second
	databaseCheckTimeout = 15 * time.Second
)

// Configuration looks at all that the configuration names, and writes nothing anywhere.
func (c *Checkup) Configuration(ctx context.Context) {
	c.files()
	c.certificates(time.Now())
	c.addresses()
	if !c.config.Standalone || c.folder() {
		c.etcd(ctx)
		c.databases(ctx)
	}
	c.services(ctx)
}

// folder looks at the folder of a standalone server, and tells whether a lab is in it. The
// first start makes whatever is missing.
func (c *Checkup) folder() (lab bool) {
	const name = "data_dir"
	dir := c.config.DataDir
	switch err := config.CheckFolder(dir); {
	case errors.Is(err, fs.ErrNotExist):
		c.verdict(name, mayMake(dir), dir+" is not there yet; the first start of the server makes it, with a lab in it")
		return false
	case err != nil:
		return c.verdict(name, err, "")
	case !c.config.HasLab():
		c.verdict(name, mayWrite(dir), "no lab is in "+dir+" yet; the first start of the server makes it")
		return false
	}
	return c.verdict(name, mayWrite(dir), "the lab is in "+dir)
}

// mayMake tells whether this user may make a folder, with those above it that are missing.
func mayMake(dir string) error {
	for {
		dir = filepath.Dir(dir)
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil && !info.IsDir():
			return fmt.Errorf("%s is no folder", dir)
		case err != nil:
			return err
		}
		return mayWrite(dir)
	}
}

func mayWrite(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("this user may not write into %s: %w", dir, err)
	}
	return nil
}

// othersMayRead are the bits of a file's mode that let every user read it.
const othersMayRead = 0o004

// files looks at the files with secrets, which were read already.
func (c *Checkup) files() {
	for _, f := range c.config.SecretFiles() {
		info, err := os.Stat(f.Path)
		switch {
		case err != nil:
			c.add(f.Key, CheckFailed, "%v", err)
		case info.Mode().Perm()&othersMayRead != 0:
			c.add(f.Key, CheckWarning, "every user of this machine may read %s; chmod o= it", f.Path)
		default:
			c.add(f.Key, CheckOK, "%s can be read", f.Path)
		}
	}
}

func (c *Checkup) certificates(now time.Time) {
	e := c.config.Etcd
	for _, x := range []struct {
		key   string
		files certs.Files
	}{
		{"tls", c.config.CertificateFiles()},
		{"database.cert_file", c.config.DatabaseFiles()},
		{"etcd.cert_file", certs.Files{Cert: e.CertFile, Key: e.KeyFile, CA: e.CAFile}},
		{"etcd.peer_cert_file", c.config.EtcdPeerFiles()},
	} {
		keeper, err := certs.Open(x.files)
		if err != nil {
			c.add(x.key, CheckFailed, "%v", err)
			continue
		}
		if state := keeper.State(now); state != nil {
			c.warn(x.key, state.Fault, fmt.Sprintf("%s in %s is valid until %s", state.Subject, state.File, state.Until.Format(time.RFC3339)))
		}
	}
}

// addresses tries to listen. Where a replica runs somebody listens already.
func (c *Checkup) addresses() {
	for _, x := range []struct{ key, address string }{{"listen", c.config.Listen}, {"api.listen", c.config.API.Listen}} {
		if x.address == "" {
			continue
		}
		l, err := net.Listen("tcp", x.address)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			c.add(x.key, CheckOK, "somebody listens on %s already, as it is while a replica runs here", x.address)
		case err != nil:
			c.add(x.key, CheckFailed, "%v", err)
		default:
			c.verdict(x.key, l.Close(), x.address+" is free")
		}
	}
}

func (c *Checkup) etcd(ctx context.Context) {
	client, err := c.config.EtcdConnection().Client()
	if err != nil {
		c.add("etcd", CheckFailed, "%v", err)
		return
	}
	defer func() { _ = client.Close() }() // it was only asked
	answers := inParallel(c.config.Etcd.Endpoints, func(endpoint string) CheckResult { return c.endpoint(ctx, client, endpoint) })
	c.Results = append(c.Results, answers...)
	c.clocksOfEtcd(ctx, answers)
	for _, a := range answers {
		if a.Result != CheckFailed && a.Detail != noOwnMember {
			c.etcdMembers(ctx, client)
			c.etcdRights(ctx, client)
			return
		}
	}
}

const noOwnMember = "the embedded member does not answer, as it is while no replica runs here"

func (c *Checkup) endpoint(ctx context.Context, client *clientv3.Client, endpoint string) CheckResult {
	bounded, cancel := context.WithTimeout(ctx, etcdCheckTimeout)
	defer cancel()
	name := "etcd " + endpoint
	asked := time.Now()
	status, err := client.Status(bounded, endpoint)
	switch {
	case err != nil && c.config.Etcd.Embedded:
		return CheckResult{name, CheckWarning, noOwnMember}
	case err != nil:
		only := c.config.EtcdConnection()
		return CheckResult{name, CheckFailed, only.Explain(ctx, err).Error()}
	case len(status.Errors) > 0:
		return CheckResult{name, CheckWarning, fmt.Sprintf("version %s says: %v", status.Version, status.Errors)}
	case status.Leader == 0:
		return CheckResult{name, CheckFailed, "this member of etcd has no leader; do most members run?"}
	case status.IsLearner:
		return CheckResult{name, CheckWarning, "this member of etcd does not vote yet"}
	}
	return CheckResult{name, CheckOK, fmt.Sprintf("version %s, cluster %x, answers within %v", status.Version, status.Header.ClusterId, time.Since(asked).Round(time.Millisecond))}
}

// etcdMembers looks at all members, those included that no endpoint of this configuration is. Of an
// etcd that somebody else runs, not every address need be meant for this machine.
func (c *Checkup) etcdMembers(ctx context.Context, client *clientv3.Client) {
	members, err := AskEtcdMembers(ctx, c.config, client)
	if err != nil {
		c.add("etcd members", CheckFailed, "%v", err)
		return
	}
	silent, quorum := CheckWarning, CheckFailed
	if c.config.Etcd.Embedded {
		silent = CheckFailed
	}
	text, spare := EtcdQuorum(members)
	lost := slices.ContainsFunc(members, func(m EtcdMember) bool { return m.Started && !m.Answers })
	switch {
	case lost && !c.config.Etcd.Embedded:
		quorum, text = CheckWarning, "some do not answer this machine; whether they are lost, etcd itself says: 'etcdctl endpoint status --cluster'"
	case spare == 0 && len(members) > 1:
		quorum = CheckWarning
	case spare >= 0:
		quorum = CheckOK
	}
	for _, m := range members {
		name := "etcd member " + cmp.Or(m.Name, m.ID)
		switch {
		case !m.Started:
			c.add(name, CheckWarning, "it was added at %s and has never run; start it, or remove it with 'hostsched etcd remove %s'", strings.Join(m.PeerURLs, ","), m.ID)
		case !m.Answers:
			c.add(name, silent, "it does not answer: %s", m.Error)
		case !m.Voting:
			c.add(name, CheckWarning, "it answers, and does not vote yet")
		default:
			c.add(name, CheckOK, "it answers, and votes")
		}
	}
	c.add("etcd members", quorum, "%s", text)
}

// clocksOfEtcd compares the clocks of the members that answer with this machine's. A member
// behind a socket is on this machine.
func (c *Checkup) clocksOfEtcd(ctx context.Context, answers []CheckResult) {
	var endpoints []string
	for i, endpoint := range c.config.Etcd.Endpoints {
		if answers[i].Result != CheckFailed && answers[i].Detail != noOwnMember && !strings.HasPrefix(endpoint, "unix") {
			endpoints = append(endpoints, endpoint)
		}
	}
	connection := c.config.EtcdConnection()
	c.Results = append(c.Results, inParallel(endpoints, func(endpoint string) CheckResult {
		name := "etcd " + endpoint + ": clock"
		ahead, err := connection.ClockAhead(ctx, endpoint)
		if err != nil {
			return CheckResult{name, CheckWarning, fmt.Sprintf("not compared: etcd answers, but not over HTTP: %v", err)}
		}
		if skew := store.Skew("this member of etcd", ahead); skew != "" {
			return CheckResult{name, CheckWarning, skew}
		}
		return CheckResult{name, CheckOK, "within a second or two of this machine's"}
	})...)
}

// etcdRights asks for a change that does not happen, because its condition is never met.
// Etcd checks the rights for it all the same.
func (c *Checkup) etcdRights(ctx context.Context, client *clientv3.Client) {
	bounded, cancel := context.WithTimeout(ctx, etcdCheckTimeout)
	defer cancel()
	prefix := election.ClusterPrefix(c.config.Cluster)
	key := prefix + "check"
	never := clientv3.Compare(clientv3.Version(key), "<", 0)
	_, err := client.Txn(bounded).If(never).Then(clientv3.OpPut(key, "")).Else(clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())).Commit()
	switch {
	case err == nil:
	case election.Refused(err):
		err = fmt.Errorf("user %q may not read and write the keys below %s: %w", c.config.Etcd.User, prefix, err)
	default:
		err = fmt.Errorf("not checked, because etcd does not answer: %w", c.config.EtcdConnection().Explain(ctx, err))
	}
	c.verdict("etcd rights", err, "may read and write the keys below "+prefix)
}

func (c *Checkup) databases(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, databaseCheckTimeout)
	defer cancel()
	c.database(bounded, "database", c.config.Store(), c.config.Shared(), func(db *store.DB) {
		lab := Lab{Config: c.config, Main: admin.New(db)}
		c.verdict("cluster", lab.MayChange(bounded), fmt.Sprintf("the lab may be led as %q", c.config.Cluster))
		shards, err := lab.shards(bounded)
		if err != nil {
			c.add("shards", CheckFailed, "%v", err)
		}
		for _, s := range shards {
			if s.DSN != "" {
				c.database(bounded, "database of shard "+s.Name.String(), c.config.ShardStore(s.Name, s.DSN), false, func(*store.DB) {})
			}
		}
	})
	if cfg, own := c.config.ServersStore(); own {
		c.servers(bounded, cfg)
	}
}

// database looks at one database, and at more of it if it fits.
func (c *Checkup) database(ctx context.Context, name string, cfg sqldb.Config, shared bool, more func(*store.DB)) {
	asked := time.Now()
	db, err := store.Open(ctx, cfg)
	if err != nil {
		c.add(name, CheckFailed, "%v", err)
		return
	}
	defer func() { _ = db.Close() }() // it was only read
	c.add(name, CheckOK, "%s at %s, answers within %v", db.Server(), db.Target(), time.Since(asked).Round(time.Millisecond))
	fits := c.schema(ctx, name+": schema and rights", db, shared)
	c.guard(ctx, name, db)
	if ahead, err := db.ClockAhead(ctx); err != nil {
		c.add(name+": clock", CheckFailed, "%v", err)
	} else {
		c.warn(name+": clock", store.Skew("the database", ahead), fmt.Sprintf("within %v of this machine's", ahead.Abs().Round(time.Millisecond)))
	}
	if fits {
		more(db)
	}
}

// schema tells whether the schema fits. A standalone server brings its own up to its version.
func (c *Checkup) schema(ctx context.Context, name string, db *store.DB, shared bool) (fits bool) {
	err := schema.Check(ctx, db.DB, schema.Use{StaticLabels: c.config.Labels.RespectStatic, Shared: shared})
	if st, sterr := schema.ReadStatus(ctx, db.DB); err != nil && c.config.Standalone && sterr == nil && st.Schema < st.Wanted {
		c.add(name, CheckWarning, "version %d; the next start of the server brings it to version %d, and keeps a copy of what it was", st.Schema, st.Wanted)
		return false
	}
	return c.verdict(name, err, fmt.Sprintf("version %d, with all rights that a replica needs", schema.SchemaVersion))
}

func (c *Checkup) guard(ctx context.Context, name string, db *store.DB) {
	has, err := schema.HasGuard(ctx, db.DB)
	switch {
	case err != nil:
		c.add(name+": guard", CheckFailed, "%v", err)
	case !has:
		c.add(name+": guard", CheckWarning, "not installed: the database itself does not refuse a second active entry for a host; 'hostsched migrate up --guard' installs it")
	default:
		c.add(name+": guard", CheckOK, "installed")
	}
}

func (c *Checkup) servers(ctx context.Context, cfg sqldb.Config) {
	const name = "database of servers"
	db, err := store.Open(ctx, cfg)
	if err != nil {
		c.add(name, CheckFailed, "%v", err)
		return
	}
	defer func() { _ = db.Close() }() // it was only read
	has, err := admin.New(db).HasServers(ctx)
	if err == nil && !has {
		err = fmt.Errorf("%w: %s has no servers table; check servers.dsn", sqldb.ErrSchema, db.Target())
	}
	c.verdict(name, err, db.Server()+" at "+db.Target())
}
