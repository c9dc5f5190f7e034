package peers

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/suspicion"
)

// The times of a Watcher.
const (
	// The pause between attempts to connect grows from firstRedial, because whoever
	// has just died refuses soon, to redial.
	firstRedial = 5 * time.Millisecond
	redial      = 200 * time.Millisecond
	// dialTimeout bounds an attempt to connect, from the dialling to the name.
	dialTimeout = 2 * time.Second
	// hangUp is after how much silence a connection is given up for a new one,
	// because TCP takes long to notice that a network works again.
	hangUp = 3 * time.Second
	// pulse is how often the watcher looks whether it was itself standing still.
	pulse = 50 * time.Millisecond
	// longStall is what others may take for silence.
	longStall = 500 * time.Millisecond
	// maxName bounds a line, in bytes: the longest is a process's name.
	maxName = 1024
)

// Peer is another replica, as its key in etcd describes it.
type Peer struct {
	// Holder is the unique name of the process.
	Holder string
	// URL is where it answers, with the scheme.
	URL string
}

// Watcher listens to the heartbeats of other replicas.
type Watcher struct {
	client *http.Client
	// secure is true if this process has a certificate to answer with.
	secure  bool
	changed func()
	begin   sync.Once

	mu    sync.Mutex
	peers map[Peer]*contact
	// beat is when this process was last known to run, stood when it last went on after
	// it had stood still.
	beat, stood time.Time
	ctx         context.Context
	end         context.CancelFunc
	active      sync.WaitGroup
}

// contact is the state of the connection to one peer; Watcher.mu guards it.
type contact struct {
	heard bool
	gone  bool
	last  time.Time
	// fault is why there are no heartbeats, empty while there are.
	fault string
	stop  context.CancelFunc
}

// NewWatcher returns a watcher without peers. changed is called when a contact is
// made or lost; what is merely silent calls nobody, so contacts are also to be looked
// at from time to time. changed must not block. Of a process with a certificate, a peer
// without one is not listened to.
func NewWatcher(keeper *certs.Keeper, changed func()) *Watcher {
	w := &Watcher{
		// Connections are not shared or kept: the end of one is what is watched for.
		client: &http.Client{Transport: keeper.Transport()}, secure: keeper.Answers(),
		changed: changed, peers: map[Peer]*contact{},
	}
	w.ctx, w.end = context.WithCancel(context.Background())
	return w
}

// Close ends all connections and returns when nothing runs any more.
func (w *Watcher) Close() {
	w.end()
	w.active.Wait()
}

// Follow makes the watcher listen to these peers and to no others.
func (w *Watcher) Follow(peers []Peer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin.Do(func() {
		w.beat = time.Now()
		w.active.Go(w.pulse)
	})
	keep := make(map[Peer]bool, len(peers))
	for _, p := range peers {
		keep[p] = true
		if w.peers[p] == nil && w.ctx.Err() == nil {
			ctx, stop := context.WithCancel(w.ctx)
			c := &contact{last: time.Now(), stop: stop}
			w.peers[p] = c
			w.active.Go(func() { w.listen(ctx, p, c) })
		}
	}
	for p, c := range w.peers {
		if !keep[p] {
			c.stop()
			delete(w.peers, p)
		}
	}
}

// Contacts returns what is known of each followed process, by its unique name.
func (w *Watcher) Contacts() map[string]suspicion.Contact {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.live(now)
	out := make(map[string]suspicion.Contact, len(w.peers))
	for p, c := range w.peers {
		out[p.Holder] = suspicion.Contact{Heard: c.heard, Gone: c.gone, Silence: now.Sub(c.last).Milliseconds()}
	}
	return out
}

// Unheard says of each followed process that was never heard, or not since it was last
// forgotten, why that is so; it leaves out those of which it does not know yet.
func (w *Watcher) Unheard() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]string{}
	for p, c := range w.peers {
		if !c.heard && c.fault != "" {
			out[p.Holder] = c.fault
		}
	}
	return out
}

// Forget makes the watcher ask for new evidence against a process: what it heard of
// it before does not count any more.
func (w *Watcher) Forget(holder string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, c := range w.peers {
		if p.Holder == holder {
			c.heard, c.gone, c.last = false, false, time.Now()
		}
	}
}

// StoodStill returns when this process last went on after it had stood still for so
// long that others may have noticed; zero if it never did.
func (w *Watcher) StoodStill() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live(time.Now())
	return w.stood
}

