package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/config"
)

// update writes the references anew: go test ./cmd/hostsched -run TestReference -update
var update = flag.Bool("update", false, "write docs/reference-*.md anew")

// TestReference compares the references with the commands and routes that there are.
func TestReference(t *testing.T) {
	for file, text := range map[string]string{"../../docs/reference-cli.md": cliReference(), "../../docs/reference-api.md": apiReference(t)} {
		if *update {
			require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		}
		written, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(written), text, "%s is out of date: go test ./cmd/hostsched -run TestReference -update", file)
	}
}

// cliReference has every command, with what sets it apart: the settings are listed once.
func cliReference() string {
	var b strings.Builder
	b.WriteString("# Commands\n\nWritten from the commands themselves, which say the same with `--help`. Exit codes: `hostsched help exit-codes`.\n" +
		"Commands that are marked *settings* take every setting of the last chapter as a flag.\n")
	settings := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(config.Config).Bind(settings, config.AllGroups)
	var each func(cmd *cobra.Command)
	each = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		if cmd.HasParent() {
			describe(&b, cmd, settings)
		}
		for _, sub := range cmd.Commands() {
			each(sub)
		}
	}
	root := newRoot()
	root.InitDefaultCompletionCmd()
	each(root)
	b.WriteString("\n## Settings\n\nEach is also a key of the file and a variable of the environment ([the example](../deploy/hostsched.example.yaml)).\n\n| flag | what it sets | default |\n|---|---|---|\n")
	settings.VisitAll(func(f *pflag.Flag) {
		value := f.DefValue
		if f.Name == "server" {
			value = "" // the name of the machine
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, cell(f.Usage), code(value))
	})
	return b.String()
}

func describe(b *strings.Builder, cmd *cobra.Command, settings *pflag.FlagSet) {
	usage := cmd.UseLine()
	if !cmd.Runnable() || cmd.HasAvailableSubCommands() && cmd.Name() != "agent" {
		usage = cmd.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n    %s\n", cmd.CommandPath(), strings.TrimSuffix(cmd.Short, "."), usage)
	if cmd.Example != "" {
		fmt.Fprintf(b, "\nFor example:\n\n%s\n", indented(cmd.Example))
	}
	var rows []string
	takesSettings := false
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Hidden || f.Name == "help":
		case settings.Lookup(f.Name) != nil && settings.Lookup(f.Name).Usage == f.Usage:
			takesSettings = true
		default:
			name := "`--" + f.Name + "`"
			if f.Shorthand != "" {
				name = "`-" + f.Shorthand + "`, " + name
			}
			rows = append(rows, fmt.Sprintf("| %s | %s |\n", name, cell(f.Usage)))
		}
	})
	if takesSettings {
		b.WriteString("\n*settings*\n")
	}
	if len(rows) > 0 {
		b.WriteString("\n| flag | |\n|---|---|\n" + strings.Join(rows, ""))
	}
}

