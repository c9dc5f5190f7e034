package queuetimes

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
)

// Config says where records go.
type Config struct {
	// URL is the _bulk endpoint, with the index: http://host:9200/index/_bulk.
	URL string
	// Interval is the longest time a record waits for its batch, and how long one waits
	// that the endpoint did not take for lack of room.
	Interval time.Duration
}

const (
	// queueLength bounds the records that were not sent yet, and, apart from them, those
	// that are to be sent again.
	queueLength = 10_000
	batchSize   = 500
	// smallestBatch is the fewest records that are worth a smaller request: they have
	// about five kilobytes.
	smallestBatch = 16
	// maxTries bounds how often a record is sent.
	maxTries       = 5
	requestTimeout = 5 * time.Second
	// flushBound is how long the end waits for the endpoint.
	flushBound = 10 * time.Second
)

// Record is one entry that got a host.
type Record struct {
	Type     string `json:"type"`
	Time     string `json:"time_recorded"`
	Shard    string `json:"shard"`
	Entry    int64  `json:"hqe_id"`
	Job      int64  `json:"job_id"`
	Suite    int64  `json:"parent_job_id,omitempty"`
	Hostname string `json:"hostname"`
	Priority int64  `json:"priority"`
	// QueuedSeconds is left out if it is not known, because an average would count it.
	QueuedSeconds *int64 `json:"duration,omitempty"`
}

// queued is a record that is to be sent.
type queued struct {
	Record
	tries int
}

// Reporter implements replica.Observer.
type Reporter struct {
	replica.Silent

	cfg     Config
	log     *recurring.Log
	client  *http.Client
	records chan Record
	dropped atomic.Int64
	sent    atomic.Int64
	fault   atomic.Pointer[string]

	// What follows belongs to Run. size is how many records go into one request, and
	// waiting are those that are to be sent again.
	size    int
	waiting []queued
}

// New returns a Reporter; Run sends.
func New(cfg Config, log hclog.Logger) *Reporter {
	client := &http.Client{Timeout: requestTimeout, CheckRedirect: onlyPost}
	return &Reporter{cfg: cfg, log: recurring.New(log), client: client, records: make(chan Record, queueLength), size: batchSize}
}

// onlyPost follows no redirect by which a request would lose its records.
func onlyPost(req *http.Request, _ []*http.Request) error {
	if req.Method != http.MethodPost {
		return http.ErrUseLastResponse
	}
	return nil
}

// Dropped is how many records were lost: the queue was full, or the endpoint
// did not take them.
func (r *Reporter) Dropped() int64 { return r.dropped.Load() }

// Sent is how many records the endpoint took.
func (r *Reporter) Sent() int64 { return r.sent.Load() }

// Fault is why records of the latest request were not taken, empty if all were.
func (r *Reporter) Fault() string {
	if fault := r.fault.Load(); fault != nil {
		return *fault
	}
	return ""
}

// Run sends batches until ctx ends, and then what is left.
func (r *Reporter) Run(ctx context.Context) {
	// A request that was sent is waited for, or nobody would know what became of it.
	sending := context.WithoutCancel(ctx)
	tick := time.NewTicker(r.cfg.Interval)
	defer tick.Stop()
	var batch []queued
	for {
		select {
		case rec := <-r.records:
			if batch = append(batch, queued{Record: rec}); len(batch) < batchSize {
				continue
			}
		case <-tick.C:
			batch = append(batch, r.waiting...)
			r.waiting = nil
		case <-ctx.Done():
			r.flush(sending, batch)
			return
		}
		r.send(sending, batch)
		batch = batch[:0]
	}
}

// flush sends a batch and everything that waits, once and within a bound.
func (r *Reporter) flush(ctx context.Context, batch []queued) {
	ctx, cancel := context.WithTimeout(ctx, flushBound)
	defer cancel()
	batch = append(batch, r.waiting...)
	r.waiting = nil
	for range len(r.records) {
		batch = append(batch, queued{Record: <-r.records})
	}
	r.send(ctx, batch)
	if len(r.waiting) > 0 {
		r.drop(len(r.waiting), verdict{cause: "the replica ends", detail: r.Fault()})
	}
}

// send sends a batch, in as many requests as the endpoint's limit demands.
func (r *Reporter) send(ctx context.Context, batch []queued) {
	for len(batch) > 0 {
		n := min(len(batch), r.size)
		verdicts := r.post(ctx, batch[:n])
		if verdicts[0].tooLarge && n > smallestBatch {
			r.size = max(n/2, smallestBatch)
			continue
		}
		r.settle(batch[:n], verdicts)
		batch = batch[n:]
	}
}

// settle counts what was taken, keeps what may be taken later and drops the rest.
// One reason stands for all records of a request.
func (r *Reporter) settle(batch []queued, verdicts []verdict) {
	var dropped, delayed int
	var lost, late verdict
	for i, v := range verdicts {
		rec := batch[i]
		rec.tries++
		switch {
		case v.taken:
			r.sent.Add(1)
		case v.again && rec.tries < maxTries && len(r.waiting) < queueLength:
			r.waiting = append(r.waiting, rec)
			delayed, late = delayed+1, v
		default:
			dropped, lost = dropped+1, v
		}
	}
	if dropped+delayed == 0 {
		r.fault.Store(nil)
		return
	}
	if delayed > 0 {
		r.fail(late)
		r.log.Warn("queued-time records were not taken; they are sent again", "records", delayed, "reason", late.cause)
	}
	if dropped > 0 {
		r.drop(dropped, lost)
	}
}

// drop counts lost records and says why they are lost. The log has the cause only:
// with the detail, which differs from record to record, no two lines would be the same
// fault.
func (r *Reporter) drop(n int, why verdict) {
	r.dropped.Add(int64(n))
	r.fail(why)
	r.log.Warn("queued-time records dropped; metadata_fault in /v1/status says more", "records", n, "reason", why.cause)
}

func (r *Reporter) fail(why verdict) {
	text := why.cause
	if why.detail != "" {
		text += ": " + why.detail
	}
	r.fault.Store(&text)
}

// Ticked implements replica.Observer.
func (r *Reporter) Ticked(name shard.Name, rep replica.Report) {
	now := rep.Began.UTC().Format(time.RFC3339)
	overflow := 0
	for i := range rep.Result.Applied.Assignments {
		a := &rep.Result.Applied.Assignments[i]
		rec := Record{
			Type: "job_time_breakdown", Time: now, Shard: name.String(), Entry: int64(a.Entry), Job: int64(a.Job), Suite: int64(a.Suite),
			Hostname: a.Hostname, Priority: a.Priority,
		}
		if age := a.QueuedSeconds; age >= 0 {
			rec.QueuedSeconds = &age
		}
		select {
		case r.records <- rec:
		default:
			overflow++
		}
	}
	if overflow > 0 {
		r.drop(overflow, verdict{cause: "the queue is full"})
	}
}
