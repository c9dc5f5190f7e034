package lab

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/hostsched/hostsched/store/sqldb"
)

// Bounds of waiting for ids of the journal that are missing.
const (
	// gapLasts is how long a reader of the journal waits for an id that is missing. Ids are given
	// out when rows are written and seen when they are committed, so a lower id may come later;
	// one that does not come was rolled back.
	gapLasts = 10 * time.Second
	// knownLasts is how long a watcher must have known what comes after a gap that is old by the
	// database's clock: commits that waited together may come in any order.
	knownLasts = time.Second
	// stepsLast is for how long it is believed which ids a server gives out.
	stepsLast = time.Second
)

// stepsOfServer is how far apart the ids are that one server gives out after another.
type stepsOfServer struct {
	mu   sync.Mutex
	read time.Time
	by   int64
}

// stepVariables are what decides that. Servers of a cluster that all take writes have ids of
// their own each, so there any id may be given out; the last two tell of such clusters.
const stepVariables = "'auto_increment_increment', 'wsrep_on', 'group_replication_single_primary_mode'"

// steps returns how far apart ids are if one server gives out all of them. It is 1 where every
// id may come.
func (l *Lab) steps(ctx context.Context) (int64, error) {
	s := &l.stepsOfServer
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) < stepsLast {
		return s.by, nil
	}
	s.by = 1
	if l.db.Dialect.Server != sqldb.ServerSQLite {
		have := map[string]string{}
		err := l.each(ctx, "read how the server gives out ids", "SHOW GLOBAL VARIABLES WHERE Variable_name IN ("+stepVariables+")", nil, func(scan sqldb.Scanner) error {
			var name, value string
			err := scan(&name, &value)
			have[name] = value
			return err
		})
		if err != nil {
			return 1, err
		}
		by, err := strconv.ParseInt(have["auto_increment_increment"], 10, 64)
		if err == nil && have["wsrep_on"] != "ON" && have["group_replication_single_primary_mode"] != "OFF" {
			s.by = by
		}
	}
	s.read = time.Now()
	return s.by, nil
}

// follows tells whether no id can come any more between two.
func follows(before, after, by int64) bool {
	return after == before+1 || after == before+by || before == 0 && after <= by
}

// known is since when this process has known ids of the journal, by its own clock: those of the
// servers that write the journal need not agree with that of the server that is read, and may
// jump.
type known struct {
	mu    sync.Mutex
	marks []mark
}

type mark struct {
	id int64
	at time.Time
}

// note remembers that ids up to one are there. Who read at the same time may have seen more.
func (k *known) note(id int64, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.marks) > 0 && id < k.marks[0].id { // another journal, as of a database that was restored
		k.marks = nil
	}
	if n := len(k.marks); n == 0 || id > k.marks[n-1].id {
		k.marks = append(k.marks, mark{id, now})
	}
	for len(k.marks) > 1 && now.Sub(k.marks[1].at) >= gapLasts {
		k.marks = k.marks[1:]
	}
}

// before returns the highest id that was known for so long, 0 if none was.
func (k *known) before(now time.Time, age time.Duration) (id int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range k.marks {
		if now.Sub(m.at) < age {
			break
		}
		id = m.id
	}
	return id
}

// settled returns an id before which no other can appear any more, of which old is so by the
// clock of the database. Who watches need not go by that alone.
func (k *known) settled(now time.Time, old int64, watching bool) int64 {
	if watching {
		old = min(old, k.before(now, knownLasts))
	}
	return max(old, k.before(now, gapLasts))
}
