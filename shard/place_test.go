package shard_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hostsched/hostsched/shard"
)

func servers(n int) []shard.Server {
	var out []shard.Server
	for i := range n {
		out = append(out, shard.Server{Name: fmt.Sprintf("server-%d", i+1), Established: true})
	}
	return out
}

func vacant(n int) []shard.Leadership {
	var out []shard.Leadership
	for i := range n {
		out = append(out, shard.Leadership{Shard: shard.Name(fmt.Sprintf("shard-%d", i+1))})
	}
	return out
}

// hold returns the leaderships after a placement was carried out.
func hold(in []shard.Leadership, placed map[shard.Name]string) []shard.Leadership {
	out := make([]shard.Leadership, len(in))
	for i, s := range in {
		out[i] = shard.Leadership{Shard: s.Shard, Holder: placed[s.Shard]}
	}
	return out
}

func without(all []shard.Server, name string) []shard.Server {
	var out []shard.Server
	for _, s := range all {
		if s.Name != name {
			out = append(out, s)
		}
	}
	return out
}

func loads(placed map[shard.Name]string) (load map[string]int, most int) {
	load = map[string]int{}
	for _, server := range placed {
		load[server]++
		most = max(most, load[server])
	}
	return load, most
}

// moves counts the shards that moved, and those of them that had to move because their
// server is gone.
func moves(before, after map[shard.Name]string, gone string) (all, forced int) {
	for name, server := range before {
		if after[name] == server {
			continue
		}
		all++
		if server == gone {
			forced++
		}
	}
	return all, forced
}

func TestTwelveShardsOnThreeServers(t *testing.T) {
	all, in := servers(3), vacant(12)
	first := shard.Place(all, in)
	require.Len(t, first, 12)
	load, most := loads(first)
	require.LessOrEqual(t, most, 5, "%v", load)
	for _, gone := range all {
		two := shard.Place(without(all, gone.Name), hold(in, first))
		moved, forced := moves(first, two, gone.Name)
		require.Equal(t, load[gone.Name], forced, "its shards move")
		require.Equal(t, forced, moved, "and only its shards")

		back := shard.Place(all, hold(in, two))
		after, most := loads(back)
		require.LessOrEqual(t, most, 5)
		moved, _ = moves(two, back, "")
		require.Equal(t, max(needed(two, 5), shard.Floor(12, 3, 1, 3)), moved, "as many return as needed")
		require.Equal(t, moved, after[gone.Name])
		require.Equal(t, back, shard.Place(all, hold(in, back)), "then nothing moves any more")
	}
}

// needed is how many shards must move so that nobody leads more than bound.
func needed(placed map[shard.Name]string, bound int) int {
	load, _ := loads(placed)
	n := 0
	for _, l := range load {
		n += max(0, l-bound)
	}
	return n
}

// TestThousandShards simulates 1,000 shards on 50 servers. It lets each server fail and
// return, and logs how many shards moved.
func TestThousandShards(t *testing.T) {
	all, in := servers(50), vacant(1000)
	bound := shard.Bound(1000, 1, 50)
	now := shard.Place(all, in)
	_, most := loads(now)
	require.LessOrEqual(t, most, bound)
	worst, mostMoved, mostReturned := most, 0, 0
	for _, gone := range all {
		rest := without(all, gone.Name)
		had, _ := loads(now)
		next := shard.Place(rest, hold(in, now))
		moved, forced := moves(now, next, gone.Name)
		require.Equal(t, had[gone.Name], moved)
		require.Equal(t, forced, moved)
		_, most = loads(next)
		require.LessOrEqual(t, most, shard.Bound(1000, 1, 49))
		worst, mostMoved = max(worst, most), max(mostMoved, moved)

		now = shard.Place(all, hold(in, next))
		returned, _ := moves(next, now, "")
		require.Equal(t, max(needed(next, bound), shard.Floor(1000, 50, 1, 50)), returned)
		_, most = loads(now)
		require.LessOrEqual(t, most, bound)
		mostReturned = max(mostReturned, returned)
	}
	t.Logf("1000 shards on 50 servers: no server leads more than %d (bound %d, even share 20); the death of one moves at most %d, its return at most %d", worst, bound, mostMoved, mostReturned)
}

// TestReturnBeforeTheHoldOff checks that no shard moves to a server that has only just come
// back.
func TestReturnBeforeTheHoldOff(t *testing.T) {
	all, in := servers(3), vacant(12)
	two := shard.Place(all[1:], hold(in, shard.Place(all, in)))
	load, most := loads(two)
	require.Equal(t, 6, most, "what it led was spread evenly: %v", load)
	all[0].Established = false
	require.Equal(t, two, shard.Place(all, hold(in, two)))
}

func TestWeights(t *testing.T) {
	all := servers(3)
	all[0].Weight = 2
	placed := shard.Place(all, vacant(1000))
	load, _ := loads(placed)
	require.InDelta(t, 500, load["server-1"], 60)
	require.InDelta(t, 250, load["server-2"], 60)
}

func TestTiers(t *testing.T) {
	all := servers(3)
	all[2].Tier = shard.Backup
	in := vacant(6)
	placed := shard.Place(all, in)
	load, _ := loads(placed)
	require.Zero(t, load["server-3"], "no backup leads while primaries are there")

	onlyBackup := shard.Place(all[2:], hold(in, placed))
	load, _ = loads(onlyBackup)
	require.Equal(t, 6, load["server-3"], "primaries gone: the backup leads")

	all[0].Established, all[1].Established = false, false
	require.Equal(t, onlyBackup, shard.Place(all, hold(in, onlyBackup)), "primaries that have only just come back must be there for the hold-off first")
	all[0].Established, all[1].Established = true, true
	load, _ = loads(shard.Place(all, hold(in, onlyBackup)))
	require.Zero(t, load["server-3"], "then they get everything back")
}

