// Package lab is what people do with a lab: hosts, labels, ACL groups, users, jobs,
// suites, holds and tokens, as rows of Autotest's tables and of hostsched's own. It knows
// nothing of HTTP; internal/api serves it.
//
//   - lab.go has the transactions and the errors that callers tell apart.
//   - journal.go notes what was done, in the transaction that did it.
//   - wanted.go looks up what jobs ask for, and whether any host can ever run them; plan.go asks
//     the planner, for its words and for what the next tick would do; submit.go enters jobs and
//     suites, many rows per statement (insert.go); idempotency.go makes repeated requests one.
//   - jobs.go and suites.go read and list them; abort.go asks for their end.
//   - event_kinds.go has all kinds of events. events.go reads the journal, and watch.go once for all who watch it.
//   - tokens.go and people.go say who a caller is.
//   - agents.go is what administrators do with agents; agent_sessions.go is what agents say of
//     themselves.
//   - logs.go takes the logs of runs, artifacts.go the files that they leave and the results of
//     their tests; logs_read.go reads them, logs_watch.go once for all who follow one, and
//     logs_keep.go moves them to a store of files and deletes old ones.
//   - first_admin.go enters the first administrator of a standalone lab.
//
// A change locks the rows that it checks, checks them again inside its transaction, and
// is repeated if another client was in its way. Changes do not take the fence of a shard:
// for the planner they are another client's, which it always has to expect.
package lab
