package shard

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// Tier orders servers: one of a lower tier leads before any of a higher one.
type Tier int

// The tiers.
const (
	Primary Tier = iota
	Backup
)

// avoidTiers is added to the tier of a server that failed to lead a shard: it
// comes after all that did not fail, but it is better than none.
const avoidTiers = 2

// Server is a server that may lead.
type Server struct {
	Name string
	Tier Tier
	// Weight is its share of shards compared with others; 0 counts as 1.
	Weight int
	// Established is true once the server has been there for the hold-off. Until
	// then it may lead what nobody leads, but nothing is handed over to it.
	Established bool
	// Avoids are shards that the server lately failed to lead.
	Avoids map[Name]bool
}

func (s *Server) weight() float64 { return float64(max(1, s.Weight)) }

func (s *Server) tier(name Name) Tier {
	if s.Avoids[name] {
		return s.Tier + avoidTiers
	}
	return s.Tier
}

// Leadership is the leadership of a shard.
type Leadership struct {
	Shard Name
	// Holder is the server whose candidate's key is the oldest; it leads, or is
	// about to. Empty if there is none.
	Holder string
	// Wanted is the server that somebody asked for, empty if nobody did.
	Wanted string
}

// capacitySlack is how far a server may be above its share of shards before some
// are moved away: balance is worth a quarter, not more, because every move is a
// short pause.
const capacitySlack = 1.25

// Place decides which server should lead which shard. It is a function of what
// all replicas see, so all of them come to the same result.
//
// A holder keeps its leadership unless somebody asked for another server, a server of
// a lower tier is there, it holds more than its capacity (Bound), or another one
// holds too little (Floor). A leadership
// without holder goes to the server that rendezvous hashing likes best among
// those of the lowest tier that are below their share.
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

// Heir guesses which server will lead a shard when its holder is gone: of the
// others of the lowest tier the one that rendezvous hashing likes best; "" if
// there is none. Place may decide otherwise, so that a holder's shards are spread
// over all others; to be prepared, a guess is enough.
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
	// even is a server's share of the shards, room what it may have at most,
	// floor what it should have at least.
	even  map[string]int
	room  map[string]int
	floor map[string]int
	// pinned leaderships are where somebody wanted them.
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
	// Shares are of the servers that shards may be handed over to. Before a new
	// one is established, moving shards among the others would only be undone.
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

// keep leaves a leadership where it is, or puts it where it is wanted, if that may be.
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

func (p *placement) put(name Name, server string) {
	p.placed[name] = server
	p.load[server]++
}

// choose finds a server for a shard that has none, or a better one than its
// holder: the one it likes best among those below their share, so that what a
// dead server led is spread over all others. Only established servers take a leadership
// from a holder.
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

// fill is how many shards a server leads for its weight.
func (p *placement) fill(name string) float64 {
	return float64(p.load[name]) / p.servers[name].weight()
}

// balance moves leaderships from servers above their capacity to established ones below,
// and to established ones below their floor, one by one, those first that gain most
// by it.
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

// use says how useful it is to move a leadership. The most useful moves come first, so
// that as few as possible are needed.
type use int

const (
	noUse use = iota
	fillsFloor
	freesRoom
	doesBoth
)

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

// score is the rendezvous score of a server for a shard: the greatest wins. With
// weights w the chance to win is proportional to w.
func (p *placement) score(name Name, server string) float64 { return score(name, p.servers[server]) }

func score(name Name, s *Server) float64 {
	return -s.weight() / math.Log(unit(name.String(), s.Name))
}

// unit hashes two names to a number in (0, 1): FNV-1a, then a finalizer, because
// names that differ in their last letter must not come close to each other.
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
