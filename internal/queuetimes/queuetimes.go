package queuetimes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
)

// Config says where records go.
type Config struct {
	// URL is the _bulk endpoint, with the index: http://host:9200/index/_bulk.
	URL string
	// Interval is the longest time a record waits for its batch.
	Interval time.Duration
}

const (
	queueLength    = 10_000
	batchSize      = 500
	requestTimeout = 5 * time.Second
)

// Record is one entry that got a host.
type Record struct {
	Type          string `json:"_type"`
	Time          string `json:"time_recorded"`
	Shard         string `json:"shard"`
	Entry         int64  `json:"hqe_id"`
	Job           int64  `json:"job_id"`
	Suite         int64  `json:"parent_job_id,omitempty"`
	Hostname      string `json:"hostname"`
	Priority      int64  `json:"priority"`
	QueuedSeconds int64  `json:"duration"`
}

// Reporter implements replica.Observer.
type Reporter struct {
	replica.Silent

	cfg     Config
	log     hclog.Logger
	client  *http.Client
	records chan Record
	dropped atomic.Int64
	sent    atomic.Int64
}

// New returns a Reporter; Run sends.
func New(cfg Config, log hclog.Logger) *Reporter {
	return &Reporter{cfg: cfg, log: log, client: &http.Client{Timeout: requestTimeout}, records: make(chan Record, queueLength)}
}

// Dropped is how many records were lost: the queue was full, or the endpoint
// did not take them.
func (r *Reporter) Dropped() int64 { return r.dropped.Load() }

// Sent is how many records the endpoint took.
func (r *Reporter) Sent() int64 { return r.sent.Load() }

// Run sends batches until ctx ends, and then what is left.
func (r *Reporter) Run(ctx context.Context) {
	tick := time.NewTicker(r.cfg.Interval)
	defer tick.Stop()
	var batch []Record
	for {
		select {
		case rec := <-r.records:
			if batch = append(batch, rec); len(batch) < batchSize {
				continue
			}
		case <-tick.C:
		case <-ctx.Done():
			r.flush(batch)
			return
		}
		r.send(batch)
		batch = batch[:0]
	}
}

// flush sends a batch and everything that is still queued.
func (r *Reporter) flush(batch []Record) {
	for {
		select {
		case rec := <-r.records:
			if batch = append(batch, rec); len(batch) == batchSize {
				r.send(batch)
				batch = batch[:0]
			}
		default:
			r.send(batch)
			return
		}
	}
}

func (r *Reporter) send(batch []Record) {
	if len(batch) == 0 {
		return
	}
	if err := r.post(batch); err != nil {
		r.dropped.Add(int64(len(batch)))
		r.log.Warn("metadata dropped", "records", len(batch), "error", err)
		return
	}
	r.sent.Add(int64(len(batch)))
}

func (r *Reporter) post(batch []Record) error {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	for _, rec := range batch {
		body.WriteString("{\"index\":{}}\n")
		if err := enc.Encode(rec); err != nil {
			return err
		}
	}
	res, err := r.client.Post(r.cfg.URL, "application/x-ndjson", &body)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s answers %s", r.cfg.URL, res.Status)
	}
	return nil
}

// Ticked implements replica.Observer.
func (r *Reporter) Ticked(name shard.Name, rep replica.Report) {
	now := rep.Began.UTC().Format(time.RFC3339)
	for i := range rep.Result.Applied.Assignments {
		a := &rep.Result.Applied.Assignments[i]
		rec := Record{
			Type: "job_time_breakdown", Time: now, Shard: name.String(), Entry: int64(a.Entry), Job: int64(a.Job), Suite: int64(a.Suite),
			Hostname: a.Hostname, Priority: a.Priority, QueuedSeconds: a.QueuedSeconds,
		}
		select {
		case r.records <- rec:
		default:
			r.dropped.Add(1)
		}
	}
}
