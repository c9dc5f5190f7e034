package shard

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// Tier orders servers. A server of a higher tier leads only if no server of a lower tier
// can.
type Tier int

// Servers are of one of these tiers.
const (
	Primary Tier = iota
	Backup
)

// These are added to the tier of a server. One that failed to lead a shard a while ago
// leads it only if all others failed too, or are gone. One that has lost the shard's
// database now comes after those: what made all of them fail may be over.
const (
	avoidTiers = 2
	lostTiers  = 4
)

// Server is a server that may lead.
type Server struct {
	Name string
	Tier Tier
	// Weight is the server's share of shards in proportion to the weights of the others.
	// 0 counts as 1.
	Weight int
	// Established is true once the server has been a member of the cluster for the
	// hold-off. Until then it may lead shards that nobody leads, but no shard is
	// handed over to it.
	Established bool
	// Avoids are shards that the server recently failed to lead.
	Avoids map[Name]bool
	// Lost are shards whose own database the server cannot reach now; LostAll is true
	// while it cannot reach the main one.
	Lost    map[Name]bool
	LostAll bool
}

func (s *Server) weight() float64 { return float64(max(1, s.Weight)) }

func (s *Server) tier(name Name) Tier {
	switch {
	case s.LostAll || s.Lost[name]:
		return s.Tier + lostTiers
	case s.Avoids[name]:
		return s.Tier + avoidTiers
	}
	return s.Tier
}

// Leadership says which server leads a shard now, and which one was requested to lead it.
type Leadership struct {
	Shard Name
	// Holder is the server with the oldest candidate's key, which leads or is about to
	// lead. It is empty if there is none.
	Holder string
	// Wanted is the server of a switchover request, empty if there is none.
	Wanted string
}

// capacitySlack is how far a server may be above its share of shards before some
// are moved away. A smaller imbalance is not worth the moves, because scheduling
// pauses shortly at each.
const capacitySlack = 1.25

// Place decides which server should lead which shard. The result follows from what all
// replicas see alone, so all of them come to the same result.
//
// A holder keeps its shard unless a switchover to another server was requested,
// there is a server of a lower tier, the holder leads more shards than its capacity
// (Bound), or another server leads too few (Floor). A shard without holder goes to
// the server with the best rendezvous score among those of the lowest tier that are
// below their share.
func Place(servers []Server, leaderships []Leadership) map[Name]string {
	if len(servers) == 0 {
		return map[Name]string{}
	}
	p := newPlacement(servers, leaderships)
	for _, leadership := range p.leaderships {
		p.keep(leadership)
	}
	for _, leadership := range p.leaderships {
		if _, done := p.placed[leadership.Shard]; !done {
			p.choose(leadership)
		}
	}
	p.balance()
	return p.placed
}

// Heir guesses which server will lead a shard when its holder is gone: the one with
// the best rendezvous score among the others of the lowest tier, or "" if there is
// none. Place may decide otherwise, because it spreads a holder's shards over all
// others. The guess only decides which server reads the lab in advance.
func Heir(servers []Server, leadership Leadership) string {
	var heir *Server
	for i := range servers {
		s := &servers[i]
		if s.Name == leadership.Holder {
			continue
		}
		if heir == nil || s.tier(leadership.Shard) < heir.tier(leadership.Shard) ||
			s.tier(leadership.Shard) == heir.tier(leadership.Shard) && score(leadership.Shard, s) > score(leadership.Shard, heir) {
			heir = s
		}
	}
	if heir == nil {
		return ""
	}
	return heir.Name
}

// Bound is the largest number of shards that a server of this weight leads, of n
// shards over servers with a total weight, once all are established.
func Bound(n int, weight, total float64) int {
	return int(math.Ceil(capacitySlack*float64(n)*weight/total - 1e-9))
}

// Floor is the smallest number of shards that an established server leads, of n shards
// over so many servers with a total weight: at least one, if there are enough.
func Floor(n, servers int, weight, total float64) int {
	least := int(math.Floor(float64(n)*weight/total/capacitySlack + 1e-9))
	if least == 0 && n >= servers {
		return 1
	}
	return least
}

type placement struct {
	servers     map[string]*Server
	names       []string     // sorted
	leaderships []Leadership // sorted
	placed      map[Name]string
	load        map[string]int
	// even is the share of each server, room how many shards it may lead at most, and
	// floor how many it should lead at least.
	even  map[string]int
	room  map[string]int
	floor map[string]int
	// pinned are the shards that a switchover request placed.
	pinned map[Name]bool
}

func newPlacement(servers []Server, leaderships []Leadership) *placement {
	p := &placement{
		servers:     make(map[string]*Server, len(servers)),
		leaderships: slices.SortedFunc(slices.Values(leaderships), func(a, b Leadership) int { return cmp.Compare(a.Shard, b.Shard) }),
		placed:      make(map[Name]string, len(leaderships)),
		load:        make(map[string]int, len(servers)),
		even:        make(map[string]int, len(servers)),
		room:        make(map[string]int, len(servers)),
		floor:       make(map[string]int, len(servers)),
		pinned:      make(map[Name]bool),
	}
	lowest, total := servers[0].Tier, 0.0
	for i := range servers {
		p.servers[servers[i].Name] = &servers[i]
		lowest = min(lowest, servers[i].Tier)
	}
	// Shares are computed over the servers to which shards may be handed over. If a
	// new server counted before it is established, shards would move among the others
	// and soon move again.
	peers, establishedOnly := 0, slices.ContainsFunc(servers, func(s Server) bool { return s.Tier == lowest && s.Established })
	for _, s := range p.servers {
		if s.Tier == lowest && (s.Established || !establishedOnly) {
			total += s.weight()
			peers++
		}
	}
	for _, s := range p.servers {
		share := float64(len(leaderships)) * s.weight() / max(total, s.weight())
		p.even[s.Name] = int(math.Ceil(share - 1e-9))
		p.room[s.Name] = Bound(len(leaderships), s.weight(), max(total, s.weight()))
		if s.Tier == lowest {
			p.floor[s.Name] = Floor(len(leaderships), peers, s.weight(), total)
		}
	}
	p.names = slices.Sorted(maps.Keys(p.servers))
	return p
}

