package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/hostsched/hostsched/internal/browser"
)

const (
	// shotBound is how long one picture may take.
	shotBound = 30 * time.Second
	// settles is how long a page takes to become live.
	settles = 700 * time.Millisecond
)

// picture is a page that is looked at.
type picture struct {
	name, path string
	size       browser.Size
	dark       bool
}

func main() {
	program := flag.String("hostsched", "bin/hostsched", "the program that is started")
	out := flag.String("out", "docs/screenshots", "the folder of the pictures")
	flag.Parse()
	if err := run(context.Background(), *program, *out); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program, out string) (err error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	d, err := startDemo(ctx, program)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	pictures, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	tab, stop, err := browser.Start(ctx, browser.Desk)
	if err != nil {
		return err
	}
	defer stop()
	for _, p := range pictures {
		if err := p.take(tab, d.url, out); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func (p picture) take(tab context.Context, url, out string) error {
	ctx, cancel := context.WithTimeout(tab, shotBound)
	defer cancel()
	if err := browser.Look(ctx, p.size, p.dark); err != nil {
		return err
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(url+"/ui/"+p.path), chromedp.Sleep(settles)); err != nil {
		return err
	}
	shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	if shot, err = small(shot); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, p.name+".png"), shot, 0o644) //nolint:gosec // everybody may look at it
}
