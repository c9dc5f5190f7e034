// Package labapi has the values of the API under /api/v1 as they travel: what
// people and CI systems send and get. The server (internal/api) and the client
// (internal/labclient) share them, so that they cannot disagree.
//
// Field names are a contract: /api/v1 only grows. Times are RFC 3339 in UTC.
package labapi
