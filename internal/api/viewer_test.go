package api_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
)

// TestViewer: the page that shows the routes comes with all that it loads from the server
// itself, and may load nothing else.
func TestViewer(t *testing.T) {
	s := newServer(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	res, page := s.raw(t, "", http.MethodGet, "/api/v1/docs/", nil)
	require.Equal(t, http.StatusOK, res.StatusCode, page)
	require.Contains(t, res.Header.Get("Content-Type"), "text/html")
	require.Contains(t, res.Header.Get("Content-Security-Policy"), "default-src 'none'; connect-src 'self'")
	require.Contains(t, page, "/api/v1/openapi.json")
	var scripts int
	for _, match := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		require.True(t, strings.HasPrefix(match[1], "/api/v1/docs/"), match[1])
		res, _ := s.raw(t, "", http.MethodGet, match[1], nil)
		require.Equal(t, http.StatusOK, res.StatusCode, match[1])
		if strings.HasSuffix(match[1], ".js") {
			scripts++
		}
	}
	require.Positive(t, scripts)
	res, document := s.raw(t, "", http.MethodGet, "/api/v1/openapi.json", nil)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Contains(t, document, `"openapi":"3.1`)
}
