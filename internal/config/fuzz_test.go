package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
)

// FuzzFile: whatever a file holds, it is read or refused as bad input.
func FuzzFile(f *testing.F) {
	for _, text := range []string{
		"", "---", "server: a", "etcd: {ttl: 5s, endpoints: [a, b]}", "a: &a [*a]", "? [a]\n: b", "etcd: &e {<<: *e}",
		"<<: {server: a}", "<<: [{server: a}, {cluster: b}]", "*a", "!!binary x: y", "server: !!int 5", "&k server: *k",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "x.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := &Config{}
		c.Bind(pflag.NewFlagSet("fuzz", pflag.ContinueOnError), AllGroups)
		c.file = path
		if _, err := c.readFile(); err != nil && !errors.Is(err, ErrConfig) {
			t.Fatal(err)
		}
	})
}
