package apiframe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// Config is how huma serves an API, whose callers have tokens as this text says.
func Config(title, version, tokens string) huma.Config {
	c := huma.DefaultConfig(title, version)
	// The viewer of huma loads its scripts from elsewhere; labs are offline.
	c.DocsPath = ""
	c.SchemasPath = ""
	c.CreateHooks = nil
	c.Formats = strictFormats(c.Formats)
	c.RejectUnknownQueryParameters = true
	c.Transformers = append(c.Transformers, named)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", Description: tokens}}
	return c
}

// A key is what it is called, and nothing that looks like it: what a reader takes for
// another key would be written without anybody having asked for it.
func init() { huma.ValidateStrictCasing = true }

var errNotUTF8 = errors.New("the body is not UTF-8")

// strictFormats are formats that refuse what the JSON reader would change without a word: it
// puts question marks in the place of what is not UTF-8, and takes the last of several values
// of one key.
func strictFormats(formats map[string]huma.Format) map[string]huma.Format {
	out := make(map[string]huma.Format, len(formats))
	for name, f := range formats {
		read := f.Unmarshal
		f.Unmarshal = func(data []byte, v any) error {
			if !utf8.Valid(data) {
				return errNotUTF8
			}
			if err := read(data, v); err != nil {
				return err
			}
			return requireKeysOnce(data)
		}
		out[name] = f
	}
	return out
}

// requireKeysOnce refuses JSON in which an object has a key twice. It is JSON otherwise.
func requireKeysOnce(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	// open are the keys of the objects that are not closed yet, nil for a list.
	var open []map[string]bool
	key := false
	for {
		token, err := dec.Token()
		if err != nil {
			return nil //nolint:nilerr // the end: it was read as JSON before
		}
		inside := len(open) > 0 && open[len(open)-1] != nil
		switch token {
		case json.Delim('{'):
			open, key = append(open, map[string]bool{}), true
			continue
		case json.Delim('['):
			open, key = append(open, nil), false
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
			key = len(open) > 0 && open[len(open)-1] != nil
			continue
		}
		if !inside {
			continue
		}
		if key {
			name, _ := token.(string)
			if open[len(open)-1][name] {
				return fmt.Errorf("the key %q is there twice", name)
			}
			open[len(open)-1][name] = true
		}
		key = !key
	}
}
