package jobspec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of a text. A few bytes of YAML can stand for a tree without end, because an alias
// repeats a part of it.
const (
	maxDepth = 20
	maxNodes = 2_000_000
)

// reader makes a tree of a text: maps, lists, texts, truth values, and json.Number for
// numbers. What is null is left out.
type reader struct{ nodes int }

func (r *reader) enter(depth int) error {
	if r.nodes++; r.nodes > maxNodes {
		return errors.New("it has too many values")
	}
	if depth > maxDepth {
		return errors.New("it is nested too deeply")
	}
	return nil
}

// parse reads a text, which is YAML or else JSON.
func parse(isYAML bool, text []byte) (any, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("it is not valid UTF-8")
	}
	r := &reader{}
	if isYAML {
		return r.readYAML(text)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	tree, err := r.json(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows after its end")
	}
	return tree, nil
}

func (r *reader) json(dec *json.Decoder, depth int) (any, error) {
	if err := r.enter(depth); err != nil {
		return nil, err
	}
	token, err := nextToken(dec)
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return r.jsonObject(dec, depth)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := r.json(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := nextToken(dec)
		return list, err
	}
	return token, nil
}

// nextToken is the next part of a text that goes on.
func nextToken(dec *json.Decoder) (json.Token, error) {
	token, err := dec.Token()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("it ends too early")
	}
	if err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	return token, nil
}

func (r *reader) jsonObject(dec *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	seen := map[string]bool{}
	for dec.More() {
		token, err := nextToken(dec)
		if err != nil {
			return nil, err
		}
		key, _ := token.(string)
		if seen[key] {
			return nil, fmt.Errorf("the key %q is there twice", key)
		}
		seen[key] = true
		v, err := r.json(dec, depth+1)
		if err != nil {
			return nil, err
		}
		if v != nil {
			object[key] = v
		}
	}
	if _, err := nextToken(dec); err != nil {
		return nil, err
	}
	return object, nil
}

func (r *reader) readYAML(text []byte) (any, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	if err := dec.Decode(&document); errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty")
	} else if err != nil {
		return nil, fmt.Errorf("it is no YAML: %w", err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one YAML document")
	}
	return r.node(&document, 0)
}

func (r *reader) node(n *yaml.Node, depth int) (any, error) {
	if err := r.enter(depth); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return r.node(n.Content[0], depth)
	case yaml.AliasNode:
		return r.node(n.Alias, depth+1)
	case yaml.MappingNode:
		return r.mapping(n, depth)
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			v, err := r.node(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	return scalar(n)
}

func (r *reader) mapping(n *yaml.Node, depth int) (any, error) {
	object := map[string]any{}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: a key must be a text", key.Line)
		}
		if key.Tag == "!!merge" {
			return nil, fmt.Errorf("line %d: merging with << is not supported", key.Line)
		}
		if seen[key.Value] {
			return nil, fmt.Errorf("line %d: the key %q is there twice", key.Line, key.Value)
		}
		seen[key.Value] = true
		v, err := r.node(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if v != nil {
			object[key.Value] = v
		}
	}
	return object, nil
}

// scalar keeps the text of what YAML takes for a time, because no key wants one.
func scalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!str", "!!timestamp":
		return n.Value, nil
	case "!!bool":
		var v bool
		err := n.Decode(&v)
		return v, err
	case "!!int":
		var v int64
		if err := n.Decode(&v); err != nil {
			return nil, fmt.Errorf("line %d: %s is too large a number", n.Line, n.Value)
		}
		return json.Number(strconv.FormatInt(v, 10)), nil
	case "!!float":
		var v float64
		if err := n.Decode(&v); err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, fmt.Errorf("line %d: %s cannot be used as a number; put it in quotes if it is a text", n.Line, n.Value)
		}
		return written{json.Number(strconv.FormatFloat(v, 'g', -1, 64)), n.Value}, nil
	}
	return nil, fmt.Errorf("line %d: values with the tag %s are not supported", n.Line, n.Tag)
}

// written is a number with the text that stands for it: a version 1.10 among keyvals is not 1.1.
type written struct {
	number json.Number
	text   string
}
