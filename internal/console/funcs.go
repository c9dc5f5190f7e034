package console

import (
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
)

// funcs are what templates call.
var funcs = template.FuncMap{
	"ago": ago, "stamp": stamp, "duration": duration, "seconds": func(s float64) string { return duration(time.Duration(s * float64(time.Second))) },
	"state": func(h labapi.Host) string { return h.State() }, "seg": url.PathEscape, "percent": percent, "bar": bar, "join": strings.Join, "bytes": bytesText, "noun": noun, "badge": badgeOf, "lower": strings.ToLower, "wait": func(s int64) string { return duration(time.Duration(s) * time.Second) }, "share": share, "dict": dict, "terms": terms,
}

// dict gives a part of a template several values by name.
func dict(pairs ...any) (map[string]any, error) {
	out := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		out[name] = pairs[i+1]
	}
	return out, nil
}

// option is a choice of a form.
type option struct{ Value, Text string }

// terms are how long a hold may last without being ended by somebody.
func terms() []option {
	return []option{{"1h", "1 hour"}, {"4h", "4 hours"}, {"24h", "1 day"}, {"72h", "3 days"}, {"168h", "1 week"}}
}

// stamp is a time for machines and for those who point at it.
func stamp(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 UTC") }

// ago is how long ago a time was, or how long it takes until it comes.
func ago(at *time.Time) string {
	if at == nil {
		return ""
	}
	d := time.Since(*at)
	if d.Abs() < time.Second {
		return "now" // also by a clock that is a little ahead of this one
	}
	if d < 0 {
		return "in " + duration(-d)
	}
	return duration(d) + " ago"
}

const day = 24 * time.Hour

// duration is a time in two units at most, and in tenths of a second if it is less than one: what
// took little is not taken for what did not happen.
func duration(d time.Duration) string {
	switch tenths := d / (100 * time.Millisecond); {
	case d <= 0:
		return "0 s"
	case tenths == 0:
		return "< 0.1 s"
	case d < time.Second:
		return fmt.Sprintf("0.%d s", tenths)
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < day:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

func share(part, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(part) / float64(of)
}

func percent(part, of int) string {
	if of == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %%", 100*share(part, of))
}

// segment is a part of a bar: where it begins and how wide it is, in percent.
type segment struct {
	State       string
	N           int
	Begin, Wide string
}

// bar cuts a bar into parts: names and numbers follow each other.
func bar(pairs ...any) []segment {
	total := 0
	for i := 1; i < len(pairs); i += 2 {
		n, _ := pairs[i].(int)
		total += n
	}
	var out []segment
	begin := 0.0
	for i := 0; i+1 < len(pairs); i += 2 {
		n, _ := pairs[i+1].(int)
		name, _ := pairs[i].(string)
		if n == 0 {
			continue
		}
		wide := 100 * share(n, total)
		out = append(out, segment{name, n, fmt.Sprintf("%.3f%%", begin), fmt.Sprintf("%.3f%%", wide)})
		begin += wide
	}
	return out
}

func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// noun is a number with its noun.
func noun(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// badge is a status by its word, a glyph and a class: nobody needs to see colours.
type badge struct{ Class, Glyph, Text string }

var badges = map[string]badge{
	"idle": {"idle", "○", "idle"}, "running": {"run", "▶", "running"}, "held": {"held", "■", "held"}, "broken": {"bad", "✕", "broken"},
	"queued": {"idle", "…", "queued"}, "passed": {"ok", "✓", "passed"}, "failed": {"bad", "✕", "failed"}, "aborted": {"held", "⊘", "aborted"},
	"completed": {"ok", "✓", "completed"}, "ready": {"idle", "○", "ready"}, "repair failed": {"bad", "✕", "repair failed"}, "stopped": {"held", "⊘", "stopped"},
	"online": {"ok", "●", "online"}, "unreachable": {"bad", "✕", "unreachable"}, "draining": {"held", "◐", "draining"}, "drained": {"held", "■", "drained"},
	"new": {"idle", "○", "new"}, "revoked": {"bad", "⊘", "revoked"}, "done": {"ok", "✓", "done"}, "lost": {"bad", "✕", "lost"}, "leader": {"ok", "★", "leader"},
	"none": {"bad", "✕", "none"}, "primary": {"ok", "●", "primary"}, "backup": {"idle", "○", "backup"}, "unusable": {"bad", "✕", "unusable"}, "infra": {"bad", "✕", "infra"},
	"skipped": {"idle", "–", "skipped"}, "error": {"bad", "✕", "error"}, "locked": {"held", "■", "locked"}, "bad": {"bad", "✕", "bad"},
}

// badgeOf words a status. One that is not known is on its way to another one.
func badgeOf(status string) badge {
	if b, ok := badges[strings.ToLower(status)]; ok {
		b.Text = strings.ToLower(status)
		return b
	}
	return badge{"run", "▶", strings.ToLower(status)}
}
