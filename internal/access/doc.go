// Package access decides who may do what through the API. It is pure: who asks, what
// for, and how they are related to it comes in as data.
//
// There are four roles, each of which may do all that the ones before it may: viewer,
// user, operator, admin. What a user may do with a host or a job also depends on ACL
// groups, by Autotest's rules: to change a host one shares an ACL group with it
// (Everyone counts); to abort somebody else's job one shares a group other than Everyone.
package access
