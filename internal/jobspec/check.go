package jobspec

import (
	"fmt"
	"maps"
	"math"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hostsched/hostsched/internal/durations"
	"github.com/hostsched/hostsched/internal/labapi"
)

// Bounds of Autotest's columns.
const (
	maxLabel  = 255
	maxHost   = 255
	maxOwner  = 190
	maxKey    = 90
	maxValue  = 300
	maxScript = 65_000 // bytes; the column has 65,535
	maxKeys   = 1000
)

// CheckJob finds what no schema can express. Submitting checks again, because a spec may
// also come from a program.
func CheckJob(job *labapi.JobSpec) error {
	var f faults
	checkJob("", job, &f)
	return f.err()
}

// CheckSuite checks a suite and its jobs.
func CheckSuite(suite *labapi.SuiteInput) error {
	var f faults
	checkLine("name", suite.Name, 255, &f)
	if suite.Owner != "" {
		checkLine("owner", suite.Owner, maxOwner, &f)
	}
	checkPriority("priority", suite.Priority, &f)
	if suite.Minimum < 0 {
		f.add("minimum", "it must not be negative")
	}
	for i := range suite.Jobs {
		where := "jobs[" + strconv.Itoa(i) + "]."
		if suite.Jobs[i].Suite != 0 {
			f.add(where+"suite", "the jobs of a new suite belong to it; leave it out")
		}
		if o := suite.Jobs[i].Owner; o != "" {
			f.add(where+"owner", "the jobs of a suite have the suite's owner; leave it out")
		}
		checkJob(where, &suite.Jobs[i], &f)
	}
	return f.err()
}

func checkJob(at string, job *labapi.JobSpec, f *faults) {
	checkLine(at+"name", job.Name, 255, f)
	if job.Owner != "" {
		checkLine(at+"owner", job.Owner, maxOwner, f)
	}
	checkPriority(at+"priority", job.Priority, f)
	checkWanted(at, job, f)
	for _, d := range []struct{ key, text string }{{"timeout", job.Timeout}, {"max_runtime", job.MaxRuntime}, {"output_timeout", job.OutputTimeout}} {
		if _, err := Minutes(d.text, 0); err != nil {
			f.add(at+d.key, "%s", err)
		}
	}
	checkReboot(at, job.Reboot, f)
	checkCleanup(at, job, f)
	checkKeyvals(at, job.Keyvals, f)
	checkScript(at+"script", job.Script, f)
	checkRun(at, job, f)
	checkOwn(at, job, f)
	if job.Suite < 0 || job.Suite > math.MaxInt32 {
		f.add(at+"suite", "%d is no id of a suite", job.Suite)
	}
	if job.Notify != "" {
		checkLine(at+"notify", job.Notify, 250, f)
		if _, err := mail.ParseAddress(job.Notify); err != nil {
			f.add(at+"notify", "it is no mail address")
		}
	}
}

// checkWanted checks which hosts are wanted, and how many.
func checkWanted(at string, job *labapi.JobSpec, f *faults) {
	switch {
	case len(job.Hosts) > 0 && job.Count != 0:
		f.add(at+"count", "each of the hosts that are named gets one entry; leave it out")
	case len(job.Hosts) == 0 && len(job.Labels) == 0:
		f.add(at+"labels", "say which hosts may run the job: labels that they carry, or hosts by their names")
	}
	for i, l := range job.Labels {
		checkLine(at+"labels["+strconv.Itoa(i)+"]", l, maxLabel, f)
	}
	for i, h := range job.Hosts {
		checkLine(at+"hosts["+strconv.Itoa(i)+"]", h, maxHost, f)
	}
	for _, n := range []struct {
		key string
		n   int
	}{{"count", job.Count}, {"synch", job.Synch}} {
		if n.n < 0 || n.n > 10_000 {
			f.add(at+n.key, "it must be between 1 and 10000")
		}
	}
}

func checkPriority(at string, priority int, f *faults) {
	if priority < -2_000_000_000 || priority > 2_000_000_000 {
		f.add(at, "it must be between -2000000000 and 2000000000")
	}
}

func checkReboot(at string, reboot *labapi.RebootSpec, f *faults) {
	if reboot == nil {
		return
	}
	if _, err := RebootBefore(reboot); err != nil {
		f.add(at+"reboot.before", "%s", err)
	}
	if _, err := RebootAfter(reboot); err != nil {
		f.add(at+"reboot.after", "%s", err)
	}
}

// checkCleanup refuses what contradicts itself: before a job a host is reset or cleaned, and a
// reset cleans it, too.
func checkCleanup(at string, job *labapi.JobSpec, f *faults) {
	if job.Cleanup == nil {
		return
	}
	if *job.Cleanup && job.Reset != nil && *job.Reset {
		f.add(at+"cleanup", "a reset cleans the host, too; leave one of the two out")
	}
	if job.Reboot != nil && job.Reboot.Before != "" {
		f.add(at+"cleanup", "reboot.before says the same; leave one of the two out")
	}
}

