package browser

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// ErrMissing means that there is no chromium on this machine.
var ErrMissing = errors.New("chromium is missing; 'make test-deps' installs it")

// Size is that of a window, and Phone and Desk are what people have.
type Size struct{ Width, Height int64 }

// The sizes that pages are looked at in.
var (
	Desk  = Size{1280, 860}
	Phone = Size{390, 844}
)

// options let chromium run as root on a machine without a network: what it would call of its
// maker is off.
func options(size Size) []chromedp.ExecAllocatorOption {
	out := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	for _, name := range []string{"no-sandbox", "disable-gpu", "disable-quic", "disable-component-update", "disable-sync", "disable-domain-reliability", "no-pings"} {
		out = append(out, chromedp.Flag(name, true))
	}
	return append(out, chromedp.WindowSize(int(size.Width), int(size.Height)))
}

// Start starts a browser that ends with ctx or with stop. Contexts made of its own by
// chromedp.NewContext are further tabs.
func Start(ctx context.Context, size Size) (tab context.Context, stop func(), err error) {
	program, err := exec.LookPath("chromium")
	if err != nil {
		return nil, nil, ErrMissing
	}
	allocator, endAllocator := chromedp.NewExecAllocator(ctx, append(options(size), chromedp.ExecPath(program))...)
	tab, endTab := chromedp.NewContext(allocator)
	stop = func() {
		endTab()
		endAllocator()
	}
	if err := chromedp.Do(tab); err != nil {
		stop()
		return nil, nil, fmt.Errorf("start %s: %w", program, err)
	}
	return tab, stop, nil
}

// Look makes a tab look at pages in a size, and in the light or the dark.
func Look(tab context.Context, size Size, dark bool) error {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	_, err := chromedp.Call(tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: size.Width, Height: size.Height, DeviceScaleFactor: 1, Mobile: size == Phone})
	if err == nil {
		_, err = chromedp.Call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	}
	return err
}