func TestNewServersLeadWhatNobodyLeads(t *testing.T) {
	all := servers(1)
	all[0].Established = false
	placed := shard.Place(all, vacant(3))
	require.Len(t, placed, 3)
}

func TestWantedServer(t *testing.T) {
	all, in := servers(3), vacant(12)
	now := shard.Place(all, in)
	held := hold(in, now)
	for i := range held {
		held[i].Wanted = "server-2"
	}
	load, _ := loads(shard.Place(all, held))
	require.Equal(t, 12, load["server-2"], "what people ask for beats balance")
	all[1].Tier = shard.Backup
	require.NotEqual(t, "server-2", shard.Place(all, held)["shard-1"], "but not the order of tiers")
	require.NotContains(t, shard.Place(without(all, "server-2"), held), "server-2")
}

func TestAvoidedShard(t *testing.T) {
	all, in := servers(2), vacant(1)
	now := shard.Place(all, in)
	failed := map[shard.Name]bool{"shard-1": true}
	for i := range all {
		if all[i].Name == now["shard-1"] {
			all[i].Avoids = failed
		}
	}
	next := shard.Place(all, hold(in, now))
	require.NotEqual(t, now["shard-1"], next["shard-1"], "the server that did not fail gets it")
	all[0].Avoids, all[1].Avoids = failed, failed
	require.Equal(t, now, shard.Place(all, hold(in, now)), "failures everywhere: it stays")
}

// TestLostDatabase: a server that has lost the database of a shard now leads it only if
// nobody else can try, whatever failed before: what made all of them fail may be over.
func TestLostDatabase(t *testing.T) {
	const name = shard.Name("shard-1")
	names := map[shard.Name]bool{name: true}
	for what, lose := range map[string]func(*shard.Server){
		"the main database":      func(s *shard.Server) { s.LostAll = true },
		"the shard's own":        func(s *shard.Server) { s.Lost = names },
		"also failed before":     func(s *shard.Server) { s.LostAll, s.Avoids = true, names },
		"own, and failed before": func(s *shard.Server) { s.Lost, s.Avoids = names, names },
	} {
		for _, others := range []func(*shard.Server){
			func(*shard.Server) {},
			func(s *shard.Server) { s.Avoids = names },
			func(s *shard.Server) { s.Tier = shard.Backup },
			func(s *shard.Server) { s.Tier, s.Avoids = shard.Backup, names },
		} {
			for _, holder := range []string{"server-1", ""} {
				all := servers(3)
				lose(&all[0])
				others(&all[1])
				others(&all[2])
				led := []shard.Leadership{{Shard: name, Holder: holder}}
				require.NotEqual(t, "server-1", shard.Place(all, led)[name], "%s is lost; held by %q", what, holder)
				lose(&all[1])
				require.Equal(t, "server-3", shard.Place(all, led)[name], "only one has not lost it")
				require.Equal(t, "server-3", shard.Heir(all, led[0]))
				lose(&all[2])
				require.Contains(t, []string{"server-1", "server-2", "server-3"}, shard.Place(all, led)[name], "all have lost it")
			}
		}
	}
}

func TestPlaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := servers(rapid.IntRange(1, 6).Draw(t, "servers"))
		total := 0.0
		for i := range all {
			all[i].Weight = rapid.IntRange(0, 3).Draw(t, "weight")
			total += float64(max(1, all[i].Weight))
		}
		in := vacant(rapid.IntRange(0, 30).Draw(t, "shards"))
		for i := range in {
			in[i].Holder = rapid.SampledFrom([]string{"", "gone", all[0].Name, all[len(all)-1].Name}).Draw(t, "holder")
		}
		placed := shard.Place(all, in)
		require.Len(t, placed, len(in), "every shard has a server")
		require.Equal(t, placed, shard.Place(all, hold(in, placed)), "stable")
		load, _ := loads(placed)
		for _, s := range all {
			require.LessOrEqual(t, load[s.Name], shard.Bound(len(in), float64(max(1, s.Weight)), total))
		}
		require.Equal(t, placed, shard.Place(reversed(all), reversed(in)), "the order of the input is irrelevant")
	})
	require.Equal(t, 5, shard.Bound(12, 1, 3))
	require.Equal(t, 3, shard.Floor(12, 3, 1, 3))
	require.Equal(t, 1, shard.Floor(3, 3, 1, 3))
	require.Equal(t, 0, shard.Floor(2, 3, 1, 3))
	require.Zero(t, shard.Bound(0, 1, 3))
}

func reversed[T any](in []T) []T {
	out := make([]T, 0, len(in))
	for i := len(in) - 1; i >= 0; i-- {
		out = append(out, in[i])
	}
	return out
}

// TestHeir checks that the heir of a single shard is the server that Place would choose if
// the holder were gone.
func TestHeir(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var servers []shard.Server
		for i := range rapid.IntRange(0, 6).Draw(t, "servers") {
			servers = append(servers, shard.Server{
				Name: fmt.Sprintf("s%d", i), Tier: rapid.SampledFrom([]shard.Tier{shard.Primary, shard.Backup}).Draw(t, "tier"), Weight: rapid.IntRange(1, 3).Draw(t, "weight"), Established: true,
			})
		}
		leadership := shard.Leadership{Shard: shard.Name(rapid.SampledFrom([]string{"master", "a", "b"}).Draw(t, "shard")), Holder: "s0"}
		others := slices.DeleteFunc(slices.Clone(servers), func(s shard.Server) bool { return s.Name == "s0" })
		require.Equal(t, shard.Place(others, []shard.Leadership{{Shard: leadership.Shard}})[leadership.Shard], shard.Heir(servers, leadership))
	})
}
