// Package notify sends mail about what people should know: uncaught errors,
// fenced writes, failovers, hosts with several owners. Mails are queued, sent in
// the background, and rate-limited; a tick never waits for them.
package notify
