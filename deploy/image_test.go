package deploy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/embedetcd"
)

// TestImage builds the container image twice, from two folders: it is the same image. Then
// it runs a lab in what is in it, and nothing else, as its user.
func TestImage(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	digest := buildImage(t, "..", first)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	copyWorktree(t, elsewhere)
	require.Equal(t, digest, buildImage(t, elsewhere, second))

	root := filepath.Join(t.TempDir(), "root")
	config := unpackImage(t, filepath.Join(first, "oci"), digest, root)
	require.Equal(t, runtime.GOARCH, config.Architecture)
	require.Equal(t, "65532:65532", config.Config.User)
	require.Equal(t, []string{"/usr/bin/hostsched"}, config.Config.Entrypoint)
	requireComplete(t, filepath.Join(root, "usr/share/doc/hostsched/sbom.cdx.json"), filepath.Join(root, "usr/bin/hostsched"))
	authorities, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	require.NoError(t, err)
	require.Greater(t, strings.Count(string(authorities), "BEGIN CERTIFICATE"), 100)

	address, err := embedetcd.FreeAddr()
	require.NoError(t, err)
	serve := inside(root, config.Config.Entrypoint[0], "serve", "--standalone", "--data-dir", "/var/lib/hostsched/lab", "--listen", address)
	log := filepath.Join(t.TempDir(), "serve.log")
	exit, err := child.StartLogging(serve, log)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, serve.Process.Signal(syscall.SIGTERM))
		<-exit.Done()
		require.NoError(t, exit.Err())
	})
	require.Eventually(t, func() bool {
		res, err := http.Get("http://" + address + "/readyz?state=leader")
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}, 60*time.Second, 50*time.Millisecond, "see %s", log)
	command := func(args ...string) string {
		cmd := inside(root, config.Config.Entrypoint[0], args...)
		cmd.Env = append(cmd.Env, "HOSTSCHED_SERVER=unix:/var/lib/hostsched/lab/hostsched.sock")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	command("host", "add", "eve-1", "--label", "board:eve")
	require.Equal(t, "eve-1\n", command("host", "list", "-o", "name"))
}

// buildImage returns the digest of the image.
func buildImage(t *testing.T, source, out string) string {
	t.Helper()
	printed, err := exec.CommandContext(t.Context(), filepath.Join(source, "deploy/image/build"), out).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		require.NoError(t, err, "%s", exit.Stderr)
	}
	require.NoError(t, err)
	digest := strings.TrimSpace(string(printed))
	require.Regexp(t, `^sha256:[0-9a-f]{64}$`, digest)
	return digest
}

// copyWorktree copies the files as they are now, with what git knows of them.
func copyWorktree(t *testing.T, to string) {
	t.Helper()
	files, err := exec.CommandContext(t.Context(), "git", "-C", "..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	require.NoError(t, err)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(files), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join("..", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and not committed yet
		}
		require.NoError(t, err)
		content, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Join(to, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(to, name), content, info.Mode()))
	}
	out, err := exec.CommandContext(t.Context(), "cp", "-a", "../.git", to).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// imageConfig is what these tests look at in the configuration of an image.
type imageConfig struct {
	Architecture string
	Config       struct {
		User       string
		Entrypoint []string
	}
}

// unpackImage lays the files of an image into a folder.
func unpackImage(t *testing.T, layout, digest, root string) (config imageConfig) {
	t.Helper()
	blob := func(digest string) []byte {
		content, err := os.ReadFile(filepath.Join(layout, "blobs", strings.Replace(digest, ":", "/", 1)))
		require.NoError(t, err)
		return content
	}
	var manifest struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	require.NoError(t, json.Unmarshal(blob(digest), &manifest))
	require.NoError(t, json.Unmarshal(blob(manifest.Config.Digest), &config))
	require.NoError(t, os.Mkdir(root, 0o755))
	for _, layer := range manifest.Layers {
		unpackLayer(t, blob(layer.Digest), root)
	}
	return config
}

func unpackLayer(t *testing.T, layer []byte, root string) {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(layer))
	require.NoError(t, err)
	for files := tar.NewReader(unzipped); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		path := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			require.NoError(t, os.Mkdir(path, 0o755))
		} else {
			content, err := io.ReadAll(files)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, content, 0o600))
		}
		if os.Getuid() == 0 {
			require.NoError(t, os.Chown(path, h.Uid, h.Gid))
		}
		require.NoError(t, os.Chmod(path, h.FileInfo().Mode()))
	}
}

// inside is a command with the folder as its root, as the user of the image. Who is not root
// is that user in a namespace.
func inside(root, command string, args ...string) *exec.Cmd {
	const user = 65532
	cmd := exec.Command(command, args...)
	cmd.Dir, cmd.Env = "/var/lib/hostsched", []string{"PATH=/usr/bin", "HOME=/var/lib/hostsched"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
		return cmd
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getgid(), Size: 1}}
	return cmd
}

// requireComplete compares the list of what the program was made of with the program.
func requireComplete(t *testing.T, list, program string) {
	t.Helper()
	text, err := os.ReadFile(list)
	require.NoError(t, err)
	var bom struct {
		BomFormat  string
		Components []struct{ Purl string }
	}
	require.NoError(t, json.Unmarshal(text, &bom))
	require.Equal(t, "CycloneDX", bom.BomFormat)
	var listed []string
	for _, c := range bom.Components {
		purl, _, _ := strings.Cut(c.Purl, "?")
		listed = append(listed, purl)
	}
	info, err := buildinfo.ReadFile(program)
	require.NoError(t, err)
	require.NotEmpty(t, info.Deps)
	for _, dep := range info.Deps {
		require.True(t, slices.Contains(listed, "pkg:golang/"+dep.Path+"@"+dep.Version), dep.Path)
	}
	require.True(t, slices.Contains(listed, "pkg:golang/std@"+info.GoVersion), info.GoVersion)
}
