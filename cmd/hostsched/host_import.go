package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

func hostImportCommand() *cobra.Command {
	var conn connection
	var c consent
	var out output
	var file string
	var prune, dryRun bool
	cmd := &cobra.Command{
		Use: "import", Short: "Make the hosts of the lab what a file says", Args: noArgs,
		Long: `Read hosts from a file, show how the lab differs from it, and after a yes change
the lab. Run twice, the second time changes nothing. Hosts that are not in the
file are left alone, or removed with --prune unless they are in use.

The file is YAML or JSON: a list of hosts, or the key hosts with such a list, each
with hostname, labels, acl_groups, protection and attributes; or, if its name ends in .csv, a table with these titles,
where several labels or ACL groups in a cell are separated by spaces or semicolons,
and a title like attributes.serial names an attribute.`,
		Example: `  hostsched host import -f hosts.yaml
  hostsched host import -f hosts.csv --prune --yes`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return fmt.Errorf("%w: --file is missing; see '%s --help'", errUsage, cmd.CommandPath())
			}
			hosts, err := readHosts(cmd, file)
			if err != nil {
				return err
			}
			return conn.call(cmd, func(ctx context.Context, client *labclient.Client) error {
				return importHosts(ctx, cmd, client, out, &c, hosts, prune, dryRun)
			})
		},
	}
	conn.bind(cmd)
	out.bind(cmd, outputYAML)
	c.bindYes(cmd)
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "the hosts; - for standard input, in YAML or JSON")
	f.BoolVar(&prune, "prune", false, "remove hosts that are not in the file")
	f.BoolVar(&dryRun, "dry-run", false, "only show what differs")
	return cmd
}

func importHosts(ctx context.Context, cmd *cobra.Command, client *labclient.Client, out output, c *consent, hosts []labapi.HostInput, prune, dryRun bool) error {
	send := func(dry bool) (d labapi.HostsDifference, err error) {
		call := labclient.Call{Method: http.MethodPut, Path: "/hosts", Query: query("dry_run", boolText(dry), "prune", boolText(prune)), Body: labapi.HostsInput{Hosts: hosts}}
		return d, client.Do(ctx, call, &d)
	}
	d, err := send(true)
	if err != nil {
		return err
	}
	changes := len(d.Added) + len(d.Changed) + len(d.Removed)
	if dryRun || changes == 0 {
		return errors.Join(showDifference(cmd, out, d), refusedHosts(d))
	}
	if !c.yes {
		if err := differenceText(cmd.ErrOrStderr(), d); err != nil {
			return err
		}
	}
	if err := c.ask(cmd, "change "+countOf(changes, "host")); err != nil {
		return err
	}
	if d, err = send(false); err != nil {
		return err
	}
	return errors.Join(showDifference(cmd, out, d), refusedHosts(d))
}

// refusedHosts is an error if something of the file could not be done.
func refusedHosts(d labapi.HostsDifference) error {
	if len(d.Refused) > 0 {
		return coded{code: exitFailed}
	}
	return nil
}

func showDifference(cmd *cobra.Command, out output, d labapi.HostsDifference) error {
	return out.write(cmd, d, func(w io.Writer) error { return differenceText(w, d) })
}

func differenceText(w io.Writer, d labapi.HostsDifference) error {
	t := newTable(w)
	for _, h := range d.Added {
		t.row("+", h)
	}
	for _, h := range d.Changed {
		t.row("~", h.Hostname, strings.Join(h.Changes, ", "))
	}
	for _, h := range d.Removed {
		t.row("-", h)
	}
	for _, h := range d.Refused {
		t.row("!", h.Hostname, h.Detail)
	}
	if err := t.flush(); err != nil {
		return err
	}
	done := "%d to add, %d to change, %d to remove, %d refused, %d unchanged"
	if !d.DryRun {
		done = "%d added, %d changed, %d removed, %d refused, %d unchanged"
	}
	return line(w, done, len(d.Added), len(d.Changed), len(d.Removed), len(d.Refused), d.Unchanged)
}

// readHosts reads the hosts of a file.
func readHosts(cmd *cobra.Command, file string) ([]labapi.HostInput, error) {
	text, err := readInput(cmd, file)
	if err != nil {
		return nil, err
	}
	read := hostsOfYAML
	if filepath.Ext(file) == ".csv" {
		read = hostsOfCSV
	}
	hosts, err := read(text)
	if err == nil && len(hosts) == 0 {
		err = errors.New("it has no hosts")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %s", errUsage, file, oneLine(err))
	}
	return hosts, nil
}

