package main

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// longTTL is so long that no test here passes by waiting for a lease.
const longTTL = "30s"

// TestDeathIsNoticedByThePeers: the shards of a server that is killed, or stopped, go to
// others long before its leases expire, and the history says why.
func TestDeathIsNoticedByThePeers(t *testing.T) {
	in := newInstallation(t, failoverLab, 3, withShards(3, 3), func(_ *testing.T, in *installation) { in.args = append(in.args, "--etcd-ttl", longTTL) })
	stopSimulator := in.simulate(t, busy)
	for _, fault := range []struct {
		name, cause  string
		bound        time.Duration
		break_, mend func(*server, *testing.T)
	}{
		{"kill -9", "crashed", 2 * time.Second, (*server).kill, (*server).start},
		{"SIGSTOP", "silent", 5 * time.Second, func(s *server, t *testing.T) { s.signal(t, syscall.SIGSTOP) }, func(s *server, t *testing.T) { s.signal(t, syscall.SIGCONT) }},
	} {
		victim, names, _, old := in.victim(t)
		fault.break_(victim, t)
		took := in.allTakenOver(t, names, old, time.Now())
		t.Logf("%s of a server that leads %d shards: all taken over after %v", fault.name, len(names), took.Round(time.Millisecond))
		require.Less(t, took, fault.bound)
		for _, name := range names {
			in.requireCause(t, name, old[name].Epoch, "^"+fault.cause+"$")
		}
		fault.mend(victim, t)
	}
	in.followersReady(t)
	stopSimulator()
	in.requireNothingTwice(t)
	in.requireOrderedEpochs(t)
}

// requireCause waits until the history says why a term ended, something that the pattern
// describes, and returns what it says of that term.
func (in *installation) requireCause(t *testing.T, name shard.Name, epoch int64, pattern string) (ended store.Term) {
	t.Helper()
	of := func(term store.Term) bool { return term.Epoch == epoch }
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		terms, err := in.db.Terms(context.Background(), name, 20)
		require.NoError(t, err)
		i := slices.IndexFunc(terms, of)
		require.GreaterOrEqual(t, i, 0, "shard %s has a term with epoch %d: %+v", name, epoch, terms)
		require.Regexp(t, pattern, terms[i].Cause, "why the term of shard %s with epoch %d ended: %+v", name, epoch, terms)
		ended = terms[i]
	}, patience, 5*time.Millisecond)
	return ended
}

// TestServerLosesTheDatabase: a leader that reaches etcd but not the database hands its
// shards over long before its statements time out, and nobody waits for a server that
// could not take over.
func TestServerLosesTheDatabase(t *testing.T) {
	in := newInstallation(t, failoverLab, 3, withShards(3, 3), func(_ *testing.T, in *installation) { in.links = true })
	stopSimulator := in.simulate(t, busy)
	blind, names, _, old := in.victim(t)
	blind.dbLink.Cut(t)
	took := in.allTakenOver(t, names, old, time.Now())
	t.Logf("database lost by a server that leads %d shards: all taken over after %v", len(names), took.Round(time.Millisecond))
	require.LessOrEqual(t, took, maxFailover)
	for _, name := range names {
		in.requireCause(t, name, old[name].Epoch, "^lost the database$")
	}

	// A leader dies while a standby is blind: the shards go to the one that can lead.
	in.spread(t, 4, 2)
	leaders, old := in.ledByEach(t, slices.DeleteFunc(slices.Clone(in.replicas), func(s *server) bool { return s == blind }))
	victim := in.busiest(leaders)
	names = ledBy(leaders, victim)
	victim.kill(t)
	took = in.allTakenOver(t, names, old, time.Now())
	t.Logf("a leader killed while a standby has lost the database: all taken over after %v", took.Round(time.Millisecond))
	require.LessOrEqual(t, took, maxFailover)
	in.ledByEach(t, slices.DeleteFunc(slices.Clone(in.replicas), func(s *server) bool { return s == blind || s == victim }))
	blind.dbLink.Heal(t)
	victim.start(t)
	in.followersReady(t)
	in.balanced(t)
	stopSimulator()
	in.requireNothingTwice(t)
	in.requireOrderedEpochs(t)
}

// TestWrongVerdict: a leader that lives, but that no other replica can hear, loses its
// shards. That harms nothing but time, the history says so, and the others are more
// patient with it afterwards.
func TestWrongVerdict(t *testing.T) {
	in := newInstallation(t, failoverLab, 3, withShards(3, 3), func(_ *testing.T, in *installation) { in.links = true })
	stopSimulator := in.simulate(t, busy)
	victim, names, _, old := in.victim(t)
	victim.peerLink.Cut(t)
	took := in.allTakenOver(t, names, old, time.Now())
	t.Logf("a server that nobody hears, with %d shards: all taken over after %v", len(names), took.Round(time.Millisecond))
	for _, name := range names {
		in.requireCause(t, name, old[name].Epoch, "^silent, but it lived: ")
	}
	victim.counts(t, "hostsched_needless_takeovers_total", 1)
	victim.peerLink.Heal(t)
	in.followersReady(t)
	leaders, before := in.balanced(t)

	// The same silence again is not long enough now.
	names = ledBy(leaders, victim)
	victim.peerLink.Cut(t)
	testserver.Throughout(t, func() bool {
		now := in.epochs(t)
		return !slices.ContainsFunc(names, func(name shard.Name) bool { return now[name].Epoch != before[name].Epoch })
	}, 2*time.Second, 50*time.Millisecond)
	victim.peerLink.Heal(t)
	stopSimulator()
	in.requireNothingTwice(t)
	in.requireOrderedEpochs(t)
}
