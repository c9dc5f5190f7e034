package testresults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/hostsched/hostsched/internal/labapi"
)

// maxLine is how much of a line is looked at.
const maxLine = 16 << 10

var (
	testLine = regexp.MustCompile(`^(not )?ok(?:[ \t]+\d{1,9})?(?:[ \t]+(?:-[ \t]*)?(.*))?$`)
	planLine = regexp.MustCompile(`^1\.\.(\d{1,9})[ \t]*(?:#.*)?$`)
	bailLine = regexp.MustCompile(`^Bail out!(.*)$`)
	// directive ends a description; a # that belongs to it has a backslash before.
	directive = regexp.MustCompile(`(?i)^((?:[^\\#]|\\.)*?)[ \t]*#[ \t]*(SKIP|TODO)\S*[ \t]*(.*)$`)
	unescape  = strings.NewReplacer(`\\`, `\`, `\#`, `#`)
)

// tap reads the tests of the outermost level; what they say of their own tests is in them.
type tap struct {
	tests []labapi.TestResult
	// known means that a line was seen that nothing but TAP has.
	known bool
	// plan is how many tests there should be, -1 if nobody said; ran is how many came.
	plan, ran int
	// details is in the block of details of the last test.
	details bool
	bailed  bool
}

func parseTAP(from io.Reader) ([]labapi.TestResult, error) {
	t := &tap{plan: -1}
	in := bufio.NewReaderSize(from, maxLine)
	for !t.bailed {
		line, err := readLine(in)
		if err == nil {
			err = t.take(strings.TrimRight(line, "\r\n"))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return t.tests, err
		}
	}
	return t.end()
}

// readLine returns a line, or the beginning of a long one.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	text := string(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = in.ReadSlice('\n')
	}
	if errors.Is(err, io.EOF) && text != "" {
		err = nil
	}
	return text, err
}

func (t *tap) take(line string) error {
	if t.details {
		t.detail(line)
		return nil
	}
	if m := testLine.FindStringSubmatch(line); m != nil {
		return t.test(m[1] != "", m[2])
	}
	if m := planLine.FindStringSubmatch(line); m != nil {
		t.plan, _ = strconv.Atoi(m[1]) // it has nine digits at most
		t.known = true
		return nil
	}
	if m := bailLine.FindStringSubmatch(line); m != nil {
		t.known, t.bailed = true, true
		return t.add(labapi.TestResult{Name: "Bail out!", Status: errored, Message: m[1]})
	}
	switch {
	case strings.HasPrefix(line, "TAP version "):
		t.known = true
	case strings.TrimRight(line, " \t") == "  ---" && len(t.tests) > 0:
		t.details = true
	case strings.HasPrefix(line, "#") && len(t.tests) > 0:
		t.say(strings.TrimPrefix(line, "#"))
	}
	return nil
}

func (t *tap) test(not bool, text string) error {
	t.known = true
	t.ran++
	r := labapi.TestResult{Name: text, Status: passed}
	if not {
		r.Status = failed
	}
	if m := directive.FindStringSubmatch(text); m != nil {
		r.Name, r.Message = m[1], m[3]
		// What is known to be broken is expected to fail.
		if not || strings.EqualFold(m[2], "skip") {
			r.Status = skipped
		}
	}
	r.Name = unescape.Replace(r.Name)
	if r.Name == "" {
		r.Name = fmt.Sprintf("test %d", t.ran)
	}
	return t.add(r)
}

func (t *tap) add(r labapi.TestResult) (err error) {
	t.tests, err = add(t.tests, r)
	return err
}

// detail takes a line of a block of details, which is YAML for people.
func (t *tap) detail(line string) {
	if strings.TrimSpace(line) == "..." {
		t.details = false
		return
	}
	t.say(strings.TrimPrefix(line, "  "))
}

// say adds to the message of the last test, if it failed.
func (t *tap) say(text string) {
	last := &t.tests[len(t.tests)-1]
	if last.Status != failed || len(last.Message) >= maxMessage {
		return
	}
	last.Message = cut(strings.TrimSpace(last.Message+"\n"+strings.TrimRight(text, " \t")), maxMessage)
}

// end finds tests that did not come.
func (t *tap) end() ([]labapi.TestResult, error) {
	switch {
	case !t.known:
		return nil, fmt.Errorf("%w: no line of it is TAP", ErrOther)
	case t.bailed || t.plan == t.ran:
		return t.tests, nil
	case t.plan < 0:
		return t.tests, fmt.Errorf("%w: tap: it has no plan like 1..%d, so tests may be missing", ErrForm, t.ran)
	}
	what := fmt.Sprintf("%d tests were planned, and %d ran", t.plan, t.ran)
	err := t.add(labapi.TestResult{Name: "1.." + strconv.Itoa(t.plan), Status: errored, Message: what})
	if err == nil {
		err = fmt.Errorf("%w: tap: %s", ErrForm, what)
	}
	return t.tests, err
}
