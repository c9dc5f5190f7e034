package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/spelling"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Errors of the packages below that callers tell apart who know nothing of databases.
var (
	ErrInput     = admin.ErrInput
	ErrNoShard   = store.ErrNoShard
	ErrNotPaused = admin.ErrNotPaused
)

// Lab is a lab as commands see it: a configuration, and the main database that it
// names.
type Lab struct {
	Config *config.Config
	Main   *admin.Lab
}

// Shard is a shard that a command works on, and where its rows are.
type Shard struct {
	admin.Shard
	// DB is the shard's own database, or the main one.
	DB *admin.Lab
	// Scope is what a replica with the same configuration would read of DB.
	Scope store.Scope
	// Rules are whose rules are in Scope.
	Rules PlanRules
}

// By says who changes something, and why. Both go into the audit record.
type By struct {
	Who, Reason string
}

// Name checks the name of a shard as somebody typed it. Without one it is the
// shard of the configuration, or the master.
func (l Lab) Name(arg string) (shard.Name, error) {
	if arg == "" {
		return l.Config.Scope().Shard, nil
	}
	return shard.Parse(arg)
}

// Find looks a shard up by the name that somebody typed. Every command that
// takes a shard asks here, so that all of them refuse the same names in the same
// words.
func (l Lab) Find(ctx context.Context, arg string) (admin.Shard, error) {
	name, err := l.Name(arg)
	if err != nil {
		return admin.Shard{}, err
	}
	all, err := l.shards(ctx)
	if err != nil {
		return admin.Shard{}, err
	}
	if i := slices.IndexFunc(all, func(s admin.Shard) bool { return s.Name == name && s.NotServed == "" }); i >= 0 {
		return all[i], nil
	}
	if i := slices.IndexFunc(all, func(s admin.Shard) bool { return s.Name == name }); i >= 0 {
		return admin.Shard{}, fmt.Errorf("%w: shard %s (row %d of afe_shards) is not served: %s; rename or remove it", admin.ErrInput, name, all[i].ID, all[i].NotServed)
	}
	return l.findAlike(ctx, name, all)
}

// findAlike looks for the shard whose name the database takes for the one that somebody typed.
func (l Lab) findAlike(ctx context.Context, name shard.Name, all []admin.Shard) (admin.Shard, error) {
	if bare, err := isBare(ctx, l.Main); err != nil || bare {
		return admin.Shard{}, errors.Join(err, noShard(name, all))
	}
	row, ok, err := l.Main.Named(ctx, name)
	if err != nil {
		return admin.Shard{}, err
	}
	if i := slices.IndexFunc(all, func(s admin.Shard) bool { return s.ID == row && s.NotServed == "" }); ok && i >= 0 {
		return all[i], nil
	}
	return admin.Shard{}, noShard(name, all)
}

// mostListed is how many shards an error lists.
const mostListed = 10

func noShard(name shard.Name, all []admin.Shard) error {
	known := names(served(all))
	near, list := spelling.Likely(name.String(), known), strings.Join(known, ", ")
	if near != "" {
		near = "did you mean " + near + "? "
	}
	if len(known) > mostListed {
		list = fmt.Sprintf("%d, which 'hostsched shard list' lists", len(known))
	}
	return fmt.Errorf("%w: %s; %sthere are %s", store.ErrNoShard, name, near, list)
}

// FindRow looks a shard up by the name in afe_shards, however odd that is, or, if row
// is not 0, by its id. So it also finds what no replica can lead.
func (l Lab) FindRow(ctx context.Context, arg string, row shard.ID) (admin.Shard, error) {
	all, err := l.shards(ctx)
	if err != nil {
		return admin.Shard{}, err
	}
	var found []admin.Shard
	for _, s := range all {
		if row != 0 && s.ID == row || row == 0 && (s.Name.String() == arg || shard.Printable(s.Name.String()) == arg) {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return admin.Shard{}, fmt.Errorf("%w: %d rows of afe_shards have the name %q; say which with --row, see 'hostsched shard list -o wide'", admin.ErrInput, len(found), arg)
	case row != 0:
		return admin.Shard{}, fmt.Errorf("%w: afe_shards has no row %d; see 'hostsched shard list -o wide'", store.ErrNoShard, row)
	}
	return l.Find(ctx, arg)
}

// served leaves out what no replica can lead.
func served(all []admin.Shard) (out []admin.Shard) {
	for _, s := range all {
		if s.NotServed == "" {
			out = append(out, s)
		}
	}
	return out
}

// shards lists the shards that there are under this configuration. A
// configuration that names one shard gives it the main database, whatever the
// tables say of it; and a database without hostsched's tables is one shard's as a
// whole.
func (l Lab) shards(ctx context.Context) ([]admin.Shard, error) {
	configured := admin.Shard{Name: l.Config.Scope().Shard, Labels: []string{}}
	bare, err := isBare(ctx, l.Main)
	if err != nil || bare {
		return []admin.Shard{configured}, err
	}
	all, err := l.Main.Shards(ctx)
	if err != nil || l.Config.Shared() {
		return all, err
	}
	if err := l.Main.RequireShard(ctx, configured.Name); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(s admin.Shard) bool { return s.Name == configured.Name && s.NotServed == "" })
	if i < 0 {
		return append(all, configured), nil
	}
	all[i].DSN = ""
	return all, nil
}

