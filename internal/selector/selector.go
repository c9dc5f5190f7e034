package selector

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a selector: each label in it is looked up.
const (
	MaxLength = 2000
	maxLabels = 50
)

// ErrBad is a text that is no selector.
var ErrBad = errors.New("bad selector")

// Selector is terms that must all hold.
type Selector []Term

// Term is what one part asks of the labels of a thing.
type Term struct {
	// Not turns the term around.
	Not bool
	// Key is a label, or begins one before its colon, if there are no Names.
	Key string
	// Names are labels of which one must be carried.
	Names []string
}

// form says what a selector may look like, for those who wrote something else.
const form = "write terms with commas in between: board=eve, board!=eve, board in (eve,kevin), board notin (eve), board, !board"

// Parse reads a selector. A text without terms is none: it would choose everything.
func Parse(text string) (Selector, error) {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return nil, fmt.Errorf("%w: it must be UTF-8 without control characters", ErrBad)
	}
	if len(text) > MaxLength {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrBad, MaxLength)
	}
	var out Selector
	labels := 0
	for _, part := range split(text) {
		term, ok := parseTerm(strings.TrimSpace(part))
		if !ok {
			return nil, fmt.Errorf("%w: %q is no term; %s", ErrBad, strings.TrimSpace(part), form)
		}
		if labels += max(1, len(term.Names)); labels > maxLabels {
			return nil, fmt.Errorf("%w: it has more than %d labels", ErrBad, maxLabels)
		}
		out = append(out, term)
	}
	return out, nil
}

// split cuts a text at the commas that are in no list of values.
func split(text string) []string {
	var out []string
	depth, begin := 0, 0
	for i, r := range text {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			out = append(out, text[begin:i])
			begin = i + 1
		}
	}
	return append(out, text[begin:])
}

func parseTerm(text string) (Term, bool) {
	if key, found := strings.CutPrefix(text, "!"); found {
		key = strings.TrimSpace(key)
		return Term{Not: true, Key: key}, isWord(key)
	}
	for _, operator := range []string{"!=", "==", "="} {
		if key, value, found := strings.Cut(text, operator); found {
			return ofValues(key, []string{value}, operator == "!=")
		}
	}
	if head, list, found := strings.Cut(text, "("); found {
		list, closed := strings.CutSuffix(list, ")")
		words := strings.Fields(head)
		if !closed || len(words) != 2 || words[1] != "in" && words[1] != "notin" {
			return Term{}, false
		}
		return ofValues(words[0], strings.Split(list, ","), words[1] == "notin")
	}
	return Term{Key: text}, isWord(text)
}

// ofValues is the term for one of the values of a key.
func ofValues(key string, values []string, not bool) (Term, bool) {
	key = strings.TrimSpace(key)
	ok := isWord(key)
	term := Term{Not: not}
	for _, value := range values {
		value = strings.TrimSpace(value)
		ok = ok && isWord(value)
		term.Names = append(term.Names, key+":"+value)
	}
	return term, ok
}

// isWord tells whether a text can be a key or a value. What has another meaning in a selector
// is in none of them, so that no mistake is taken for an odd name.
func isWord(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("()=!,", r) })
}