// pulse notices when this process itself stood still.
func (w *Watcher) pulse() {
	beat := time.NewTicker(pulse)
	defer beat.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-beat.C:
		}
		w.mu.Lock()
		w.live(time.Now())
		w.mu.Unlock()
	}
}

// live notes that this process runs now. If it stood still since the last time, that is
// not counted as silence of the others. Whoever asks for contacts calls it, too: after a
// stall, any goroutine may be the first that goes on. Watcher.mu is held.
func (w *Watcher) live(now time.Time) {
	stood := now.Sub(w.beat) - pulse
	if w.beat.IsZero() || stood <= 0 {
		return
	}
	w.beat = now
	if stood <= pulse {
		return
	}
	if stood > longStall {
		w.stood = now
	}
	for _, c := range w.peers {
		c.last = earlier(c.last.Add(stood), now)
	}
}

// earlier returns the earlier of two times: a heartbeat that arrived during the stall and
// was read after it may be newer than it seems.
func earlier(a, b time.Time) time.Time {
	if a.After(b) {
		return b
	}
	return a
}

// listen keeps connecting to a peer until ctx ends.
func (w *Watcher) listen(ctx context.Context, p Peer, c *contact) {
	pause := firstRedial
	for ctx.Err() == nil {
		heard, err := w.connect(ctx, p, c)
		if ctx.Err() != nil {
			return
		}
		w.lost(c, err)
		if heard {
			pause = firstRedial
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, redial)
	}
}

// errOther is the error of a connection on which another process answered.
var errOther = errors.New("another process answers")

// lost notes why a connection ended or could not be made. Only a peer that was heard
// before can be gone: an address may have been wrong all the time. A peer that answers, but
// not with heartbeats that this process trusts, is neither gone nor silent.
func (w *Watcher) lost(c *contact, err error) {
	gone := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errOther)
	w.mu.Lock()
	if err != nil {
		c.fault = wording(err)
	}
	turned := c.heard && gone && !c.gone
	switch {
	case turned:
		c.gone = true
	case !c.gone && answers(err):
		c.heard, c.last = false, time.Now()
	}
	w.mu.Unlock()
	if turned {
		w.changed()
	}
}

// errNoTLS is why a process with a certificate does not listen to a peer without one.
var errNoTLS = errors.New("it has no TLS, and this replica has; set tls.cert_file there, too")

// errAnswer is the error of a peer that answers, but not with heartbeats.
var errAnswer = errors.New("it does not send heartbeats")

// answers tells whether an error shows that the peer lives.
func answers(err error) bool {
	var unverified *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	var op *net.OpError
	return errors.Is(err, errAnswer) || errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &unverified) || errors.As(err, &plain) ||
		errors.As(err, &op) && op.Op == "remote error" // an alert of TLS
}

// wording says an error, and of a certificate that was not accepted whose it is and how
// long it is valid.
func wording(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0 {
		leaf := unverified.UnverifiedCertificates[0]
		return fmt.Sprintf("%v; the certificate is of %s, by %s, valid until %s", err, leaf.Subject, leaf.Issuer, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return err.Error()
}

// connect listens to one connection until it ends. heard is true if the peer
// answered on it.
func (w *Watcher) connect(ctx context.Context, p Peer, c *contact) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bound := time.AfterFunc(dialTimeout, cancel)
	defer bound.Stop()
	if w.secure && !strings.HasPrefix(p.URL, "https:") {
		return false, errNoTLS
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+Path, nil)
	if err != nil {
		return false, err
	}
	res, err := w.client.Do(req)
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%w: %s%s answers %s", errAnswer, p.URL, Path, res.Status)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxName)
	for lines.Scan() {
		switch line := lines.Text(); {
		case !heard && line != p.Holder:
			return false, fmt.Errorf("%w at %s", errOther, p.URL)
		case line == goodbye:
			w.leave(c)
			return false, nil
		}
		bound.Reset(hangUp)
		heard = true
		w.hear(c)
	}
	return heard, lines.Err()
}

func (w *Watcher) hear(c *contact) {
	w.mu.Lock()
	first := !c.heard
	c.heard, c.gone, c.last, c.fault = true, false, time.Now(), ""
	w.mu.Unlock()
	if first {
		w.changed()
	}
}

// leave notes that a peer ends in an orderly way: nothing that follows is evidence
// of a crash.
func (w *Watcher) leave(c *contact) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.heard, c.gone, c.last = false, false, time.Now()
}
