// Command image puts hostsched into a container image, without a daemon and without a base
// image to download.
//
// The image has the command, the certificates of Mozilla's authorities, a user that is not
// root, and the list of what the command was made of. Each file in it is as old as the
// commit, so the same commit makes the same image.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who runs the command; the number is the one that images without a shell use.
const user = 65532

type options struct {
	binary, sbom, license, version, revision, arch, out string
	seconds                                             int64
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "", "the command")
	flag.StringVar(&o.sbom, "sbom", "", "what the command was made of, in CycloneDX JSON")
	flag.StringVar(&o.license, "license", "", "its licence")
	flag.StringVar(&o.version, "version", "", "its version")
	flag.StringVar(&o.revision, "revision", "", "the commit it was built from")
	flag.StringVar(&o.arch, "arch", "", "the processor it was built for, as Go calls it")
	flag.Int64Var(&o.seconds, "time", 0, "time of the commit, in seconds since 1970")
	flag.StringVar(&o.out, "out", "", "folder for the image")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run writes the image as an OCI layout and as a file for 'docker load', and prints its digest.
func run(o options) error {
	image, err := build(o)
	if err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	index, err := layout.Write(filepath.Join(o.out, "oci"), empty.Index)
	if err != nil {
		return err
	}
	tags := map[name.Tag]v1.Image{}
	for _, version := range []string{o.version, "latest"} {
		tag, err := name.NewTag("hostsched:" + version)
		if err != nil {
			return err
		}
		tags[tag] = image
	}
	platform := layout.WithPlatform(v1.Platform{OS: "linux", Architecture: o.arch})
	if err := index.AppendImage(image, platform, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": o.version})); err != nil {
		return err
	}
	if err := tarball.MultiWriteToFile(filepath.Join(o.out, "hostsched.tar"), tags); err != nil {
		return err
	}
	fmt.Println(digest)
	return os.WriteFile(filepath.Join(o.out, "digest"), []byte(digest.String()+"\n"), 0o644)
}

func build(o options) (v1.Image, error) {
	base, err := o.layer(o.base)
	if err != nil {
		return nil, err
	}
	program, err := o.layer(func(w *files) {
		w.copy("usr/bin/hostsched", o.binary, 0o755)
		w.copy("usr/share/doc/hostsched/copyright", o.license, 0o644)
		w.copy("usr/share/doc/hostsched/sbom.cdx.json", o.sbom, 0o644)
	})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), base, program)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: time.Unix(o.seconds, 0).UTC()}
	labels := map[string]string{
		"org.opencontainers.image.title":    "hostsched",
		"org.opencontainers.image.source":   "https://github.com/hostsched/hostsched",
		"org.opencontainers.image.licenses": "BSD-3-Clause",
		"org.opencontainers.image.version":  o.version,
		"org.opencontainers.image.revision": o.revision,
	}
	return mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: o.arch,
		OS:           "linux",
		Created:      created,
		RootFS:       rootFS(image),
		History:      []v1.History{{Created: created, CreatedBy: "user and certificates"}, {Created: created, CreatedBy: "hostsched"}},
		Config: v1.Config{
			Entrypoint:   []string{"/usr/bin/hostsched"},
			Cmd:          []string{"serve"},
			User:         strconv.Itoa(user) + ":" + strconv.Itoa(user),
			WorkingDir:   "/var/lib/hostsched",
			Env:          []string{"PATH=/usr/bin", "HOME=/var/lib/hostsched"},
			ExposedPorts: map[string]struct{}{"8470/tcp": {}},
			StopSignal:   "SIGTERM",
			Labels:       labels,
		},
	})
}

func rootFS(image v1.Image) v1.RootFS {
	config, err := image.ConfigFile()
	if err != nil {
		panic(err) // it was made above
	}
	return config.RootFS
}

// base is what the command needs of a system.
func (o options) base(w *files) {
	for _, dir := range []string{"etc/", "etc/ssl/", "etc/ssl/certs/", "usr/", "usr/bin/", "usr/share/", "usr/share/doc/", "usr/share/doc/hostsched/", "var/", "var/lib/"} {
		w.dir(dir, 0o755, 0)
	}
	w.dir("tmp/", 0o1777, 0)
	w.dir("var/lib/hostsched/", 0o700, user)
	w.file("etc/passwd", fmt.Appendf(nil, "root:x:0:0:root:/:/nonexistent\nhostsched:x:%d:%d:hostsched:/var/lib/hostsched:/nonexistent\n", user, user), 0o644)
	w.file("etc/group", fmt.Appendf(nil, "root:x:0:\nhostsched:x:%d:\n", user), 0o644)
	w.file("etc/ssl/certs/ca-certificates.crt", authorities(), 0o644)
}

// authorities are the certificates that a verifier needs to know nothing more of.
func authorities() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return out.Bytes()
}

func (o options) layer(fill func(*files)) (v1.Layer, error) {
	var buffer bytes.Buffer
	w := &files{tar: tar.NewWriter(&buffer), time: time.Unix(o.seconds, 0).UTC()}
	fill(w)
	if err := w.close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}

// files writes a layer. The first error is kept.
type files struct {
	tar  *tar.Writer
	time time.Time
	err  error
}

func (w *files) add(h *tar.Header, content []byte) {
	if w.err != nil {
		return
	}
	h.ModTime, h.Size, h.Format = w.time, int64(len(content)), tar.FormatPAX
	if w.err = w.tar.WriteHeader(h); w.err == nil {
		_, w.err = w.tar.Write(content)
	}
}

func (w *files) dir(path string, mode int64, owner int) {
	w.add(&tar.Header{Typeflag: tar.TypeDir, Name: path, Mode: mode, Uid: owner, Gid: owner}, nil)
}

func (w *files) file(path string, content []byte, mode int64) {
	w.add(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: mode}, content)
}

func (w *files) copy(path, from string, mode int64) {
	content, err := os.ReadFile(from)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.file(path, content, mode)
}

func (w *files) close() error {
	if w.err != nil {
		return w.err
	}
	return w.tar.Close()
}
