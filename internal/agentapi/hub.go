package agentapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

const (
	// lookEvery is how often it is looked for what there is to do though nobody said that
	// anything changed. In the long run looking takes one part of lookShare of the time, however
	// many agents there are and however much changes. lookAhead may be used in advance, so that
	// the few changes by which a job begins are seen at once.
	lookEvery = 5 * time.Second
	lookShare = 5
	lookAhead = 60 * time.Millisecond
	// maxPause is the longest pause between two looks for changes.
	maxPause = 100 * time.Millisecond
	// tellAgain is after what time an agent that did not do what it was told is told again
	// before its call has waited its time.
	tellAgain = time.Minute
	// seatLasts is how long it is looked for an agent that does not call.
	seatLasts = time.Minute
	// eagerWait bounds the look for an agent that does not want to wait.
	eagerWait = time.Second
	// seenEvery is how often it is noted which agents called.
	seenEvery = 2 * time.Second
	// lookTimeout bounds a look.
	lookTimeout = 15 * time.Second
	// maxOffers is for an agent that serves a whole lab.
	maxOffers = 100
)

// hub finds what there is to do, once for all agents that wait at this replica.
type hub struct {
	cfg    Config
	ring   chan struct{}
	faults *recurring.Log

	mu     sync.Mutex
	seats  map[int64]*seat
	closed bool
	// waiting counts those who wait; stop ends the looking, nil while nobody waits.
	waiting int
	stop    context.CancelFunc
	// stale means that something changed since the last look began.
	stale bool
	// agents is how many agents the lab has that call.
	agents int
	// seen are those that called since it was noted.
	seen    map[int64]lab.AgentSeen
	noted   time.Time
	counted time.Time
}

// seat is what the hub knows of an agent that calls here.
type seat struct {
	hub      *hub
	id       int64
	session  string
	desired  string
	rotate   bool
	revoked  bool
	replaced bool
	capacity int
	unfit    string
	last     time.Time
	// looked means that a look found out what there is for it.
	looked bool
	offers []labapi.Offer
	stops  []labapi.Stop
	// told is what it was told, and when.
	told map[string]time.Time
	// wake ends its wait; nil while it does not wait.
	wake chan struct{}
	// eager means that it waits for one look only.
	eager bool
}

// found is what there is for an agent.
type found struct {
	desired string
	offers  []labapi.Offer
	stops   int
	rotate  bool
	agents  int
}

func newHub(cfg Config) *hub {
	return &hub{cfg: cfg, ring: make(chan struct{}, 1), faults: recurring.New(cfg.Log), seats: map[int64]*seat{}, seen: map[int64]lab.AgentSeen{}}
}

// Ring says that something changed. It does not wait.
func (h *hub) Ring() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stale = true
	h.rings()
}

func (h *hub) rings() {
	select {
	case h.ring <- struct{}{}:
	default: // it rings already
	}
}

// close answers all who wait.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, s := range h.seats {
		s.end()
	}
	if h.stop != nil {
		h.stop()
	}
}

// end ends the wait of an agent.
func (s *seat) end() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

// enter gives an agent that calls its seat.
func (h *hub) enter(agent lab.AgentCaller, in labapi.AgentSync) *seat {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.seats[agent.ID]
	if s == nil || s.session != in.Session {
		if s != nil {
			s.replaced = true
			s.end()
		}
		s = &seat{hub: h, id: agent.ID, session: in.Session, told: map[string]time.Time{desiredKey(labapi.DesiredRun): time.Now()}}
		h.seats[agent.ID] = s
	}
	changed := s.last.IsZero() || s.capacity != in.Capacity || s.unfit != in.Unfit || h.seen[s.id].Changed
	s.desired, s.rotate, s.revoked, s.replaced = agent.Desired, agent.Rotate, false, false
	s.capacity, s.unfit, s.last = in.Capacity, in.Unfit, time.Now()
	h.seen[s.id] = lab.AgentSeen{ID: s.id, Capacity: in.Capacity, Unfit: in.Unfit, Changed: changed}
	return s
}

