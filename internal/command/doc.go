// Package command runs one command of a person or of a job, as timeout and env do: in a
// process group of its own, with signals for the whole group, an exit status as a shell
// has it, and nothing left behind once it has ended.
package command
