// Package console is the web console of a replica, under /ui: pages of html/template that need no
// script, and a small one that keeps them live.
//
// It knows no rule and no table. Each page is made of what the API answers to the person who looks
// at it, and each action is a call of the API in that person's name, without a connection in
// between: who may see and do what, what is checked and whom it wakes is decided there alone.
//
//   - console.go has the routes and the headers; calls.go calls the API; session.go logs people in
//     and out by a cookie.
//   - page.go makes pages of templates/, funcs.go has what these call.
//   - overview.go, hosts.go, host.go, heatmap.go, jobs.go, logs.go (with ansi.go for what terminals understand), queue.go, cluster.go and audit.go have the pages;
//     actions.go does what their forms ask for.
//   - events.go tells browsers that something changed which their page shows: it watches the one
//     reading of the journal that a replica has.
//
// All links are relative, so that the console works behind any path of a proxy. Nothing is loaded
// from elsewhere, and nothing is inline: a Content-Security-Policy says so.
package console