// noteSeen notes who called, for all of them at once.
func (h *hub) noteSeen(ctx context.Context, l *lab.Lab) error {
	h.mu.Lock()
	if len(h.seen) == 0 || time.Since(h.noted) < seenEvery {
		h.mu.Unlock()
		return nil
	}
	seen := h.seen
	h.seen, h.noted = map[int64]lab.AgentSeen{}, time.Now()
	h.mu.Unlock()
	all := make([]lab.AgentSeen, 0, len(seen))
	for _, s := range seen {
		all = append(all, s)
	}
	err := l.NoteSeen(ctx, all)
	if err == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, s := range seen {
		if _, again := h.seen[id]; !again {
			h.seen[id] = s
		}
	}
	return err
}

// tell remembers what an agent is told with the answer that is made.
func (s *seat) tell(out *labapi.AgentSynced) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.stops = out.Stop
}

func desiredKey(desired string) string { return "desired " + desired }
func offerKey(o labapi.Offer) string   { return fmt.Sprint(o.Kind, " ", o.Task, " ", o.Entries) }
func stopKey(s labapi.Stop) string     { return fmt.Sprint("stop ", s.Run, " ", s.Reason) }

// wait waits until there is something for an agent to do, at most so long. Whoever has to say
// something at once does not wait, and who does not want to gets what one look finds.
func (h *hub) wait(ctx context.Context, s *seat, most time.Duration, atOnce bool) (found, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.end() // an older call of the same process
	known := s.looked && !h.stale
	if atOnce || h.closed || known && (most <= 0 || s.news(time.Now())) {
		return s.take()
	}
	wake := make(chan struct{})
	s.wake, s.eager = wake, most <= 0
	h.begin(ctx)
	if !known {
		h.stale = true
		h.rings()
	}
	h.mu.Unlock()
	err := sleep(ctx, wake, max(most, eagerWait))
	h.mu.Lock()
	h.done()
	if s.wake == wake {
		s.wake = nil
	}
	if err != nil {
		return found{}, err // nobody hears what it would be told
	}
	return s.take()
}

func sleep(ctx context.Context, wake <-chan struct{}, most time.Duration) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// begin counts one who waits, and begins to look for the first.
func (h *hub) begin(ctx context.Context) {
	h.waiting++
	if h.stop != nil {
		return
	}
	var looking context.Context
	looking, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	h.stale = true
	go h.look(looking)
}

// done counts one who does not wait any more. The last one ends the looking.
func (h *hub) done() {
	h.waiting--
	if h.waiting == 0 && h.stop != nil {
		h.stop()
		h.stop, h.stale = nil, true // nobody hears of changes any more
	}
}

// offered are the offers that an agent may take up.
func (s *seat) offered() []labapi.Offer {
	if s.capacity <= 0 || s.unfit != "" || s.desired != labapi.DesiredRun {
		return nil
	}
	return s.offers[:min(len(s.offers), maxOffers)]
}

// keys name all there is for an agent.
func (s *seat) keys() map[string]bool {
	keys := map[string]bool{desiredKey(s.desired): true}
	for _, o := range s.offered() {
		keys[offerKey(o)] = true
	}
	for _, stop := range s.stops {
		keys[stopKey(stop)] = true
	}
	if s.rotate {
		keys["rotate"] = true
	}
	return keys
}

// news tells whether there is anything that the agent was not told lately.
func (s *seat) news(now time.Time) bool {
	if s.revoked || s.replaced {
		return true
	}
	for key := range s.keys() {
		at, told := s.told[key]
		if !told || now.Sub(at) > tellAgain && key != desiredKey(s.desired) {
			return true
		}
	}
	return false
}

