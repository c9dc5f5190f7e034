package testresults

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/hostsched/hostsched/internal/labapi"
)

// The forms of results.
const (
	JUnit = "junit"
	TAP   = "tap"
)

// Statuses of tests, as labapi.TestResult has them.
const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
	errored = "error"
)

// Bounds of what is read.
const (
	// MaxBytes is how large a file may be.
	MaxBytes = 64 << 20
	// MaxTests is how many tests a run may have.
	MaxTests = 20_000
	// maxName and maxMessage are in characters, as the lab keeps them.
	maxName    = 500
	maxMessage = 1000
	// maxText is how much of a text is looked at; its beginning says most.
	maxText = 4 * maxMessage
)

// ErrForm means that a text is not in the form that it should have, or not all of it.
var ErrForm = errors.New("this is not in the form of results")

// ErrOther means that a text is something else altogether.
var ErrOther = fmt.Errorf("%w: it is something else", ErrForm)

// Parse reads results in a form. Beside an error it returns what was read before.
func Parse(form string, from io.Reader) ([]labapi.TestResult, error) {
	bounded := &bounded{from: from, left: MaxBytes}
	switch form {
	case JUnit:
		return parseJUnit(bounded)
	case TAP:
		return parseTAP(bounded)
	}
	return nil, fmt.Errorf("%w: there is no form %q", ErrForm, form)
}

// bounded fails where io.LimitedReader would say that a file ends.
type bounded struct {
	from io.Reader
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: it has more than %d MiB", ErrForm, MaxBytes>>20)
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// add adds a test, whose texts others wrote.
func add(tests []labapi.TestResult, t labapi.TestResult) ([]labapi.TestResult, error) {
	if len(tests) == MaxTests {
		return tests, fmt.Errorf("%w: there are more than %d tests", ErrForm, MaxTests)
	}
	t.Name, t.Message = cut(oneLine(t.Name), maxName), cut(strings.TrimSpace(t.Message), maxMessage)
	if t.Name == "" {
		t.Name = "(without name)"
	}
	return append(tests, t), nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func cut(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// Failed counts tests that did not pass although they ran.
func Failed(tests []labapi.TestResult) (n int) {
	for _, t := range tests {
		if t.Status == failed || t.Status == errored {
			n++
		}
	}
	return n
}
