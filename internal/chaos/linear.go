package main

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hostsched/hostsched/shard"
)

// hostState is what a host is for the second method: which entry has it, and the
// latest epoch of the shard that assigned it last.
type hostState struct {
	entry int64
	shard shard.Name
	epoch int64
}

// hostModel is a host as a client sees it: an entry takes it only if no entry has
// it, and never under an epoch before that of an earlier taker; only the entry that
// has it gives it back.
var hostModel = porcupine.Model{
	Partition: byHost,
	Init:      func() any { return hostState{} },
	Step: func(state, input, _ any) (bool, any) {
		s, e := state.(hostState), input.(recorded)
		if !e.take {
			return s.entry == e.entry, hostState{shard: s.shard, epoch: s.epoch}
		}
		free := s.entry == 0
		return free && (s.shard != e.shard || s.epoch <= e.epoch), hostState{e.entry, e.shard, e.epoch}
	},
	DescribeOperation: func(input, _ any) string {
		e := input.(recorded)
		if e.take {
			return fmt.Sprintf("entry %d takes host %d in epoch %d of %s", e.entry, e.host, e.epoch, e.shard)
		}
		return fmt.Sprintf("entry %d gives host %d back", e.entry, e.host)
	},
}

func byHost(history []porcupine.Operation) [][]porcupine.Operation {
	hosts := map[int64]int{}
	var out [][]porcupine.Operation
	for _, o := range history {
		host := o.Input.(recorded).host
		at, known := hosts[host]
		if !known {
			at = len(out)
			hosts[host] = at
			out = append(out, nil)
		}
		out[at] = append(out[at], o)
	}
	return out
}

// linear tells whether there is an order of the history's events, each somewhere
// between the beginning of its statement and the moment of its change, in which
// every host behaves as hostModel says. It knows nothing of the order in which the
// triggers wrote.
func linear(history []recorded, bound time.Duration) porcupine.CheckResult {
	operations := make([]porcupine.Operation, len(history))
	for i, e := range history {
		operations[i] = porcupine.Operation{Input: e, Call: e.began, Return: e.at + 1}
	}
	return porcupine.CheckOperationsTimeout(hostModel, operations, bound)
}