// MayChange refuses to change a lab that has not the shard, or belongs to another cluster,
// than the configuration says: whoever mistypes a name, or the database, would change a lab
// that is not meant.
func (l Lab) MayChange(ctx context.Context) error {
	if bare, err := isBare(ctx, l.Main); err != nil || bare {
		return err
	}
	all, err := l.shards(ctx)
	if err != nil || !l.Config.NamesCluster() {
		return err
	}
	var fences []shard.Name
	for _, s := range all {
		if s.DSN == "" && (l.Config.Shared() || s.Name == l.Config.Scope().Shard) {
			fences = append(fences, s.Name)
		}
	}
	return l.Main.RequireCluster(ctx, l.Config.Cluster, fences)
}

func names(shards []admin.Shard) []string {
	out := make([]string, len(shards))
	for i, s := range shards {
		out[i] = s.Name.String()
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}

// isBare tells whether a database lacks hostsched's tables, or some of them. Such
// a database can be read, for example to try a plan on it.
func isBare(ctx context.Context, db *admin.Lab) (bool, error) {
	st, err := schema.ReadStatus(ctx, db.DB.DB)
	return st.Schema < schema.SchemaVersion, err
}

// OnShard finds a shard by the name that somebody typed and does something where
// its rows are.
func (l Lab) OnShard(ctx context.Context, arg string, work func(Shard) error) error {
	s, err := l.Find(ctx, arg)
	if err != nil {
		return err
	}
	return l.on(ctx, s, work)
}

// on opens the database of a shard and finds out how its rows are read there.
func (l Lab) on(ctx context.Context, s admin.Shard, work func(Shard) error) error {
	scope := l.Config.Scope()
	if s.DSN == "" && !scope.Shared && s.Name != scope.Shard {
		return fmt.Errorf("%w: the configuration gives the whole of %s to shard %s, so nothing there belongs to shard %s; leave the setting 'shard' out, or name this shard with it",
			admin.ErrInput, l.Main.Target(), scope.Shard, s.Name)
	}
	scope.Shard = s.Name
	scope.Shared = scope.Shared && s.DSN == ""
	return l.inDatabase(ctx, s, func(db *admin.Lab) error {
		var err error
		if scope.Bare, err = isBare(ctx, db); err != nil {
			return err
		}
		if scope.Agents, err = l.Config.AgentsRun(ctx, l.Main.DB); err != nil {
			return err
		}
		return work(Shard{Shard: s, DB: db, Scope: scope})
	})
}

// openToRead opens a database for whoever only looks.
func openToRead(ctx context.Context, cfg sqldb.Config) (*store.DB, error) {
	cfg.ReadOnly = true
	return store.Open(ctx, cfg)
}

// inDatabase does something in the database of a shard. It is opened without a
// look at the privileges, so that whoever may only read can ask.
func (l Lab) inDatabase(ctx context.Context, s admin.Shard, work func(*admin.Lab) error) error {
	if s.DSN == "" {
		return work(l.Main)
	}
	open := l.Config.ShardStore(s.Name, s.DSN)
	open.ReadOnly = l.Main.Config.ReadOnly
	db, err := store.Open(ctx, open)
	if err != nil {
		return fmt.Errorf("the database of shard %s: %w", s.Name, err)
	}
	return errors.Join(work(admin.New(db)), db.Close())
}

// record notes in the main database what was changed in a shard's own one, which
// has a record of its own: people look into one log.
func (l Lab) record(ctx context.Context, s Shard, by By, action, detail string) error {
	if s.DB == l.Main {
		return nil
	}
	err := l.Main.AuditShard(ctx, by.Who, action, s.Name, strings.TrimSpace("in "+s.DB.Target()+": "+detail))
	if err != nil {
		return fmt.Errorf("%s of shard %s was done in %s, but %s has no record of it: %w", action, s.Name, s.DB.Target(), l.Main.Target(), err)
	}
	return nil
}

// ShardNames lists the names of all shards that are served.
func (l Lab) ShardNames(ctx context.Context) ([]string, error) {
	all, err := l.shards(ctx)
	return names(served(all)), err
}
