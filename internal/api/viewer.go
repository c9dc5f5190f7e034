package api

import (
	"net/http"

	"github.com/swaggest/swgui/v5emb"
)

// docsPath is where a browser shows the routes and tries them.
const docsPath = Prefix + "/docs/"

// viewerPolicy keeps the viewer from everything that is not of this server: labs are
// offline, and a page that can call the API loads nothing from elsewhere.
const viewerPolicy = "default-src 'none'; connect-src 'self'; font-src 'self'; img-src 'self' data:; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// viewerRoutes serve a viewer of the OpenAPI document, which is part of the binary. It shows
// what anybody may read, so it needs no token; what it calls does.
func (a *API) viewerRoutes() {
	viewer := v5emb.New("hostsched", Prefix+"/openapi.json", docsPath)
	a.router.Mux.HandleFunc("GET "+docsPath, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", viewerPolicy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		viewer.ServeHTTP(w, r)
	})
}
