package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// defaultDataDir is the folder of a standalone server, below the current one: whoever
// tries a lab out needs no right to write elsewhere.
const defaultDataDir = "hostsched-data"

// The files in the folder of a standalone server.
const (
	labFile        = "lab.db"
	blobsFolder    = "blobs"
	etcdFolder     = "etcd"
	etcdSocket     = "etcd.sock"
	apiSocket      = "hostsched.sock"
	adminTokenFile = "admin.token"
)

// LockFile shows that a folder is a standalone server's. The process that uses the folder
// holds it locked.
const LockFile = "hostsched.lock"

// IsFolder tells whether a folder is a standalone server's.
func IsFolder(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, LockFile))
	return err == nil
}

// BlobsOf is where a standalone server with this folder puts logs and files of runs that are
// over, unless runs.blobs names another place.
func BlobsOf(dir string) string { return filepath.Join(dir, blobsFolder) }

// CheckFolder refuses a folder of which a standalone server would not know the files.
func CheckFolder(dir string) error {
	files, err := os.ReadDir(dir)
	if err == nil && len(files) > 0 && !IsFolder(dir) {
		err = fmt.Errorf("%s is not empty and no folder of a standalone server; choose another one", dir)
	}
	return err
}

// HasLab tells whether a standalone server made its lab already.
func (c *Config) HasLab() bool {
	_, err := os.Stat(filepath.Join(c.DataDir, labFile))
	return err == nil
}

// LoadNear is Load for a command on a lab that runs. If nobody says where the configuration
// comes from, it is that of the standalone server in a folder; empty if none was found.
func (c *Config) LoadNear(folder string) error {
	c.near = folder
	return c.Load()
}

// derived are the settings of a standalone server that its folder says.
var derived = []string{"database.dsn", "servers.dsn", "etcd.endpoints", "etcd.embedded", "etcd.data_dir", "etcd.initial_cluster", "etcd.listen_client_urls"}

// useFolderNear takes the folder that was found, unless somebody says where the lab is.
func (c *Config) useFolderNear() {
	said := c.file != "" || c.autotest != "" || slices.ContainsFunc(append(slices.Clone(derived), "standalone", "data_dir"), c.given)
	if !said {
		c.DataDir = c.near
	}
}

// standAlone derives the settings of a standalone server from its folder. What the folder
// already says cannot be set otherwise.
func (c *Config) standAlone() error {
	c.useFolderNear()
	if c.DataDir == "" && !c.Standalone {
		return nil
	}
	c.Standalone = true
	if c.DataDir == "" {
		c.DataDir = defaultDataDir
	}
	for _, key := range derived {
		if c.given(key) {
			return fmt.Errorf("%w: a standalone server has an etcd and a database of its own in its folder %s; leave %s out, or leave standalone and data_dir out", ErrConfig, c.DataDir, key)
		}
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return fmt.Errorf("%w: data_dir is %q: %w", ErrConfig, c.DataDir, err)
	}
	c.DataDir = dir
	c.Database.DSN = "sqlite:" + filepath.Join(dir, labFile)
	c.Etcd.Embedded = true
	c.Etcd.DataDir = filepath.Join(dir, etcdFolder)
	c.Runs.Blobs = orElse(c.Runs.Blobs, BlobsOf(dir))
	c.Etcd.ListenClientURLs = []string{"unix://" + filepath.Join(dir, etcdSocket)}
	if c.API.Socket == "" {
		c.API.Socket = filepath.Join(dir, apiSocket)
	}
	return nil
}

// AdminTokenFile is where a standalone server writes the token of its first administrator.
func (c *Config) AdminTokenFile() string { return filepath.Join(c.DataDir, adminTokenFile) }

// maxSocketPath is how long the path of a unix socket may be on all systems.
const maxSocketPath = 100

// checkSockets refuses paths that no socket can have, and says so before the system does,
// whose message names no length.
func (c *Config) checkSockets() error {
	paths := map[string]string{"api.socket": c.API.Socket}
	if c.Standalone {
		paths["data_dir"] = filepath.Join(c.DataDir, apiSocket)
	}
	for key, path := range paths {
		if len(path) > maxSocketPath {
			return fmt.Errorf("%w: %s makes the socket %s, whose path has %d bytes; it may have %d, so choose a shorter path", ErrConfig, key, path, len(path), maxSocketPath)
		}
	}
	return nil
}
