package main

import (
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/store/schema"
)

// versionInfo is what this binary is.
type versionInfo struct {
	Version string `json:"version"`
	// Commit is empty if the build did not record it; Modified says that it was built
	// from files that are not those of the commit.
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Schema   int64  `json:"schema"`
}

func readVersion() versionInfo {
	v := versionInfo{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Schema: schema.SchemaVersion}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// shownCommit is how much of a commit's name people read.
const shownCommit = 12

// version is the module's version and the commit it was built from, as far as
// the build recorded them.
func version() string {
	v := readVersion()
	if len(v.Commit) < shownCommit {
		return v.Version
	}
	return v.Version + " " + v.Commit[:shownCommit]
}

func versionCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "version", Short: "Show version, commit, Go version and schema version of this binary", Args: noArgs,
		Example: "  hostsched version -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := readVersion()
			return out.write(cmd, v, func(w io.Writer) error {
				t := newTable(w)
				t.row("version", v.Version)
				t.row("commit", orDash(v.Commit), map[bool]string{true: "with changes"}[v.Modified])
				t.row("go", v.Go, v.Platform)
				t.row("schema", v.Schema)
				return t.flush()
			})
		},
	}
	out.bind(cmd)
	return cmd
}
