package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/hostsched/hostsched/internal/browser"
)

const (
	// shotBound is how long one picture may take.
	shotBound = 30 * time.Second
	// settles is how long a page takes to become live.
	settles = 500 * time.Millisecond
)

func main() {
	url := flag.String("url", "", "a console that runs already")
	out := flag.String("out", "docs/screenshots", "the folder of the pictures")
	only := flag.String("only", "", "a part of the name of the pictures that are taken")
	all := flag.Bool("all", false, "light and dark, desk and phone")
	flag.Parse()
	if err := run(*url, *out, *only, *all); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

func run(url, out, only string, all bool) error {
	tab, stop, err := browser.Start(context.Background(), browser.Desk)
	if err != nil {
		return err
	}
	defer stop()
	for _, p := range strings.Split(only, ",") {
		name, path, _ := strings.Cut(p, "=")
		for _, look := range []struct {
			name string
			size browser.Size
			dark bool
		}{{"", browser.Desk, false}, {"-dark", browser.Desk, true}, {"-phone", browser.Phone, false}} {
			if look.name != "" && !all {
				continue
			}
			if err := shoot(tab, url+path, filepath.Join(out, name+look.name+".png"), look.size, look.dark); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func shoot(tab context.Context, url, file string, size browser.Size, dark bool) error {
	ctx, cancel := context.WithTimeout(tab, shotBound)
	defer cancel()
	if err := browser.Look(ctx, size, dark); err != nil {
		return err
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(url), chromedp.Sleep(settles)); err != nil {
		return err
	}
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	return os.WriteFile(file, picture, 0o644)
}
