package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// How long a status may take. What has not answered by then is missing in it.
const (
	// partTimeout bounds the questions to etcd and to the main database.
	partTimeout = 1400 * time.Millisecond
	// replicaTimeout bounds those to replicas and to databases of single shards, which
	// come after.
	replicaTimeout = 1200 * time.Millisecond
	// askedAtOnce bounds how many of them are asked at a time.
	askedAtOnce = 64
)

// StatusReader asks who leads what, as often as Read is called. It keeps the databases
// open in between.
type StatusReader struct {
	config *config.Config
	client *clientv3.Client

	mu   sync.Mutex
	open map[string]*store.DB // by DSN
}

// NewStatusReader returns a StatusReader that asks the etcd of a client and the
// databases of a configuration, which it opens when they are asked first.
func NewStatusReader(c *config.Config, client *clientv3.Client) *StatusReader {
	return &StatusReader{config: c, client: client, open: map[string]*store.DB{}}
}

// Close closes the databases.
func (r *StatusReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	for _, db := range r.open {
		err = errors.Join(err, db.Close())
	}
	clear(r.open)
	return err
}

// facts are what a status is made of.
type facts struct {
	cluster string
	now     time.Time

	etcd    etcdFacts
	etcdErr error

	database    databaseFacts
	databaseErr error
	// own are what the databases of single shards say.
	own map[shard.Name]ownFacts

	// answers are what the replicas say of themselves, by address.
	answers map[string]answer
}

type etcdFacts struct {
	view election.View
	// clusters are those that there are in etcd, if it does not know this one.
	clusters []string
}

type databaseFacts struct {
	shards    []admin.Shard
	bare      bool
	fences    map[shard.Name]store.Fence
	histories map[shard.Name]store.History
	// holders are the processes that led lately, the latest first.
	holders []string
	// ahead is how far the database's clock is ahead of ours.
	ahead time.Duration
}

type ownFacts struct {
	databaseFacts
	err error
}

// answer is what a replica said of itself, or why it said nothing.
type answer struct {
	status web.ServerStatus
	err    error
	at     time.Time
}

// Read asks etcd and the database at the same time, and then all replicas, those that
// only one of the two knows included. What does not answer in time is missing, and the
// status says why. Only what is wrong with the configuration is an error.
func (r *StatusReader) Read(ctx context.Context) (ClusterStatus, error) {
	f := facts{cluster: r.config.Cluster, own: map[shard.Name]ownFacts{}}
	first, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	var asking sync.WaitGroup
	asking.Go(func() { f.etcd, f.etcdErr = within(first, r.askEtcd) })
	asking.Go(func() { f.database, f.databaseErr = within(first, r.askDatabase) })
	asking.Wait()
	if errors.Is(f.databaseErr, sqldb.ErrDSN) || errors.Is(f.databaseErr, sqldb.ErrNotLocal) {
		return ClusterStatus{}, f.databaseErr
	}
	second, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	var etcdErr error
	asking.Go(func() { f.own = r.askOwnDatabases(second, f.database.shards) })
	asking.Go(func() { etcdErr = r.config.EtcdConnection().Explain(second, f.etcdErr) })
	f.answers = askReplicas(second, webClient(r.config), f.addresses())
	asking.Wait()
	f.etcdErr = etcdErr
	f.now = time.Now()
	return f.status(), nil
}

// within returns what ask returns, or after the end of ctx its error: not everything
// that may hang heeds a context.
func within[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	answered := make(chan result, 1)
	go func() {
		value, err := ask(ctx)
		answered <- result{value, err}
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-answered:
		return a.value, a.err
	case <-time.After(replicaTimeout / 10): // to say why
		return *new(T), fmt.Errorf("no answer within %v: %w", partTimeout, ctx.Err())
	}
}

