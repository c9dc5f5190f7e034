package testresults_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/testresults"
)

type result = labapi.TestResult

func TestJUnit(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []result
	}{
		"pytest": {`<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" errors="0" failures="1" skipped="1" tests="3" time="0.031" timestamp="2026-11-26T10:00:00" hostname="h">
<testcase classname="tests.test_boot" name="test_boot[eve]" time="0.001" />
<testcase classname="tests.test_boot" name="test_wifi" time="1.5"><failure message="assert 0 == 1">def test_wifi():
&gt;   assert 0 == 1</failure></testcase>
<testcase classname="tests.test_boot" name="test_modem" time="0.000"><skipped type="pytest.skip" message="no modem">tests/test_boot.py:9: no modem</skipped></testcase>
</testsuite></testsuites>`, []result{
			{Name: "tests.test_boot.test_boot[eve]", Status: "passed", Millis: 1},
			{Name: "tests.test_boot.test_wifi", Status: "failed", Millis: 1500, Message: "assert 0 == 1\ndef test_wifi():\n>   assert 0 == 1"},
			{Name: "tests.test_boot.test_modem", Status: "skipped", Message: "no modem\ntests/test_boot.py:9: no modem"},
		}},
		"one suite, output, properties": {`<testsuite name="boot"><properties><property name="a" value="b"/></properties>
<testcase name="up" time="1,234.5"><system-out><![CDATA[<failure>]]></system-out></testcase><testcase name="down"><error type="E"/></testcase><system-err>x</system-err></testsuite>`, []result{
			{Name: "boot.up", Status: "passed", Millis: 1234500}, {Name: "boot.down", Status: "error"},
		}},
		"suites within suites": {`<testsuites><testsuite name="a"><testsuite name="b"><testcase name="t"/></testsuite><testcase name="u"/></testsuite></testsuites>`, []result{
			{Name: "b.t", Status: "passed"}, {Name: "a.u", Status: "passed"},
		}},
		"passed when it was tried again": {`<testsuite><testcase name="t"><flakyFailure message="once"/><rerunFailure/></testcase></testsuite>`, []result{{Name: "t", Status: "passed"}}},
		"an error beside a failure":      {`<testsuite><testcase name="t"><failure message="a"/><error message="b"/></testcase></testsuite>`, []result{{Name: "t", Status: "error", Message: "a\nb"}}},
		"no tests":                       {`<testsuites/>`, nil},
		"no names":                       {`<testsuite><testcase time="-1"/><testcase time="NaN" name=" a &#10; b "/></testsuite>`, []result{{Name: "(without name)", Status: "passed"}, {Name: "a b", Status: "passed"}}},
		"another encoding":               {"<?xml version='1.0' encoding='ISO-8859-1'?><testsuite><testcase name='\xe9t\xe9'/></testsuite>", []result{{Name: "été", Status: "passed"}}},
		"a byte order mark":              {"\uFEFF<testsuite><testcase name='t'/></testsuite>", []result{{Name: "t", Status: "passed"}}},
	} {
		got, err := testresults.Parse(testresults.JUnit, strings.NewReader(c.text))
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
}

func TestTAP(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []result
	}{
		"bats": {"1..4\nok 1 boots\nnot ok 2 joins the wifi\n# (in test file boot.bats, line 9)\n#   `false' failed\nok 3 modem # skip no modem\nnot ok 4 - camera # TODO the driver is old\n", []result{
			{Name: "boots", Status: "passed"},
			{Name: "joins the wifi", Status: "failed", Message: "(in test file boot.bats, line 9)\n   `false' failed"},
			{Name: "modem", Status: "skipped", Message: "no modem"},
			{Name: "camera", Status: "skipped", Message: "the driver is old"},
		}},
		"version 14 between other output": {"booting\nTAP version 14\n    ok 1 - inner\n    1..1\nok 1 - outer\n  ---\n  duration_ms: 5\n  ...\nok, thanks\nnot ok 2 - a \\# b\n  ---\n  message: it broke\n  at: line 7\n  ...\n1..2 # done\r\n", []result{
			{Name: "outer", Status: "passed"}, {Name: "a # b", Status: "failed", Message: "message: it broke\nat: line 7"},
		}},
		"without numbers and names": {"ok\nnot ok\nok - \n1..3", []result{{Name: "test 1", Status: "passed"}, {Name: "test 2", Status: "failed"}, {Name: "test 3", Status: "passed"}}},
		"nothing to do":             {"1..0 # SKIP no camera here\n", nil},
		"bail out":                  {"1..9\nok 1 a\nBail out! The host is gone.\nok 2 b\n", []result{{Name: "a", Status: "passed"}, {Name: "Bail out!", Status: "error", Message: "The host is gone."}}},
		"todo that passes":          {"ok 1 a # TODO\n1..1\n", []result{{Name: "a", Status: "passed"}}},
	} {
		got, err := testresults.Parse(testresults.TAP, strings.NewReader(c.text))
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
}

