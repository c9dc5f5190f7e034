// Package certs keeps the certificate with which a replica answers on its listen address and
// asks other replicas. Its files are read again for every connection, so they may be
// replaced at any time, and what is wrong with them is said without ending anything.
//
// [Open] reads the files, [Keeper.Server] and [Keeper.Transport] use them for connections
// that come and go, and [Keeper.State] says until when the certificate is valid.
package certs