// take is what the agent is told now.
func (s *seat) take() (found, error) {
	switch {
	case s.revoked:
		return found{}, fmt.Errorf("%w: stop all its runs", lab.ErrRevoked)
	case s.replaced:
		return found{}, lab.AgentCaller{Name: "this agent"}.Serves(s.session)
	}
	now, keys := time.Now(), s.keys()
	for key := range s.told {
		if !keys[key] {
			delete(s.told, key)
		}
	}
	for key := range keys {
		if at, told := s.told[key]; !told || now.Sub(at) > tellAgain {
			s.told[key] = now
		}
	}
	return found{desired: s.desired, offers: s.offered(), stops: len(s.stops), rotate: s.rotate, agents: max(s.hub.agents, len(s.hub.seats))}, nil
}

// look looks for what there is to do, whenever something changed, until ctx ends.
func (h *hub) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	changes, end := h.journal(ctx)
	defer func() { end() }()
	paid := time.Now() // when the looks until now have taken their share and no more
	for {
		began := time.Now()
		if err := h.once(ctx); err == nil {
			h.faults.Over()
		} else if ctx.Err() == nil {
			h.faults.Warn("cannot look for what agents could do; they wait", "error", err)
		}
		if paid.Before(began) {
			paid = began
		}
		paid = paid.Add(lookShare * time.Since(began))
		if sleep(ctx, nil, min(time.Until(paid)-lookAhead, maxPause)) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-h.ring:
		case <-tick.C:
		case _, open := <-changes:
			if !open {
				end()
				changes, end = h.journal(ctx)
			}
		}
	}
}

// journal watches the journal, in which the other replicas say what they changed. Where that
// cannot be, as beside too many others who watch, the regular looks find it.
func (h *hub) journal(ctx context.Context) (changes <-chan *lab.Batch, end func()) {
	l := h.cfg.Lab()
	if h.cfg.Watch == nil {
		return nil, func() {}
	}
	w, err := h.cfg.Watch.Begin(ctx, l)
	if err != nil {
		h.cfg.Log.Debug("agents wait without the journal", "error", err)
		return nil, func() {}
	}
	return w.Batches, func() { h.cfg.Watch.End(w) }
}

// once looks once, for all agents that called lately.
func (h *hub) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	h.mu.Lock()
	h.stale = false
	maps.DeleteFunc(h.seats, func(_ int64, s *seat) bool { return time.Since(s.last) > seatLasts && s.wake == nil })
	looked := maps.Clone(h.seats)
	h.mu.Unlock()
	ids := slices.Collect(maps.Keys(looked))
	l, r := h.cfg.Lab(), h.cfg.Runs()
	wants, err := l.WantsOfAgents(ctx, ids)
	if err != nil {
		return h.missed(err)
	}
	offers, err := r.Offers(ctx, ids)
	if err != nil {
		return h.missed(err)
	}
	stops, err := r.Stops(ctx, ids)
	if err != nil {
		return h.missed(err)
	}
	if err := h.count(ctx, l); err != nil {
		return h.missed(err)
	}
	h.mu.Lock()
	now := time.Now()
	for id, s := range looked {
		if h.seats[id] != s {
			continue // who took its seat since would find in the rows whose place it took
		}
		s.learn(wants[id], offers[id], stops[id])
		if s.wake != nil && (s.eager || s.news(now)) {
			s.end()
		}
	}
	h.mu.Unlock()
	return h.noteSeen(ctx, l)
}

// missed makes the next look come soon after one that failed.
func (h *hub) missed(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stale = true
	return err
}

// count counts the agents of the lab now and then.
func (h *hub) count(ctx context.Context, l *lab.Lab) error {
	h.mu.Lock()
	due := time.Since(h.counted) > lookEvery
	h.mu.Unlock()
	if !due {
		return nil
	}
	n, err := l.CallingAgents(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.agents, h.counted = n, time.Now()
	return err
}

// learn is what a look found. An agent that was removed has no wants.
func (s *seat) learn(w lab.AgentWants, offers []labapi.Offer, stops []labapi.Stop) {
	s.looked = true
	s.revoked = w.Revoked || w.Desired == ""
	s.replaced = !s.revoked && w.Session != s.session
	s.desired, s.rotate, s.offers, s.stops = w.Desired, w.Rotate, offers, stops
}
