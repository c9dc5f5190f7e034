// Package api serves the lab over HTTP under /api/v1: huma makes the OpenAPI document
// from the Go types, internal/lab does the work, internal/access says who may.
//
//   - api.go registers routes. There is no way to register one without a rule.
//   - auth.go finds out who calls.
//   - problem.go turns errors into problem documents (RFC 9457) with stable types.
//   - the other files have the routes of one resource each.
//
// openapi.json in this folder is the contract; a test compares it with what the code
// serves. 'go generate ./internal/api' writes it anew.
package api

//go:generate go run ./openapi
