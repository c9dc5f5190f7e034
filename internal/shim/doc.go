// Package shim runs the commands of one run of an agent, in a process of its own that outlives
// the agent's restart and upgrade. Agent and shim share nothing but a folder:
//
//   - folder.go has the files of the folder, and how the agent knows whether the shim lives.
//   - control.go is what the agent tells the shim: until when it may run, and to stop.
//   - shim.go is the process: it runs the steps, holds the deadline, and writes the result.
//   - cgroup.go ends processes that left the process group.
//
// The shim trusts no timer and no agent: when the deadline of the last control that it read is
// past, by a clock that goes on while the machine sleeps, everything is killed.
package shim
