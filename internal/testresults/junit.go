package testresults

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html/charset"

	"github.com/hostsched/hostsched/internal/labapi"
)

// maxDepth is more than suites within suites need.
const maxDepth = 100

// statusOf are the elements of a test case that say how it ended. What comes of a test that
// was repeated until it passed has other names.
var statusOf = map[string]string{"failure": failed, "error": errored, "skipped": skipped}

// junit reads a document element by element: no tree of it is ever made, and encoding/xml
// knows no entities but those of XML itself.
type junit struct {
	in    *xml.Decoder
	tests []labapi.TestResult
	// open are the names of the elements that are open, suites those of their suites.
	open, suites []string
	// test is the test case that is open, nil between them; its status is empty yet if it
	// passed. text is where characters go.
	test *labapi.TestResult
	text *strings.Builder
}

func parseJUnit(from io.Reader) ([]labapi.TestResult, error) {
	j := &junit{in: xml.NewDecoder(from)}
	j.in.CharsetReader = charset.NewReaderLabel
	for {
		token, err := j.in.Token()
		if errors.Is(err, io.EOF) && len(j.open) == 0 {
			return j.end()
		}
		if err == nil {
			err = j.take(token)
		}
		if err != nil {
			return j.tests, j.explain(err)
		}
	}
}

// end is at the end of the text.
func (j *junit) end() ([]labapi.TestResult, error) {
	if j.suites == nil {
		return nil, fmt.Errorf("%w: there are no testsuites in it", ErrForm)
	}
	return j.tests, nil
}

// explain says where a text is wrong.
func (j *junit) explain(err error) error {
	if errors.Is(err, ErrForm) {
		return err
	}
	line, _ := j.in.InputPos()
	text := err.Error()
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		line, text = syntax.Line, syntax.Msg
	}
	return fmt.Errorf("%w: junit, line %d: %s", ErrForm, line, cut(oneLine(text), maxName))
}

func (j *junit) take(token xml.Token) error {
	switch t := token.(type) {
	case xml.StartElement:
		return j.begins(t)
	case xml.EndElement:
		return j.ends(t.Name.Local)
	case xml.CharData:
		if j.text != nil && j.text.Len() < maxText {
			j.text.Write(t[:min(len(t), maxText)])
		}
	}
	return nil
}

func (j *junit) begins(e xml.StartElement) error {
	name := e.Name.Local
	if len(j.open) == 0 && name != "testsuites" && name != "testsuite" {
		return fmt.Errorf("%w: a document of %q, and not of testsuites", ErrOther, cut(name, maxName))
	}
	if len(j.open) == maxDepth {
		return fmt.Errorf("%w: elements are %d deep", ErrForm, maxDepth)
	}
	j.open, j.suites = append(j.open, name), append(j.suites, attribute(e, "name"))
	status, says := statusOf[name]
	switch {
	case name == "testcase":
		j.test = &labapi.TestResult{Name: j.nameOf(e), Millis: millis(attribute(e, "time"))}
	case says && j.test != nil && slices.Index(j.open, "testcase") == len(j.open)-2:
		// An error beside a failure is worse; both keep their messages.
		if j.test.Status == "" || status == errored {
			j.test.Status = status
		}
		j.say(attribute(e, "message"))
		j.text = &strings.Builder{}
	}
	return nil
}

// nameOf is the name of a test with that of its class, or else of its suite.
func (j *junit) nameOf(e xml.StartElement) string {
	of := attribute(e, "classname")
	if of == "" && len(j.suites) > 1 {
		of = j.suites[len(j.suites)-2]
	}
	name := attribute(e, "name")
	if of == "" || name == "" {
		return of + name
	}
	return of + "." + name
}

func (j *junit) say(text string) {
	text = strings.TrimSpace(text)
	if text == "" || strings.Contains(j.test.Message, text) {
		return
	}
	if j.test.Message != "" {
		text = j.test.Message + "\n" + text
	}
	j.test.Message = cut(text, maxMessage)
}

func (j *junit) ends(name string) (err error) {
	j.open, j.suites = j.open[:len(j.open)-1], j.suites[:len(j.suites)-1]
	switch {
	case j.test != nil && name == "testcase":
		if j.test.Status == "" {
			j.test.Status = passed
		}
		j.tests, err = add(j.tests, *j.test)
		j.test = nil
	case j.text != nil && statusOf[name] != "":
		j.say(j.text.String())
		j.text = nil
	}
	return err
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return cut(a.Value, maxText)
		}
	}
	return ""
}

// millis reads seconds as tools of several countries write them; what is none counts as 0.
func millis(seconds string) int64 {
	s, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(seconds), ",", ""), 64)
	if err != nil || math.IsNaN(s) || s < 0 || s > (365*24*time.Hour).Seconds() {
		return 0
	}
	return int64(math.Round(s * 1000))
}
