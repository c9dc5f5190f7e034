// Package scheduler decides which host every queue entry gets.
//
// It is pure: a [Snapshot] goes in, a [Plan] comes out, and nothing else
// happens. The package imports no database, network, context, logger or clock
// (a test forbids it); what time it is, which switches are set and what the
// suite recorder knows all arrive as data. That makes every decision
// repeatable, printable and testable without a server.
//
// # One tick
//
// [MakePlan] follows the order of Autotest's HostScheduler.tick:
//
//  1. hosts of frontend tasks are leased (special tasks without queue entry);
//  2. round 0: entries that name a host, by priority;
//  3. round 1: every suite gets what its guaranteed minimum still lacks;
//  4. round 2: every request gets what is left, by priority, then suite, then job;
//  5. the pre-job tasks of each assignment are chosen, and jobs that need none
//     start at once;
//  6. hosts that are not used any more are released.
//
// Hosts released at the end of one tick are candidates in the next.
//
// # Where to start reading
//
// [Snapshot] (snapshot.go) is what the database contained at one moment. requests.go
// turns entries into requests, rounds.go assigns hosts, activate.go decides
// what happens to an entry that got one, release.go releases hosts, and
// reasons.go explains why an entry still waits. [Recorder] remembers how many
// hosts each suite holds. A host that may not be assigned, because it is locked,
// leased, in use or about to move, is left out by numberHosts in planner.go.
//
// Hosts are numbered by hostname within a plan, and the hosts with a label, an ACL
// group or a lease are bitsets over those numbers. Therefore the cost grows with the
// number of distinct requests, and not with entries times hosts. Ties are always
// broken by hostname, then id, so that the same snapshot gives the same plan.
package scheduler
