// Package apiframe is what the API for people and the one for agents have in common: it knows
// nothing of what they serve.
//
//   - problem.go makes problem documents (RFC 9457) with stable types of errors.
//   - walls.go bounds what one caller can take from others.
//   - format.go has the settings of huma, which makes the OpenAPI documents.
//   - serve.go finds routes, and tells of each request how it went.
//   - stream.go writes server-sent events and files, for as long as a client goes on reading them.
package apiframe