// fileHost is a host as files have it.
type fileHost struct {
	Hostname   string            `yaml:"hostname"`
	Labels     []string          `yaml:"labels"`
	ACLGroups  []string          `yaml:"acl_groups"`
	Protection string            `yaml:"protection"`
	Attributes map[string]string `yaml:"attributes"`
}

func (h fileHost) input() labapi.HostInput {
	return labapi.HostInput{Hostname: h.Hostname, Labels: h.Labels, ACLGroups: h.ACLGroups, Protection: h.Protection, Attributes: h.Attributes}
}

func hostsOfYAML(text []byte) ([]labapi.HostInput, error) {
	var list []fileHost
	decode := func(v any) error {
		d := yaml.NewDecoder(bytes.NewReader(text))
		d.KnownFields(true)
		return d.Decode(v)
	}
	var shape yaml.Node
	err := yaml.Unmarshal(text, &shape)
	if err == nil && len(shape.Content) == 1 && shape.Content[0].Kind == yaml.MappingNode {
		var body struct {
			Hosts []fileHost `yaml:"hosts"`
		}
		err = decode(&body)
		list = body.Hosts
	} else if err == nil {
		err = decode(&list)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("it is no list of hosts: %s", wordsOfYAML(err))
	}
	out := make([]labapi.HostInput, 0, len(list))
	for i, h := range list {
		if h.Hostname == "" {
			return nil, fmt.Errorf("host %d has no hostname", i+1)
		}
		out = append(out, h.input())
	}
	return out, nil
}

var (
	wrongKind = regexp.MustCompile("(line \\d+): cannot unmarshal !!(\\w+)(?: `(.*)`)? into (\\S+)")
	wrongKey  = regexp.MustCompile(`(line \d+): field (.*) not found in type \S+`)
)

// wordsOfYAML says what is wrong with a file in words of the file, where the library has those
// of this program.
func wordsOfYAML(err error) string {
	var faults *yaml.TypeError
	if !errors.As(err, &faults) {
		return oneLine(err)
	}
	var texts []string
	for _, text := range faults.Errors {
		if m := wrongKind.FindStringSubmatch(text); m != nil {
			text = m[1] + " has " + kindOfYAML(m[2], m[3]) + "; it must be " + kindOfGo(m[4])
		} else if m := wrongKey.FindStringSubmatch(text); m != nil {
			text = m[1] + " has the key " + m[2] + ", which there is not"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

func kindOfYAML(tag, value string) string {
	switch tag {
	case "map":
		return "keys with values"
	case "seq":
		return "a list"
	}
	return strconv.Quote(value)
}

func kindOfGo(name string) string {
	switch {
	case strings.HasPrefix(name, "[]"):
		return "a list"
	case name == "string":
		return "a text"
	}
	return "keys with values"
}

// attributeTitle begins the title of a column with an attribute.
const attributeTitle = "attributes."

func hostsOfCSV(text []byte) ([]labapi.HostInput, error) {
	rows, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff")))).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	var out []labapi.HostInput
	for i, row := range rows[1:] {
		h := fileHost{Attributes: map[string]string{}}
		for j, title := range rows[0] {
			if err := h.set(strings.TrimSpace(title), strings.TrimSpace(row[j])); err != nil {
				return nil, err
			}
		}
		if h.Hostname == "" {
			return nil, fmt.Errorf("line %d has no hostname", i+2)
		}
		out = append(out, h.input())
	}
	return out, nil
}

// set puts a cell of a table into a host.
func (h *fileHost) set(title, cell string) error {
	several := func() []string {
		return strings.FieldsFunc(cell, func(r rune) bool { return r == ' ' || r == ';' })
	}
	switch {
	case title == "hostname":
		h.Hostname = cell
	case title == "labels":
		h.Labels = several()
	case title == "acl_groups":
		h.ACLGroups = several()
	case title == "protection":
		h.Protection = cell
	case strings.HasPrefix(title, attributeTitle) && title != attributeTitle:
		if cell != "" {
			h.Attributes[strings.TrimPrefix(title, attributeTitle)] = cell
		}
	default:
		return fmt.Errorf("column %q is unknown; there are hostname, labels, acl_groups, protection and attributes.NAME", title)
	}
	return nil
}