// TestMistakes are told in one line, beside what was read before.
func TestMistakes(t *testing.T) {
	bomb := `<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]><testsuite><testcase name="t"/><testcase name="&lol2;"/></testsuite>`
	outside := `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><testsuite><testcase name="t"/><testcase><failure>&e;</failure></testcase></testsuite>`
	for name, c := range map[string]struct {
		form, text, want string
		tests            int
	}{
		"an entity bomb":          {"junit", bomb, `invalid character entity &lol2;`, 1},
		"an entity from outside":  {"junit", outside, `invalid character entity &e;`, 1},
		"empty":                   {"junit", "", "there are no testsuites in it", 0},
		"blanks":                  {"junit", " \n", "there are no testsuites in it", 0},
		"cut":                     {"junit", `<testsuite><testcase name="a"/><testcase name="b">`, "junit, line 1: unexpected EOF", 1},
		"another document":        {"junit", "<html></html>", `a document of "html"`, 0},
		"no document":             {"junit", "all passed", "there are no testsuites in it", 0},
		"binary":                  {"junit", "<testsuite>\x00\x01", "junit, line 1", 0},
		"an encoding of nobody":   {"junit", `<?xml version="1.0" encoding="klingon"?><testsuite/>`, "klingon", 0},
		"deep":                    {"junit", "<testsuite>" + strings.Repeat("<testsuite>", 200), "elements are 100 deep", 0},
		"several documents":       {"junit", `<testsuite><testcase name="a"/></testsuite><html/>`, `a document of "html"`, 1},
		"no TAP":                  {"tap", "all passed\n", "no line of it is TAP", 0},
		"nothing":                 {"tap", "", "no line of it is TAP", 0},
		"tests that did not come": {"tap", "1..3\nok 1\n", "3 tests were planned, and 1 ran", 2},
		"too many":                {"tap", "1..1\nok 1\nok 2\n", "1 tests were planned, and 2 ran", 3},
		"cut off":                 {"tap", "ok 1\nok 2\n", "no plan", 2},
		"no such form":            {"trx", "", `no form "trx"`, 0},
	} {
		got, err := testresults.Parse(c.form, strings.NewReader(c.text))
		require.ErrorIs(t, err, testresults.ErrForm, name)
		require.ErrorContains(t, err, c.want, name)
		require.NotContains(t, err.Error(), "\n", name)
		require.Len(t, got, c.tests, name)
	}
}

// endless is text that never ends.
type endless struct {
	begins, again string
	at            string
}

func (e *endless) Read(p []byte) (int, error) {
	if e.at == "" {
		e.at, e.begins = e.begins, e.again
	}
	n := copy(p, e.at)
	e.at = e.at[n:]
	return n, nil
}

// TestBounds: nothing is read for ever or kept whole.
func TestBounds(t *testing.T) {
	for name, c := range map[string]struct {
		form string
		text io.Reader
		want string
	}{
		"tests of junit": {"junit", &endless{begins: "<testsuite>", again: `<testcase name="t"/>`}, "more than 20000 tests"},
		"tests of tap":   {"tap", &endless{begins: "ok\n", again: "not ok\n"}, "more than 20000 tests"},
		"a long text":    {"junit", &endless{begins: `<testsuite><testcase name="t"><failure>`, again: "x"}, "more than 64 MiB"},
		"a long line":    {"tap", &endless{begins: "ok ", again: strings.Repeat("x", 1000)}, "more than 64 MiB"},
		"other output":   {"tap", &endless{begins: "ok\n", again: "so it is\n" + strings.Repeat("-", 1000) + "\n"}, "more than 64 MiB"},
	} {
		got, err := testresults.Parse(c.form, c.text)
		require.ErrorContains(t, err, c.want, name)
		require.LessOrEqual(t, len(got), testresults.MaxTests, name)
	}
	long := strings.Repeat("é", 3000)
	got, err := testresults.Parse("junit", strings.NewReader(fmt.Sprintf(`<testsuite><testcase name="%s"><failure message="%s">%s</failure></testcase></testsuite>`, long, long, long)))
	require.NoError(t, err)
	require.Equal(t, 500, utf8.RuneCountInString(got[0].Name))
	require.Equal(t, 1000, utf8.RuneCountInString(got[0].Message))
}

// FuzzParse: whatever a file has, what is read of it can be kept.
func FuzzParse(f *testing.F) {
	f.Add("junit", `<testsuite><testcase name="a" time="1"><failure>x</failure></testcase></testsuite>`)
	f.Add("tap", "1..2\nok 1 - a # SKIP b\nnot ok 2\n  ---\n  a: b\n  ...\n")
	f.Fuzz(func(t *testing.T, form, text string) {
		tests, err := testresults.Parse(form, strings.NewReader(text))
		for _, r := range tests {
			require.Contains(t, []string{"passed", "failed", "skipped", "error"}, r.Status)
			require.NotEmpty(t, r.Name)
			require.True(t, utf8.ValidString(r.Name) && utf8.ValidString(r.Message))
			require.LessOrEqual(t, utf8.RuneCountInString(r.Name), 500)
			require.LessOrEqual(t, utf8.RuneCountInString(r.Message), 1000)
			require.GreaterOrEqual(t, r.Millis, int64(0))
		}
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
		}
	})
}
