package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/hostsched/hostsched/internal/testserver"
)

func main() {
	sizes := flag.String("sizes", "1000x2000,5000x10000,10000x20000", "hosts x entries, comma-separated")
	out := flag.String("json", "", "also write the figures to this file")
	flag.Parse()
	if err := run(context.Background(), *sizes, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, sizes, out string) (err error) {
	dir, err := os.MkdirTemp("", "hostsched-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := testserver.StartMariaDB(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	var all struct {
		Sizes []Figures `json:"sizes"`
	}
	for size := range strings.SplitSeq(sizes, ",") {
		hosts, entries, err := parseSize(size)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "measuring %d hosts x %d entries\n", hosts, entries)
		f, err := measure(ctx, server, hosts, entries)
		if err != nil {
			return fmt.Errorf("%s: %w", size, err)
		}
		all.Sizes = append(all.Sizes, f)
	}
	printTable(all.Sizes)
	if out == "" {
		return nil
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(data, '\n'), 0o644)
}

func parseSize(size string) (hosts, entries int, err error) {
	h, e, ok := strings.Cut(strings.TrimSpace(size), "x")
	hosts, herr := strconv.Atoi(h)
	entries, eerr := strconv.Atoi(e)
	if !ok || herr != nil || eerr != nil || hosts < 1 || entries < 1 {
		return 0, 0, fmt.Errorf("size %q: write HOSTSxENTRIES, like 1000x2000", size)
	}
	return hosts, entries, nil
}

func printTable(all []Figures) {
	fmt.Println("| hosts | entries | assigned | bare SQL ms | full tick ms | ratio | snapshot ms | plan ms | apply ms | steady ms | idle ms | statements | longest tx ms | RSS MiB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, f := range all {
		fmt.Printf("| %d | %d | %d | %.0f | %.0f | %.2f | %.0f | %.1f | %.0f | %.0f | %.0f | %d | %.0f | %.0f |\n",
			f.Hosts, f.Entries, f.Assigned, f.BareSQL, f.FullTick, f.Ratio, f.Snapshot, f.Plan, f.Apply, f.Steady, f.Idle, f.Statements, f.LongestTx, f.RSS)
	}
}
