package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// fileReader collects the settings of a YAML file, and what is wrong with it.
type fileReader struct {
	settings map[string]*setting
	sections map[string]bool
	values   map[string]reflect.Value
	problems []error
}

// defaultFile is the file that is read if it exists and nobody names one. It is a variable
// for tests.
var defaultFile = "/etc/hostsched.yaml"

// useDefaultFile takes the default file, unless the command line says where the
// configuration comes from: whoever tries a lab out on a server, or shows Autotest's
// configuration, does not mean the file of that server.
func (c *Config) useDefaultFile() {
	flags := []string{"standalone", "data-dir", "database-dsn"}
	if c.file != "" || c.autotest != "" || slices.ContainsFunc(flags, c.flags.Changed) {
		return
	}
	if _, err := os.Lstat(defaultFile); err == nil {
		c.file = defaultFile
	}
}

// readFile returns the settings in our file. Everything that is wrong with it is
// in the error, one problem after the other, each with its line.
//
// The file is read as a tree of nodes and not straight into the struct: a
// decoder with KnownFields tells the line of a mistake, but not where in the
// tree it is.
func (c *Config) readFile() (map[string]reflect.Value, error) {
	if c.file == "" {
		return nil, nil
	}
	data, err := readFile(c.file)
	if err != nil {
		return nil, fmt.Errorf("%w: read the configuration file: %w", ErrConfig, err)
	}
	root, err := parseYAML(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, c.file, err)
	}
	r := fileReader{settings: map[string]*setting{}, sections: map[string]bool{}, values: map[string]reflect.Value{}}
	for _, s := range c.settings {
		r.settings[s.key] = s
		if section, _, ok := strings.Cut(s.key, "."); ok {
			r.sections[section] = true
		}
	}
	if root != nil {
		r.section("", root)
	}
	if len(r.problems) > 0 {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, c.file, errors.Join(r.problems...))
	}
	return r.values, nil
}

// parseYAML returns the one document of a file; nil if there is none.
func parseYAML(data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, err
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, fmt.Errorf("line %d: a second document begins; put all settings into one", second.Line)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return document.Content[0], nil
}

func (r *fileReader) problem(line int, format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...)))
}

// entry is a key of a mapping, and where it stands.
type entry struct {
	name  string
	line  int
	value yaml.Node
}

// section reads the keys below prefix.
func (r *fileReader) section(prefix string, n *yaml.Node) {
	n = target(n)
	if isNull(n) {
		return // everything below it is commented out
	}
	if n.Kind != yaml.MappingNode {
		where := strings.TrimSuffix(prefix, ".")
		if where == "" {
			where = "the file"
		}
		r.problem(n.Line, "%s is %s; it must hold settings, like key: value", where, describe(n))
		return
	}
	for _, e := range r.entries(prefix, n) {
		key := prefix + e.name
		s := r.settings[key]
		switch {
		case s != nil && s.secret:
			r.problem(e.line, "%s does not belong into the file; use %s_file or the environment variable %s", key, key, s.envName())
		case s != nil && prefix == "" && strings.Contains(e.name, "."):
			section, name, _ := strings.Cut(key, ".")
			r.problem(e.line, "%s is written as %s: with %s: below it", key, section, name)
		case s != nil:
			r.value(s, &e.value)
		case prefix == "" && r.sections[key]:
			r.section(key+".", &e.value)
		default:
			r.problem(e.line, "unknown key %s%s", key, r.suggest(key))
		}
	}
}

// entries returns the keys of a mapping in the order of their lines, those that
// are merged into it included. A key that is there twice is a problem.
func (r *fileReader) entries(prefix string, n *yaml.Node) []entry {
	lines := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		key := target(n.Content[i])
		if key.Kind != yaml.ScalarNode {
			r.problem(n.Content[i].Line, "%sa key is %s; it must be a name", inSection(prefix), describe(key))
			return nil
		}
		if first, twice := lines[key.Value]; twice {
			r.problem(key.Line, "%s is there twice; the first is on line %d", prefix+key.Value, first)
			return nil
		}
		lines[key.Value] = key.Line
	}
	var values map[string]yaml.Node
	if err := n.Decode(&values); err != nil {
		var typeError *yaml.TypeError
		if errors.As(err, &typeError) {
			err = errors.New(strings.Join(typeError.Errors, "; "))
		}
		r.problem(n.Line, "%s%w", inSection(prefix), err)
		return nil
	}
	out := make([]entry, 0, len(values))
	for name, value := range values {
		line, own := lines[name]
		if !own {
			line = value.Line
		}
		out = append(out, entry{name, line, value})
	}
	slices.SortFunc(out, func(a, b entry) int {
		if a.line != b.line {
			return a.line - b.line
		}
		return strings.Compare(a.name, b.name)
	})
	return out
}

// value reads one setting. Its text is taken as it is written, so that 0123 is
// no other name than it looks like.
func (r *fileReader) value(s *setting, n *yaml.Node) {
	line := n.Line
	n = target(n)
	if isNull(n) {
		return // not set
	}
	var v reflect.Value
	var err error
	switch {
	case n.Kind == yaml.ScalarNode:
		v, err = s.parse(n.Value)
	case n.Kind == yaml.SequenceNode && s.isList():
		v, err = listOf(n)
	default:
		err = fmt.Errorf("it is %s; it must be %s", describe(n), map[bool]string{true: "a list of texts", false: "a single value"}[s.isList()])
	}
	if err != nil {
		r.problem(line, "%s: %w", s.key, err)
		return
	}
	r.values[s.key] = v
}

// listOf takes every element of a YAML list as it is written, commas included.
func listOf(n *yaml.Node) (reflect.Value, error) {
	list := make([]string, 0, len(n.Content))
	for _, element := range n.Content {
		element = target(element)
		if element.Kind != yaml.ScalarNode || isNull(element) || element.Value == "" {
			return reflect.Value{}, fmt.Errorf("an element of the list is %s; it must be a text", describe(element))
		}
		list = append(list, element.Value)
	}
	return reflect.ValueOf(list), nil
}

// target follows an alias to what it stands for.
func target(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a section"
	case isNull(n) || n.Value == "":
		return "empty"
	}
	return fmt.Sprintf("the text %q", n.Value)
}

// suggest names the known key that an unknown one is nearest to.
func (r *fileReader) suggest(key string) string {
	known := make([]string, 0, len(r.settings)+len(r.sections))
	for name, s := range r.settings {
		if !s.secret {
			known = append(known, name)
		}
	}
	for name := range r.sections {
		known = append(known, name)
	}
	return didYouMean(key, known)
}

// inSection begins a message about what has no key of its own.
func inSection(prefix string) string {
	if prefix == "" {
		return ""
	}
	return strings.TrimSuffix(prefix, ".") + ": "
}
