// Package spelling finds the name that somebody meant who mistyped one. spelling.go has all
// of it.
package spelling
