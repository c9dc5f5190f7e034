// Package selector reads what chooses things by their labels, written as kubectl has it.
//
// Labels of a lab are plain texts, most of them with a colon between what they are about and
// what they say of it: board:eve is the key board with the value eve.
package selector