func checkKeyvals(at string, keyvals map[string]string, f *faults) {
	if len(keyvals) > maxKeys {
		f.add(at+"keyvals", "there are %d; at most %d are possible", len(keyvals), maxKeys)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(keyvals)) {
		value := keyvals[key]
		where := at + "keyvals." + shown(key)
		checkLine(where, key, maxKey, f)
		if value != "" {
			checkText(where, value, maxValue, f)
		}
		if key == MinimumKey {
			f.add(where, "the minimum of hosts belongs to a suite: its key minimum")
		}
	}
}

func checkScript(at, script string, f *faults) {
	switch {
	case !utf8.ValidString(script) || strings.ContainsRune(script, 0):
		f.add(at, "it must be valid UTF-8 without zero bytes")
	case len(script) > maxScript:
		f.add(at, "it has %d bytes; at most %d are possible", len(script), maxScript)
	}
}

// checkLine checks a name: a line that is not empty, without blanks around it, which
// databases disregard when they compare.
func checkLine(at, text string, longest int, f *faults) {
	if text == "" {
		f.add(at, "it must not be empty")
		return
	}
	if strings.TrimSpace(text) != text {
		f.add(at, "%q begins or ends with a blank", cut(text))
		return
	}
	checkText(at, text, longest, f)
}

// checkText checks one line of text.
func checkText(at, text string, longest int, f *faults) {
	switch {
	case !utf8.ValidString(text):
		f.add(at, "it is not valid UTF-8")
	case utf8.RuneCountInString(text) > longest:
		f.add(at, "it has more than %d characters", longest)
	case strings.ContainsFunc(text, odd):
		f.add(at, "%q has a character that cannot be shown", cut(text))
	}
}

// odd are characters that nobody could type or read: control characters, line
// separators, marks that change the direction of writing, and the one that stands for
// broken text.
func odd(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Cf) || r == utf8.RuneError
}

// MinimumKey is the keyval by which the planner knows the minimum of a suite.
const MinimumKey = "suite_min_duts"

// LongestReserve is how long hosts are reserved at the most, from now.
const LongestReserve = 7 * 24 * time.Hour

// Longest is the longest time that a job may be given.
const Longest = 366 * 24 * time.Hour

// Minutes reads a duration like 90m, 24h or 2d, and rounds it up to minutes, as Autotest
// keeps it. An empty text stands for otherwise.
func Minutes(text string, otherwise int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	d, ok := durations.Parse(text)
	if !ok {
		return 0, fmt.Errorf("%q is no duration; write 90m, 24h or 2d", cut(text))
	}
	if d <= 0 || d > Longest {
		return 0, fmt.Errorf("%s is not between a minute and 366 days", cut(text))
	}
	return int((d + time.Minute - 1) / time.Minute), nil
}

// rebootBefore and rebootAfter are the values of Autotest's columns, in their order.
var (
	rebootBefore = []string{"never", "if_dirty", "always"}
	rebootAfter  = []string{"never", "if_all_tests_passed", "always"}
)

// RebootBefore is afe_jobs.reboot_before; if dirty, unless something else was said.
func RebootBefore(r *labapi.RebootSpec) (int, error) {
	if r == nil || r.Before == "" {
		return 1, nil
	}
	return indexOf(rebootBefore, r.Before)
}

// Cleaned is a job with what its key cleanup stands for in its other ones.
func Cleaned(job labapi.JobSpec) labapi.JobSpec {
	if job.Cleanup == nil {
		return job
	}
	reboot := labapi.RebootSpec{Before: rebootBefore[0]}
	if job.Reboot != nil {
		reboot.After = job.Reboot.After
	}
	if *job.Cleanup {
		reboot.Before = rebootBefore[2]
		job.Reset = new(bool)
	}
	job.Reboot = &reboot
	return job
}

// RebootAfter is afe_jobs.reboot_after; never, unless something else was said.
func RebootAfter(r *labapi.RebootSpec) (int, error) {
	if r == nil || r.After == "" {
		return 0, nil
	}
	return indexOf(rebootAfter, r.After)
}

func indexOf(names []string, name string) (int, error) {
	if i := slices.Index(names, name); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("%q is not one of %s", cut(name), strings.Join(names, ", "))
}

// RebootNames are the names of the values of Autotest's columns, for values that are known.
func RebootNames(before, after int64) *labapi.RebootSpec {
	name := func(names []string, i int64) string {
		if i < 0 || i >= int64(len(names)) {
			return ""
		}
		return names[i]
	}
	return &labapi.RebootSpec{Before: name(rebootBefore, before), After: name(rebootAfter, after)}
}

// Synch is how many hosts run together.
func Synch(job *labapi.JobSpec) int {
	if job.Own != "" {
		return Entries(job)
	}
	return max(job.Synch, 1)
}

// Entries is how many queue entries a job gets.
func Entries(job *labapi.JobSpec) int {
	if len(job.Hosts) > 0 {
		return len(job.Hosts)
	}
	return max(job.Count, 1)
}
