package election

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Ignored is a key among those of a shard's candidates that is nobody's: a person or
// a program put it there. The election passes it over.
type Ignored struct {
	Key string `json:"key"`
	Why string `json:"why"`
}

func (i Ignored) String() string {
	return fmt.Sprintf("ignored key %s: %s; delete it with etcdctl del %s", i.Key, i.Why, i.Key)
}

// readCandidate reads the key of a candidate; why says why it is none. It is the one
// rule of what counts in an election. A key without lease would be there for ever,
// whoever it names, and one with another value has nobody who could lead.
func readCandidate(kv *mvccpb.KeyValue) (c Candidate, why string) {
	c = Candidate{Key: string(kv.Key), Revision: kv.CreateRevision, Lease: kv.Lease}
	switch {
	case kv.Lease == 0:
		return c, "it has no lease"
	case json.Unmarshal(kv.Value, &c.Record) != nil || c.Server == "":
		return c, "its value is no record of hostsched"
	}
	return c, ""
}

// add sorts a key of the shard's candidates into those that count and those that do
// not.
func (s *ShardElection) add(kv *mvccpb.KeyValue) {
	c, why := readCandidate(kv)
	if why != "" {
		s.Ignored = append(s.Ignored, Ignored{Key: c.Key, Why: why})
		return
	}
	s.Candidates = append(s.Candidates, c)
}

// sort puts the oldest candidate first.
func (s *ShardElection) sort() {
	slices.SortFunc(s.Candidates, func(a, b Candidate) int { return cmp.Compare(a.Revision, b.Revision) })
	slices.SortFunc(s.Ignored, func(a, b Ignored) int { return cmp.Compare(a.Key, b.Key) })
}

// first returns the candidate whose key is the oldest of a shard, if there is one.
func first(kvs map[string]*mvccpb.KeyValue) (Candidate, bool) {
	var s ShardElection
	for _, kv := range kvs {
		s.add(kv)
	}
	if len(s.Candidates) == 0 {
		return Candidate{}, false
	}
	s.sort()
	return s.Candidates[0], true
}
