package lab

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// How long names and texts may be that people enter, in characters.
const (
	maxName      = 255
	maxLogin     = 190
	maxReason    = 500
	maxAttribute = 90
	maxValue     = 300
)

var hostnamePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)

// checkHostname refuses what cannot be the name of a new host.
func checkHostname(name string) error {
	if !hostnamePattern.MatchString(name) || len(name) > maxName {
		return fmt.Errorf("%w: %q is no hostname: letters, digits, dots, hyphens, underscores and colons, at most %d", ErrInput, shortened(name), maxName)
	}
	return nil
}

// checkName refuses what cannot be the name of something new.
func checkName(what, name string, most int) error {
	if name == "" || strings.TrimSpace(name) != name || strings.ContainsRune(name, ',') {
		return fmt.Errorf("%w: %q is no name of %s: it must not be empty, begin or end with a space, or have a comma", ErrInput, shortened(name), what)
	}
	return checkText("the name of "+what, name, most)
}

// checkText refuses text that is too long, or that would break the line that shows it.
func checkText(what, text string, most int) error {
	switch {
	case !utf8.ValidString(text):
		return fmt.Errorf("%w: %s is not UTF-8", ErrInput, what)
	case utf8.RuneCountInString(text) > most:
		return fmt.Errorf("%w: %s has %d characters; at most %d are kept", ErrInput, what, utf8.RuneCountInString(text), most)
	case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%w: %s has a character that cannot be printed: %q", ErrInput, what, shortened(text))
	}
	return nil
}

// CheckReason refuses a reason that others cannot read, and none where one is required.
func CheckReason(reason string, required bool) error {
	if required && reason == "" {
		return fmt.Errorf("%w: say why, in reason: others see it", ErrInput)
	}
	return checkText("the reason", reason, maxReason)
}

// shortened is enough of a text to find it.
func shortened(text string) string { return cut(text, 60) }

// protections are the names of afe_hosts.protection, by value, as Autotest shows them.
var protections = []string{"No protection", "Repair software only", "Repair filesystem only", "Do not repair", "Do not verify"}

func protectionName(n int64) string {
	if n < 0 || n >= int64(len(protections)) {
		return fmt.Sprintf("protection %d", n)
	}
	return protections[n]
}

func parseProtection(name string) (int, error) {
	for i, p := range protections {
		if strings.EqualFold(p, name) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: %q is no protection; there are: %s", ErrInput, shortened(name), strings.Join(protections, ", "))
}
