//go:build manpages

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra/doc"
)

// A binary with this build tag does nothing but write the manual pages of all commands into
// the folder of its only argument. Packages need that, the command does not.
func init() {
	if err := writeManPages(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailed)
	}
	os.Exit(exitOK)
}

func writeManPages(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := newRoot()
	root.DisableAutoGenTag = true
	date := time.Unix(0, 0).UTC() // the same commands make the same pages
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "hostsched", Manual: "hostsched", Date: &date}, dir)
}