// indented is an example as a block of Markdown.
func indented(example string) string {
	lines := strings.Split(strings.Trim(example, "\n"), "\n")
	for i := range lines {
		lines[i] = "    " + strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

// cell is a text in a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", `\|`)
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

// openAPI is what the reference says of a description of routes.
type openAPI struct {
	Paths      map[string]map[string]operation
	Components struct {
		Schemas map[string]apiSchema
	}
}

type operation struct {
	Summary, Description string
	Parameters           []struct {
		In, Name, Description string
		Required              bool
		Schema                apiSchema
	}
	RequestBody struct {
		Content map[string]struct{ Schema apiSchema }
	}
	Responses map[string]struct {
		Content map[string]struct{ Schema apiSchema }
	}
}

type apiSchema struct {
	Ref         string `json:"$ref"`
	Type        any
	Description string
	Format      string
	Enum        []any
	Items       *apiSchema
	Properties  map[string]apiSchema
	Required    []string
	Additional  any `json:"additionalProperties"`
}

// apiReference has every route of both APIs, and the objects that they speak of.
func apiReference(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Routes\n\nWritten from the descriptions of the two APIs. [api.md](api.md) explains what they have in common. Objects are JSON.\n")
	for _, part := range []struct{ title, prefix, file string }{
		{"For people and programs", "/api/v1", "../../internal/api/openapi.json"},
		{"For agents", "/agent/v1", "../../internal/agentapi/openapi.json"},
	} {
		text, err := os.ReadFile(part.file)
		require.NoError(t, err)
		var api openAPI
		require.NoError(t, json.Unmarshal(text, &api))
		fmt.Fprintf(&b, "\n## %s: `%s`\n", part.title, part.prefix)
		for _, path := range slices.Sorted(maps.Keys(api.Paths)) {
			for _, method := range slices.Sorted(maps.Keys(api.Paths[path])) {
				route(&b, strings.ToUpper(method)+" "+path, api.Paths[path][method])
			}
		}
		fmt.Fprintf(&b, "\n### Objects of `%s`\n", part.prefix)
		for _, name := range slices.Sorted(maps.Keys(api.Components.Schemas)) {
			object(&b, name, api.Components.Schemas[name])
		}
	}
	return b.String()
}

func route(b *strings.Builder, title string, o operation) {
	fmt.Fprintf(b, "\n### `%s`\n\n%s.", title, strings.TrimSuffix(o.Summary, "."))
	if o.Description != "" {
		fmt.Fprintf(b, " %s", o.Description)
	}
	b.WriteString("\n")
	if len(o.Parameters) > 0 {
		b.WriteString("\n| parameter | in | |\n|---|---|---|\n")
	}
	for _, p := range o.Parameters {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", p.Name, p.In, cell(p.Description))
	}
	var says []string
	for _, kind := range slices.Sorted(maps.Keys(o.RequestBody.Content)) {
		says = append(says, "Takes "+kindOf(o.RequestBody.Content[kind].Schema)+" ("+kind+").")
	}
	var answers []string
	for _, status := range slices.Sorted(maps.Keys(o.Responses)) {
		answer := status
		for _, kind := range slices.Sorted(maps.Keys(o.Responses[status].Content)) {
			if status < "300" {
				answer += " " + kindOf(o.Responses[status].Content[kind].Schema)
			}
		}
		answers = append(answers, answer)
	}
	fmt.Fprintf(b, "\n%s\n", strings.Join(append(says, "Answers "+strings.Join(answers, ", ")+"."), " "))
}

func object(b *strings.Builder, name string, s apiSchema) {
	fmt.Fprintf(b, "\n#### %s\n", name)
	if s.Description != "" {
		fmt.Fprintf(b, "\n%s\n", s.Description)
	}
	if len(s.Properties) == 0 {
		return
	}
	b.WriteString("\n| key | | |\n|---|---|---|\n")
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[key]
		always := ""
		if slices.Contains(s.Required, key) {
			always = ", always"
		}
		fmt.Fprintf(b, "| `%s` | %s%s | %s |\n", key, kindOf(p), always, cell(p.Description))
	}
}

// kindOf names the type of a value.
func kindOf(s apiSchema) string {
	if s.Ref != "" {
		name := s.Ref[strings.LastIndex(s.Ref, "/")+1:]
		return "[" + name + "](#" + strings.ToLower(name) + ")"
	}
	if s.Items != nil {
		return "list of " + kindOf(*s.Items)
	}
	kind := fmt.Sprint(s.Type)
	if several, ok := s.Type.([]any); ok && len(several) > 0 {
		kind = fmt.Sprint(several[0])
	}
	switch {
	case s.Type == nil:
		return "any"
	case s.Format == "date-time":
		return "time"
	case len(s.Enum) > 0:
		return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(s.Enum)), ", "), "[]")
	}
	return kind
}
