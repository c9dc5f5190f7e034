// Package scheduler decides which host every queue entry gets.
//
// It is pure: a [Snapshot] goes in, a [Plan] comes out, and nothing else happens. The
// package imports no database, network, context, logger or clock, and a test forbids it
// to. The time, the settings and what the suite recorder knows all arrive as data, so
// every decision can be repeated, printed and tested without a server.
//
// # One tick
//
// [MakePlan] follows the order of Autotest's HostScheduler.tick:
//
//  1. hosts of frontend tasks, which are special tasks without queue entry, are leased;
//  2. round 0: entries that name a host, by priority;
//  3. round 1: every suite gets what its guaranteed minimum still lacks;
//  4. round 2: every request gets what is left, by priority, then suite, then job;
//  5. the pre-job tasks of each assignment are chosen, and jobs that need none
//     start at once;
//  6. hosts that are not used any more are released.
//
// Hosts released at the end of one tick are candidates in the next.
//
// # Policies
//
// Under [PolicyExact], the rounds 1 and 2 assign a host to one entry after the other, as
// Autotest does. Under [PolicyOptimal] they serve the entries in the same order, but only
// promise hosts: a later entry that finds no free host gets one if earlier ones can be
// served by other hosts. No set of entries that can be served together is larger, and
// none has a better entry where the served ones differ. Then the hosts are chosen so that
// they carry as many preferred labels as possible.
//
// # Where to find what
//
//   - planner.go: [MakePlan] and the working state of one plan
//   - snapshot.go, plan.go: what goes in and what comes out
//   - hosts.go: the numbers of hosts, and the sets of hosts by label and ACL group
//   - assignable.go: which hosts may be assigned; a locked host may not
//   - lease.go, move.go, release.go: leases for frontend tasks, moves to other shards, releases
//   - labels.go: the kinds of labels, and the special task that each kind causes
//   - queue.go, aging.go: the order of the queue, and what jobs gain by waiting
//   - requests.go: what entries require, and the groups of entries that require the same
//   - match.go: which hosts match a request
//   - named.go, minimums.go, rounds.go: the rounds 0, 1 and 2
//   - optimal.go, ranked.go, matcher.go, choice.go: the rounds 1 and 2 under [PolicyOptimal]
//   - activate.go, prejob.go, synch.go: what happens to an entry that got a host, its
//     pre-job tasks, and jobs whose entries start together
//   - reasons.go: why an entry still waits
//   - recorder.go: [Recorder], which remembers how many hosts each suite holds
//   - hostset.go, lookup.go, sets.go, memory.go: data structures that make a plan fast
//
// # Speed and order
//
// Hosts are numbered by hostname within a plan. The hosts with a label, those of an ACL
// group and those that are free are bitsets over these numbers. Therefore the cost grows
// with the number of distinct requests, and not with entries times hosts. Ties are always
// broken by hostname, then id, so that the same snapshot gives the same plan.
package scheduler
