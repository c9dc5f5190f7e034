package jobspec

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/hostsched/hostsched/internal/spelling"
)

// faults are what is wrong with a spec, each with its place.
type faults []string

// maxFaults bounds how many faults an error lists.
const maxFaults = 5

func (f *faults) add(where, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	if where != "" {
		what = where + ": " + what
	}
	*f = append(*f, what)
}

// err is one line of all faults, nil if there are none.
func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	shown, more := f[:min(len(f), maxFaults)], ""
	if n := len(f) - len(shown); n > 0 {
		more = fmt.Sprintf("; and %d more", n)
	}
	return fmt.Errorf("%w: %s%s", ErrSpec, strings.Join(shown, "; "), more)
}

// checkKeys finds the keys of a tree that a type has no field for.
func checkKeys(where string, tree any, of reflect.Type, f *faults) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch v := tree.(type) {
	case []any:
		if of.Kind() != reflect.Slice {
			return
		}
		for i, item := range v {
			checkKeys(where+"["+strconv.Itoa(i)+"]", item, of.Elem(), f)
		}
	case map[string]any:
		if of.Kind() != reflect.Struct {
			return
		}
		known := fieldsOf(of)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			at := strings.TrimPrefix(where+"."+shown(key), ".")
			if field, ok := known[key]; ok {
				checkKeys(at, v[key], field, f)
				continue
			}
			f.add(at, "there is no such key; %s", hint(cut(key), slices.Sorted(maps.Keys(known))))
		}
	}
}

// hint says which key was meant, or which there are.
func hint(key string, known []string) string {
	if meant := spelling.Likely(key, known); meant != "" {
		return fmt.Sprintf("did you mean %q?", meant)
	}
	return "there are " + strings.Join(known, ", ")
}

// fieldsOf are the keys of a struct, with the types of their values.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = t.Field(i).Type
	}
	return fields
}

// longestShown bounds how much of a text of somebody else an error repeats.
const longestShown = 60

func cut(text string) string {
	if runes := []rune(text); len(runes) > longestShown {
		return string(runes[:longestShown]) + "…"
	}
	return text
}

// shown is a text of somebody else in an error: short, and on one line.
func shown(text string) string {
	quoted := strconv.Quote(cut(text))
	return quoted[1 : len(quoted)-1]
}
