package testserver

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/embedetcd"
)

// OIDC is the issuer of an OpenID provider in a process of its own that lasts as long as the
// test. Its clients are lab (web-secret) and lab-device (device-secret), its users
// alice, of the group lab-operators, and bob, both with the password "secret".
func OIDC(t testing.TB, redirect string) (issuer string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "oidcprovider")
	build := exec.Command("go", "build", "-o", program, "./oidcprovider")
	build.Dir = filepath.Join(moduleRoot(t), "internal", "tools")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	address, err := embedetcd.FreeAddr()
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "PORT="+port, "REDIRECT_URI="+redirect)
	exit, err := child.StartLogging(cmd, filepath.Join(t.TempDir(), "oidcprovider.log"))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Kill())
		<-exit.Done()
	})
	issuer = "http://localhost:" + port + "/"
	require.Eventually(t, func() bool {
		res, err := http.Get(issuer + ".well-known/openid-configuration")
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond)
	return issuer
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	require.NoError(t, err)
	return filepath.Dir(strings.TrimSpace(string(out)))
}
