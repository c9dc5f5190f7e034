package console

import (
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
)

// heatDay is a day of a host with its hours.
type heatDay struct {
	Day   time.Time
	Hours []heatHour
}

// heatHour has a glyph and a class for what was the matter, which say the same.
type heatHour struct {
	At                  time.Time
	State, Glyph, Class string
}

var hours = map[string]heatHour{
	labapi.HourBroken: {Glyph: "R", Class: "bad"}, labapi.HourFailed: {Glyph: "✕", Class: "bad"}, labapi.HourHeld: {Glyph: "■", Class: "held"},
	labapi.HourPassed: {Glyph: "✓", Class: "ok"}, labapi.HourTask: {Glyph: "t", Class: "run"},
}

// heatmap lays the hours of a host out by days, the latest first.
func heatmap(h labapi.HostHealth) []heatDay {
	at := map[int64]string{}
	for _, hour := range h.Hours {
		at[hour.At.Unix()] = hour.State
	}
	var days []heatDay
	for d := h.To.Truncate(day); !d.Before(h.From.Truncate(day)); d = d.Add(-day) {
		out := heatDay{Day: d}
		for n := range 24 {
			hour := d.Add(time.Duration(n) * time.Hour)
			cell := hours[at[hour.Unix()]]
			cell.At, cell.State = hour, at[hour.Unix()]
			if hour.Before(h.From) || hour.After(h.To) {
				cell.Class = "none"
			}
			out.Hours = append(out.Hours, cell)
		}
		days = append(days, out)
	}
	return days
}