// bestTier returns the lowest tier among servers for a shard.
func (p *placement) bestTier(name Name, establishedOnly bool) (best Tier, ok bool) {
	for _, s := range p.servers {
		if establishedOnly && !s.Established {
			continue
		}
		if t := s.tier(name); !ok || t < best {
			best, ok = t, true
		}
	}
	return best, ok
}

// keep leaves a shard with its holder, or follows a switchover request, if the
// server may lead the shard.
func (p *placement) keep(leadership Leadership) {
	anyBest, _ := p.bestTier(leadership.Shard, false)
	if s := p.servers[leadership.Wanted]; s != nil && s.tier(leadership.Shard) == anyBest {
		p.put(leadership.Shard, s.Name)
		p.pinned[leadership.Shard] = true
		return
	}
	holder := p.servers[leadership.Holder]
	if holder == nil {
		return
	}
	if best, ok := p.bestTier(leadership.Shard, true); ok && best < holder.tier(leadership.Shard) {
		return
	}
	p.put(leadership.Shard, holder.Name)
}

// put places a shard on a server.
func (p *placement) put(name Name, server string) {
	p.placed[name] = server
	p.load[server]++
}

// choose finds a server for a shard that has no holder, or whose holder must not keep it.
// It takes the server with the best score among those below their share, so that the
// shards of a lost server are spread over all others. Only established servers take a
// shard over from a holder.
func (p *placement) choose(leadership Leadership) {
	establishedOnly := p.servers[leadership.Holder] != nil
	tier, _ := p.bestTier(leadership.Shard, establishedOnly)
	best, least := "", ""
	for _, name := range p.names {
		s := p.servers[name]
		if s.tier(leadership.Shard) != tier || establishedOnly && !s.Established {
			continue
		}
		if least == "" || p.fill(name) < p.fill(least) {
			least = name
		}
		if p.load[name] < p.even[name] && (best == "" || p.score(leadership.Shard, name) > p.score(leadership.Shard, best)) {
			best = name
		}
	}
	if best == "" {
		best = least
	}
	p.put(leadership.Shard, best)
}

// fill is how many shards a server leads in proportion to its weight.
func (p *placement) fill(name string) float64 {
	return float64(p.load[name]) / p.servers[name].weight()
}

// balance moves shards, one by one, away from servers above their capacity and to
// servers below their floor. Only established servers get shards by this. Shards
// whose score rises most move first.
func (p *placement) balance() {
	for {
		move, to := p.bestMove()
		if to == "" {
			return
		}
		p.load[p.placed[move]]--
		p.put(move, to)
	}
}

// bestMove finds the most useful move. It returns no server if no move is useful.
func (p *placement) bestMove() (move Name, to string) {
	best, most := math.Inf(-1), noUse
	for _, leadership := range p.leaderships {
		from := p.placed[leadership.Shard]
		if p.pinned[leadership.Shard] {
			continue
		}
		tier := p.servers[from].tier(leadership.Shard)
		for _, name := range p.names {
			s := p.servers[name]
			if !s.Established || s.tier(leadership.Shard) > tier {
				continue
			}
			use := p.use(from, name)
			if use == noUse || use < most {
				continue
			}
			gain := p.score(leadership.Shard, name) - p.score(leadership.Shard, from)
			if use > most || gain > best {
				best, most, move, to = gain, use, leadership.Shard, name
			}
		}
	}
	return move, to
}

// use says how useful it is to move a shard. The most useful moves are made first, so that
// as few as possible are needed. The values are in ascending order of usefulness.
type use int

const (
	noUse use = iota
	fillsFloor
	freesRoom
	doesBoth
)

// use says how useful it is to move a shard from one server to another.
func (p *placement) use(from, to string) use {
	over, poor := p.load[from] > p.room[from], p.load[to] < p.floor[to]
	switch {
	case over && poor:
		return doesBoth
	case over && p.load[to] < p.room[to]:
		return freesRoom
	case poor && p.load[from] > p.floor[from] && p.load[from] > p.load[to]+1:
		return fillsFloor
	}
	return noUse
}

// score is the rendezvous score of a server for a shard. The server with the greatest
// score is chosen, and each server's chance to have it is proportional to its weight.
func (p *placement) score(name Name, server string) float64 { return score(name, p.servers[server]) }

func score(name Name, s *Server) float64 {
	return -s.weight() / math.Log(unit(name.String(), s.Name))
}

// unit hashes two names to a number between 0 and 1. It uses FNV-1a with a finalizer,
// because names that differ only in their last letter must not get similar numbers.
func unit(a, b string) float64 {
	h := uint64(14695981039346656037)
	for _, s := range [...]string{a, "\x00", b} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
	}
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	h ^= h >> 31
	return (float64(h>>11) + 0.5) / (1 << 53)
}
