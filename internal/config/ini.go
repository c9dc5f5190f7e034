package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// iniDefault is the section whose options every other section has, too.
const iniDefault = "DEFAULT"

// maxInterpolation is how deep options may refer to one another, as in Python.
const maxInterpolation = 10

// ini is a parsed configuration: section, option, value. Names of options are
// lower case. It is read as Python's ConfigParser reads it: whoever shares a
// file with the original must get the same values.
type ini map[string]map[string]option

// option is a value as it is written, and where.
type option struct {
	text string
	file string
	line int
}

// at begins a message about an option.
func (o option) at() string { return fmt.Sprintf("%s, line %d", o.file, o.line) }

// read adds a file; its options replace those that are there.
func (c ini) read(path string) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	section, name := "", ""
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxFile+1)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch {
		case isComment(line):
		case name != "" && isSpace(line[0]):
			o := c[section][name]
			o.text += "\n" + strings.TrimSpace(line)
			c[section][name] = o
		case line[0] == '[' && strings.Contains(line, "]"):
			section, name = line[1:strings.Index(line, "]")], ""
			if c[section] == nil {
				c[section] = map[string]option{}
			}
		default:
			at := strings.IndexAny(line, ":=")
			if at < 1 || section == "" || isSpace(line[0]) {
				return fmt.Errorf("%s, line %d: neither a section nor key: value", path, n)
			}
			name = strings.ToLower(strings.TrimSpace(line[:at]))
			c[section][name] = option{text: optionText(line[at+1:]), file: filepath.Base(path), line: n}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' }

// isComment: an indented # or ; is no comment but continues the option above.
func isComment(line string) bool {
	if strings.TrimSpace(line) == "" || line[0] == '#' || line[0] == ';' {
		return true
	}
	return strings.EqualFold(strings.Fields(line)[0], "rem") && !isSpace(line[0])
}

// optionText drops a comment that begins with a space and a semicolon. Two
// quotes are how an empty value is written.
func optionText(text string) string {
	if at := strings.IndexByte(text, ';'); at > 0 && isSpace(text[at-1]) {
		text = text[:at]
	}
	if text = strings.TrimSpace(text); text == `""` {
		return ""
	}
	return text
}

// find returns an option of a section, or of the defaults.
func (c ini) find(section, name string) (option, bool) {
	if o, ok := c[section][name]; ok {
		return o, true
	}
	if c[section] == nil {
		return option{}, false
	}
	o, ok := c[iniDefault][name]
	return o, ok
}

// value returns the text of an option with what it refers to put in. The error
// does not show the text, which may be a secret.
func (c ini) value(section, name string) (text string, o option, err error) {
	o, ok := c.find(section, name)
	if !ok {
		return "", o, nil
	}
	if text, err = c.interpolate(section, o.text, 1); err != nil {
		return "", o, fmt.Errorf("%s: [%s] %s: %w", o.at(), section, name, err)
	}
	return text, o, nil
}

// interpolate puts % for %%, and for %(name)s the option of that name, from the
// same section or the defaults.
func (c ini) interpolate(section, text string, depth int) (string, error) {
	if depth > maxInterpolation {
		return "", fmt.Errorf("options refer to one another more than %d deep", maxInterpolation)
	}
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "%")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		if after, escaped := strings.CutPrefix(rest, "%"); escaped {
			out.WriteByte('%')
			text = after
			continue
		}
		name, after, ok := reference(rest)
		if !ok {
			return "", errors.New("after a % comes neither another % nor (name)s; write %% for a percent sign")
		}
		o, ok := c.find(section, name)
		if !ok {
			return "", fmt.Errorf("it refers to %s, which is neither in [%s] nor in [%s]", name, section, iniDefault)
		}
		value, err := c.interpolate(section, o.text, depth+1)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		text = after
	}
}

// reference splits "(name)s…", what follows a %.
func reference(text string) (name, after string, ok bool) {
	text, ok = strings.CutPrefix(text, "(")
	if !ok {
		return "", "", false
	}
	name, after, ok = strings.Cut(text, ")")
	if !ok || name == "" {
		return "", "", false
	}
	after, ok = strings.CutPrefix(after, "s")
	return strings.ToLower(name), after, ok
}
