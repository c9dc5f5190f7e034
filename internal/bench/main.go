package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/testserver"
)

// The parts of a benchmark.
const (
	partTicks   = "ticks"
	partPlans   = "plans"
	partService = "service"
	partAPI     = "api"
	partRuns    = "runs"
)

var allParts = []string{partTicks, partPlans, partService, partAPI, partRuns}

// options are the flags.
type options struct {
	parts               string
	sizes, out, program string
	latency             time.Duration
	failovers, days     int
	cpuProfile          string
	database            string
}

func main() {
	var o options
	flag.StringVar(&o.parts, "parts", strings.Join(allParts, ","), "what to measure, comma-separated")
	flag.StringVar(&o.sizes, "sizes", "1000x2000,5000x10000,10000x20000", "hosts x entries, comma-separated")
	flag.StringVar(&o.out, "json", "", "also write the figures to this file")
	flag.StringVar(&o.program, "hostsched", "bin/hostsched", "the program under test")
	flag.DurationVar(&o.latency, "latency", 0, "how long to measure the latency from a job to its host, 10,000 hosts x 50,000 entries; 0: not at all")
	flag.IntVar(&o.failovers, "failovers", 0, "how many crashes and how many hand-overs to measure, on the same lab")
	flag.IntVar(&o.days, "days", 0, "how many simulated days to play at each load and under each policy")
	flag.StringVar(&o.cpuProfile, "cpuprofile", "", "write a CPU profile of the ticks in this process to this file")
	flag.StringVar(&o.database, "database", string(testserver.MariaDB), "the kind of server to measure on: mariadb or mysql")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// results are all that is measured, and the format of -json.
type results struct {
	// Server is the name and the version of the database server.
	Server  string            `json:"server"`
	Sizes   []Figures         `json:"sizes"`
	Slopes  map[string]slopes `json:"slopes,omitempty"`
	Plans   []PlanFigures     `json:"plans"`
	Days    []DayFigures      `json:"days,omitempty"`
	Latency *Latency          `json:"latency,omitempty"`
	// API is the latency of jobs that are submitted through the API.
	API      *Latency  `json:"api_latency,omitempty"`
	APIP50   float64   `json:"api_latency_p50_ms,omitempty"`
	APIP99   float64   `json:"api_latency_p99_ms,omitempty"`
	Failover *Failover `json:"failover,omitempty"`
	*APIFigures
	*RunFigures
}

func run(ctx context.Context, o options) (err error) {
	parts := strings.Split(o.parts, ",")
	for _, part := range parts {
		if !slices.Contains(allParts, part) {
			return fmt.Errorf("there is no part %q; there are %s", part, strings.Join(allParts, ", "))
		}
	}
	dir, err := os.MkdirTemp("", "hostsched-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := testserver.Start(testserver.Kind(o.database), filepath.Join(dir, "database"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if o.cpuProfile != "" {
		stop, err := profile(o.cpuProfile)
		if err != nil {
			return err
		}
		defer stop()
	}
	b := &bench{server: server, program: o.program, dir: dir}
	var all results
	for _, part := range allParts {
		if !slices.Contains(parts, part) {
			continue
		}
		if err := b.measure(ctx, part, o, &all); err != nil {
			return err
		}
	}
	all.Server = b.measuredOn
	all.print(os.Stdout)
	if o.out == "" {
		return nil
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, append(data, '\n'), 0o644)
}

func (b *bench) measure(ctx context.Context, part string, o options, all *results) (err error) {
	switch part {
	case partTicks:
		err = b.sizes(ctx, o.sizes, all)
	case partPlans:
		all.Plans, all.Days = comparePlans(), compareDays(o.days)
	case partService:
		if o.latency > 0 || o.failovers > 0 {
			err = b.service(ctx, o.latency, o.failovers, all)
		}
	case partAPI:
		err = b.api(ctx, o.latency, all)
	case partRuns:
		all.RunFigures = &RunFigures{}
		if err = b.realRuns(ctx, all.RunFigures); err == nil {
			err = b.simulatedRuns(ctx, all.RunFigures)
		}
	}
	return err
}

func (b *bench) sizes(ctx context.Context, sizes string, all *results) error {
	for size := range strings.SplitSeq(sizes, ",") {
		hosts, entries, err := parseSize(size)
		if err != nil {
			return err
		}
		progress("%d hosts x %d entries", hosts, entries)
		f, err := b.size(ctx, hosts, entries)
		if err != nil {
			return fmt.Errorf("%s: %w", size, err)
		}
		all.Sizes = append(all.Sizes, f)
	}
	all.Slopes = slopesOf(all.Sizes)
	return nil
}

// profile records where this process spends its time until stop is called.
func profile(file string) (stop func(), err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: profile:", err)
		}
	}, nil
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

func parseSize(size string) (hosts, entries int, err error) {
	h, e, ok := strings.Cut(strings.TrimSpace(size), "x")
	hosts, herr := strconv.Atoi(h)
	entries, eerr := strconv.Atoi(e)
	if !ok || herr != nil || eerr != nil || hosts < 1 || entries < 1 {
		return 0, 0, fmt.Errorf("size %q: write HOSTSxENTRIES, like 1000x2000", size)
	}
	return hosts, entries, nil
}
