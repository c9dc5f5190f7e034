package testserver

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// Link is a network link to a server that a test can cut and heal. While it is
// cut, bytes vanish in both directions and connections stay open, as with a
// network partition.
type Link struct {
	// Addr is where clients connect.
	Addr  string
	proxy *toxiproxy.Proxy
}

// NewLink opens a link to the server at upstream (host:port).
func NewLink(t testing.TB, upstream string) *Link {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "link", "127.0.0.1:0", upstream)
	require.NoError(t, proxy.Start())
	t.Cleanup(proxy.Stop)
	return &Link{Addr: proxy.Listen, proxy: proxy}
}

// directions names the toxic of each direction.
var directions = []string{"upstream", "downstream"}

// Cut stops the link from carrying anything.
func (l *Link) Cut(t testing.TB) {
	t.Helper()
	for _, dir := range directions {
		_, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(`{"name": "cut-` + dir + `", "type": "timeout", "stream": "` + dir + `", "attributes": {"timeout": 0}}`))
		require.NoError(t, err)
	}
}

// Slow delays every answer.
func (l *Link) Slow(t testing.TB, by time.Duration) {
	t.Helper()
	_, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"name": "slow", "type": "latency", "stream": "downstream", "attributes": {"latency": %d}}`, by.Milliseconds())))
	require.NoError(t, err)
}

// Heal lets new connections through again. Those open during the cut are closed.
func (l *Link) Heal(t testing.TB) {
	t.Helper()
	for _, dir := range directions {
		require.NoError(t, l.proxy.Toxics.RemoveToxic(context.Background(), "cut-"+dir))
	}
}