func (r *StatusReader) askEtcd(ctx context.Context) (e etcdFacts, err error) {
	if e.view, err = election.Look(ctx, r.client, r.config.Cluster); err != nil {
		return e, err
	}
	if len(e.view.Servers) == 0 && len(e.view.Shards) == 0 {
		e.clusters, err = election.Clusters(ctx, r.client)
	}
	return e, err
}

// database opens a database, or returns it if it is open.
func (r *StatusReader) database(ctx context.Context, cfg sqldb.Config) (*store.DB, error) {
	r.mu.Lock()
	db := r.open[cfg.DSN]
	r.mu.Unlock()
	if db != nil {
		return db, nil
	}
	db, err := openToRead(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[cfg.DSN] = db
	return db, nil
}

func (r *StatusReader) askDatabase(ctx context.Context) (d databaseFacts, err error) {
	db, err := r.database(ctx, r.config.Store())
	if err != nil {
		return d, err
	}
	lab := Lab{Config: r.config, Main: admin.New(db)}
	if d.bare, err = isBare(ctx, lab.Main); err != nil {
		return d, err
	}
	if d.shards, err = lab.shards(ctx); err != nil || d.bare {
		return d, err
	}
	return d, d.read(ctx, db)
}

// read reads what a database says of all its shards, in a few queries.
func (d *databaseFacts) read(ctx context.Context, db *store.DB) (err error) {
	if d.ahead, err = db.ClockAhead(ctx); err != nil {
		return err
	}
	if d.fences, err = db.Fences(ctx); err != nil {
		return err
	}
	if d.histories, err = db.Histories(ctx); err != nil {
		return err
	}
	d.holders, err = db.Holders(ctx)
	return err
}

// askOwnDatabases asks the databases of those shards that have one.
func (r *StatusReader) askOwnDatabases(ctx context.Context, shards []admin.Shard) map[shard.Name]ownFacts {
	shards = slices.DeleteFunc(slices.Clone(shards), func(s admin.Shard) bool { return s.DSN == "" })
	answers := inParallel(shards, func(s admin.Shard) ownFacts {
		d, err := within(ctx, func(ctx context.Context) (d databaseFacts, err error) {
			db, err := r.database(ctx, r.config.ShardStore(s.Name, s.DSN))
			if err != nil {
				return d, err
			}
			return d, d.read(ctx, db)
		})
		return ownFacts{d, err}
	})
	out := map[shard.Name]ownFacts{}
	for i, s := range shards {
		out[s.Name] = answers[i]
	}
	return out
}

func askReplicas(ctx context.Context, ask web.Client, addresses []string) map[string]answer {
	answers := inParallel(addresses, func(address string) answer {
		status, err := ask.ReadStatus(ctx, address, replicaTimeout)
		return answer{status, err, time.Now()}
	})
	out := map[string]answer{}
	for i, address := range addresses {
		out[address] = answers[i]
	}
	return out
}

// inParallel asks a bounded number at a time.
func inParallel[A, B any](all []A, ask func(A) B) []B {
	out := make([]B, len(all))
	room := make(chan struct{}, askedAtOnce)
	var asking sync.WaitGroup
	for i, a := range all {
		room <- struct{}{}
		asking.Go(func() {
			out[i] = ask(a)
			<-room
		})
	}
	asking.Wait()
	return out
}

// replicas are the servers that etcd or the history knows, and where their pages are.
// What etcd says is newer.
func (f *facts) replicas() map[string]string {
	out := map[string]string{}
	for _, holder := range f.database.holders {
		server, address := store.SplitHolder(holder)
		if _, known := out[server]; !known && address != "" && f.etcdErr != nil {
			out[server] = address
		}
	}
	for _, m := range f.etcd.view.Servers {
		out[m.Server] = m.URL()
	}
	return out
}

func (f *facts) addresses() []string {
	all := slices.Collect(maps.Values(f.replicas()))
	slices.SortFunc(all, cmp.Compare[string])
	return slices.Compact(all)
}
