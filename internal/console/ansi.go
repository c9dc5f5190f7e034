package console

import (
	"regexp"
	"strconv"
	"strings"
)

// escapes are what terminals take for colours, moves of the cursor and titles. Whatever comes
// after the byte ESC, it is no text. The same expression is in static/console.js, for the lines that
// come while somebody looks.
var escapes = regexp.MustCompile(`\x1b(?:\[([0-?]*)([ -/]*)([@-~]|$)|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])?`)

// controls are characters that are no text either, but for the tabulator.
var controls = regexp.MustCompile(`[\x00-\x08\x0a-\x0c\x0e-\x1a\x1c-\x1f\x7f-\x{9f}]`)

// plain is a line without what terminals take for commands.
func plain(line string) string {
	if strings.IndexByte(line, 0x1b) >= 0 {
		line = escapes.ReplaceAllString(line, "")
	}
	return controls.ReplaceAllString(line, "")
}

// look is how a terminal would show text: bold, and in one of 16 colours, which is counted from 1; 0
// is none.
type look struct {
	bold   bool
	colour int
}

// span is text of one look. The class is one of ours, whatever the log says.
type span struct{ Class, Text string }

func (l look) class() string {
	var classes []string
	if l.colour > 0 {
		classes = append(classes, "ansi"+strconv.Itoa(l.colour-1))
	}
	if l.bold {
		classes = append(classes, "bold")
	}
	return strings.Join(classes, " ")
}

// spans cuts a line into parts of one look, of which the first begins as the line before ended.
func (l look) spans(line string) (out []span, end look) {
	add := func(text string) {
		text = controls.ReplaceAllString(text, "")
		if n := len(out); n > 0 && out[n-1].Class == l.class() {
			out[n-1].Text += text
		} else if text != "" {
			out = append(out, span{l.class(), text})
		}
	}
	from := 0
	for _, at := range escapes.FindAllStringSubmatchIndex(line, -1) {
		add(line[from:at[0]])
		from = at[1]
		if at[2] >= 0 && at[4] == at[5] && line[at[6]:at[7]] == "m" {
			l = l.after(line[at[2]:at[3]])
		}
	}
	add(line[from:])
	return out, l
}

// after is the look after a command with these parameters. What is not bold or one of the 16 colours
// changes nothing.
func (l look) after(parameters string) look {
	if strings.ContainsAny(parameters, "<=>?") {
		return l // it is for one kind of terminal
	}
	codes := strings.Split(parameters, ";")
	for i := 0; i < len(codes); i++ {
		code := number(codes[i])
		switch {
		case code == 0:
			l = look{}
		case code == 1:
			l.bold = true
		case code == 22:
			l.bold = false
		case code >= 30 && code <= 37:
			l.colour = code - 30 + 1
		case code >= 90 && code <= 97:
			l.colour = code - 90 + 9
		case code == 39:
			l.colour = 0
		case code == 38 || code == 48 || code == 58:
			// A colour of many: its parameters follow, by an index or by three shares.
			kind := ""
			if i+1 < len(codes) {
				kind = codes[i+1]
			}
			if code == 38 && kind == "5" && i+2 < len(codes) {
				if n := number(codes[i+2]); n >= 0 && n < 16 {
					l.colour = n + 1
				}
			}
			i += map[string]int{"5": 2, "2": 4}[kind]
		}
	}
	return l
}

// number is a parameter as a number, of which an empty one is 0, or -1 if it is none.
func number(text string) int {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return -1
	}
	return int(n)
}
