package runlog

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// masked takes the place of a secret.
const masked = "***"

// masker replaces secrets in a stream, also those that come in pieces.
type masker struct {
	secrets [][]byte
	held    []byte
}

// shortLine is a line of a secret of several lines that is too common to be masked alone.
const shortLine = 4

// newMasker also masks the lines of secrets that have several, as keys do: tools indent them,
// or print some.
func newMasker(secrets []string) *masker {
	m := &masker{}
	for _, s := range secrets {
		m.add(s)
		if !strings.Contains(s, "\n") {
			continue
		}
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); len(line) >= shortLine {
				m.add(line)
			}
		}
	}
	// Of two that begin alike the longer one is meant.
	slices.SortFunc(m.secrets, func(a, b []byte) int { return cmp.Or(len(b)-len(a), bytes.Compare(a, b)) })
	m.secrets = slices.CompactFunc(m.secrets, bytes.Equal)
	return m
}

// Masked is a whole text without secrets.
func Masked(secrets []string, text string) string {
	m := newMasker(secrets)
	return string(append(m.next([]byte(text)), m.rest()...))
}

func (m *masker) add(secret string) {
	if secret != "" {
		m.secrets = append(m.secrets, []byte(secret))
	}
}

// next returns what can be shown after more of the stream, which it does not keep.
func (m *masker) next(data []byte) []byte {
	if len(m.secrets) == 0 {
		return data
	}
	return m.replace(append(m.held, data...), false)
}

// rest returns what was held back, at the end of the stream.
func (m *masker) rest() []byte { return m.replace(m.held, true) }

func (m *masker) replace(data []byte, end bool) []byte {
	var out []byte
	for len(data) > 0 {
		at := m.firstOf(data)
		out, data = append(out, data[:at]...), data[at:]
		if len(data) == 0 {
			break
		}
		// A longer secret may yet come: wait for it, unless the stream is at its end.
		if !end && m.mayBecome(data) {
			break
		}
		if secret := m.at(data); secret != nil {
			out, data = append(out, masked...), data[len(secret):]
			continue
		}
		out, data = append(out, data[0]), data[1:]
	}
	m.held = bytes.Clone(data)
	return out
}

// firstOf is where the first character is with which any secret begins.
func (m *masker) firstOf(data []byte) int {
	first := len(data)
	for _, s := range m.secrets {
		if at := bytes.IndexByte(data[:first], s[0]); at >= 0 {
			first = at
		}
	}
	return first
}

func (m *masker) at(data []byte) []byte {
	for _, s := range m.secrets {
		if bytes.HasPrefix(data, s) {
			return s
		}
	}
	return nil
}

func (m *masker) mayBecome(data []byte) bool {
	return slices.ContainsFunc(m.secrets, func(s []byte) bool { return len(data) < len(s) && bytes.HasPrefix(s, data) })
}
