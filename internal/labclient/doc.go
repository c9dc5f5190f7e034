// Package labclient calls the API under /api/v1: it is what the commands for people are
// made of.
//
//   - client.go sends a call to the first of the servers that answers.
//   - address.go says what the address of a server may look like.
//   - problem.go makes an error of a problem document, with its stable type.
//   - list.go reads all pages of a list.
//   - events.go follows the journal, also when a connection ends.
//   - contexts.go keeps which labs a person works with, and the tokens for them.
//
// The values are those of internal/labapi.
package labclient
