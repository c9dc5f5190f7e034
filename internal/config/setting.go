package config

import (
	"encoding/csv"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/durations"
)

// setting is one field of a Config. It is also the value of its flag.
type setting struct {
	key, usage string
	group      Groups
	secret     bool
	field      reflect.Value
	tag        reflect.StructTag
	// given: somebody said what it should be. A list may be given by several flags.
	given bool
	// imported: Autotest's files say what it is.
	imported bool
}

var groupNames = map[string]Groups{"database": DatabaseGroup, "etcd": EtcdGroup, "replica": ReplicaGroup}

// settingsOf returns all settings of c, in the order of its fields, and gives
// them the defaults of their tags.
func settingsOf(c *Config) []*setting {
	return collect(reflect.ValueOf(c).Elem(), "", 0)
}

func collect(section reflect.Value, prefix string, group Groups) []*setting {
	var out []*setting
	for i := range section.NumField() {
		tag := section.Type().Field(i).Tag
		name, ok := tag.Lookup("key")
		if !ok {
			continue
		}
		group := group
		if own, ok := tag.Lookup("group"); ok {
			group = groupNames[own]
		}
		field := section.Field(i)
		if field.Kind() == reflect.Struct {
			out = append(out, collect(field, prefix+name+".", group)...)
			continue
		}
		s := &setting{key: prefix + name, usage: tag.Get("usage"), group: group, secret: tag.Get("secret") != "", field: field, tag: tag}
		if def, ok := tag.Lookup("default"); ok {
			if err := s.setText(def); err != nil {
				panic(fmt.Sprintf("the default of %s: %v", s.key, err))
			}
		}
		out = append(out, s)
	}
	return out
}

func (s *setting) flagName() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(s.key)
}

const envPrefix = "HOSTSCHED_"

func (s *setting) envName() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

func (s *setting) isBool() bool { return s.field.Kind() == reflect.Bool }

// IsBoolFlag makes --help show that the value may be left out.
func (s *setting) IsBoolFlag() bool { return s.isBool() }

func (s *setting) isList() bool { return s.field.Kind() == reflect.Slice }

// String, Set and Type make a setting the value of a flag.

func (s *setting) String() string {
	if s.isList() {
		if s.field.Len() == 0 {
			return ""
		}
		return "[" + strings.Join(s.field.Interface().([]string), ",") + "]"
	}
	return fmt.Sprint(s.field.Interface())
}

// Set takes the text of a flag. A list may be given by several flags.
func (s *setting) Set(text string) error {
	v, err := s.parse(text)
	if err != nil {
		return err
	}
	if s.given && s.isList() {
		v = reflect.AppendSlice(s.field, v)
	}
	s.field.Set(v)
	s.given = true
	return nil
}

// Type is what --help shows as the kind of value.
func (s *setting) Type() string {
	switch s.field.Interface().(type) {
	case bool:
		return "bool"
	case int:
		return "int"
	case float64:
		return "float"
	case time.Duration:
		return "duration"
	case []string:
		return "strings"
	}
	return "string"
}

func (s *setting) setText(text string) error {
	v, err := s.parse(text)
	if err != nil {
		return err
	}
	s.field.Set(v)
	return nil
}

// parse reads a value from text, the same way wherever the text comes from.
func (s *setting) parse(text string) (reflect.Value, error) {
	v, err := convert(s.field.Interface(), text)
	if err != nil {
		return reflect.Value{}, err
	}
	value := reflect.ValueOf(v)
	return value, s.checkValue(value, text)
}

// convert reads text as a value of the same type as like.
func convert(like any, text string) (v any, err error) {
	want := ""
	switch like.(type) {
	case string:
		return text, nil
	case []string:
		return splitList(text)
	case bool:
		want = "true or false"
		v, err = strconv.ParseBool(text)
	case int:
		want = "a whole number"
		v, err = strconv.Atoi(text)
	case float64:
		want = "a number"
		v, err = strconv.ParseFloat(text, 64)
	case time.Duration:
		want = "a duration, like 50ms, 5s, 1h30m or 2d"
		d, ok := durations.Parse(text)
		if v = d; !ok {
			err = strconv.ErrSyntax
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%q is not %s", text, want)
	}
	return v, nil
}

// splitList takes a list that is written as one text, with commas. An element
// with a comma in it stands in double quotes.
func splitList(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return []string{}, nil
	}
	r := csv.NewReader(strings.NewReader(text))
	r.TrimLeadingSpace = true
	list, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%q is not a list with commas between its elements", text)
	}
	for i := range list {
		if list[i] = strings.TrimSpace(list[i]); list[i] == "" {
			return nil, fmt.Errorf("%q has an empty element", text)
		}
	}
	return list, nil
}

// Choices are the texts that are allowed; none means that any is. Completion offers
// them for the flag.
func (s *setting) Choices() []string {
	words := strings.FieldsFunc(s.tag.Get("oneof"), func(r rune) bool { return r == ',' || r == ' ' })
	return slices.DeleteFunc(words, func(word string) bool { return word == "or" })
}

// checkValue holds a value to the bounds and the choice of its tags.
func (s *setting) checkValue(v reflect.Value, text string) error {
	if choices := s.Choices(); len(choices) > 0 {
		if slices.Contains(choices, text) {
			return nil
		}
		return fmt.Errorf("%q is not %s", text, s.tag.Get("oneof"))
	}
	low, bounded := s.tag.Lookup("min")
	if !bounded {
		return nil
	}
	high := s.tag.Get("max")
	within, err := between(v.Interface(), low, high)
	if err != nil || !within {
		return errors.Join(err, fmt.Errorf("%s is out of bounds; it must be from %s to %s", text, low, high))
	}
	return nil
}

// between compares a number or duration with bounds that are written as text.
func between(v any, low, high string) (bool, error) {
	from, err := convert(v, low)
	if err != nil {
		return false, err
	}
	to, err := convert(v, high)
	if err != nil {
		return false, err
	}
	switch v := v.(type) {
	case int:
		return from.(int) <= v && v <= to.(int), nil
	case time.Duration:
		return from.(time.Duration) <= v && v <= to.(time.Duration), nil
	case float64:
		return from.(float64) <= v && v <= to.(float64), nil
	}
	return false, fmt.Errorf("%T has no bounds", v)
}
