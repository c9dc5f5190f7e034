package durations

import (
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Parse reads a duration like 50ms, 1h30m, 2d or 1d12h. A day has 24 hours.
func Parse(text string) (time.Duration, bool) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		d, err := time.ParseDuration(text)
		return d, err == nil
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil || rest == "" {
		return time.Duration(n) * day, err == nil
	}
	d, err := time.ParseDuration(rest)
	return time.Duration(n)*day + d, err == nil && !strings.ContainsAny(rest[:1], "+-") && d < day
}

// Text is a duration as Parse reads it, in days if it is some of them.
func Text(d time.Duration) string {
	if d >= 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return d.String()
}
