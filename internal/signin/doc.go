// Package signin lets people log in at an OpenID provider: a browser by the code flow with
// PKCE, and a command line by the device flow, which the replica passes on, so that only
// the replica needs the client's secret. It knows the provider, not the lab: what it
// returns is an [Identity].
//
// Nothing is kept between the steps of a flow, so that each may go to another replica: the
// browser keeps a [Flow] in a cookie, the command line the device code.
package signin
