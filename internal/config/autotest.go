package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/hostsched/hostsched/shard"
)

// ErrInline ends a process that Autotest's configuration does not want to run:
// the main scheduler acquires hosts itself. It is no failure.
var ErrInline = errors.New("inline_host_acquisition is True")

// Names of Autotest's configuration files; the second overrides the first.
const (
	globalConfig = "global_config.ini"
	shadowConfig = "shadow_config.ini"
)

// Taken is one setting read from Autotest's configuration.
type Taken struct {
	Section, Key, Value string
	// As is our key, or a note in brackets why it is not used.
	As string
}

// ini is a parsed configuration: section, key, value. Keys are lower case.
type ini map[string]map[string]string

// readINI parses what Python's ConfigParser does: [sections], key: value or
// key = value, comments with # or ;, and indented continuation lines.
func (c ini) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	section, key := "", ""
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		text := strings.TrimSpace(line)
		switch {
		case text == "" || strings.HasPrefix(text, "#") || strings.HasPrefix(text, ";"):
		case strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]"):
			section, key = text[1:len(text)-1], ""
		case key != "" && (line[0] == ' ' || line[0] == '\t'):
			c[section][key] += "\n" + text
		default:
			at := strings.IndexAny(text, ":=")
			if at < 0 || section == "" {
				return fmt.Errorf("%s, line %d: neither a section nor key: value", path, n)
			}
			key = strings.ToLower(strings.TrimSpace(text[:at]))
			if c[section] == nil {
				c[section] = map[string]string{}
			}
			c[section][key] = strings.TrimSpace(text[at+1:])
		}
	}
	return lines.Err()
}

// readAutotest reads global_config.ini and, if there is one, shadow_config.ini
// beside it. path is their folder or the first file.
func readAutotest(path string) (ini, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, globalConfig)
	}
	c := ini{}
	if err := c.read(path); err != nil {
		return nil, fmt.Errorf("%w: --autotest-config: %w", ErrConfig, err)
	}
	if err := c.read(filepath.Join(filepath.Dir(path), shadowConfig)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: --autotest-config: %w", ErrConfig, err)
	}
	return c, nil
}

// importer translates Autotest's settings into ours.
type importer struct {
	ini  ini
	ours map[string]string
	// secrets are values that are not shown.
	databasePassword, serversPassword, smtpPassword string
	taken                                           []Taken
	err                                             error
}

// importAutotest returns our keys and values, and what was taken.
func importAutotest(path string) (*importer, error) {
	c, err := readAutotest(path)
	if err != nil {
		return nil, err
	}
	im := &importer{ini: c, ours: map[string]string{}}
	im.ours["database.dsn"], im.databasePassword = im.database("AUTOTEST_WEB", "database.dsn")
	im.plain("SCHEDULER", "minimum_tick_sec", "tick.min", seconds)
	im.plain("SCHEDULER", "notify_email", "notify.to", addresses)
	im.plain("SCHEDULER", "notify_email_from", "notify.from", asIs)
	im.plain("SCHEDULER", "inline_host_acquisition", "[must be False]", boolean)
	im.plain("SERVER", "smtp_server", "notify.smtp_host", asIs)
	im.plain("SERVER", "smtp_port", "notify.smtp_port", number)
	im.plain("SERVER", "smtp_user", "notify.smtp_user", asIs)
	im.smtpPassword = im.secret("SERVER", "smtp_password")
	im.shard()
	im.plain("SKYLAB", "respect_static_labels", "labels.respect_static", boolean)
	im.serverDatabase()
	maps.DeleteFunc(im.ours, func(_, value string) bool { return value == "" })
	return im, im.err
}

// shard takes the shard's hostname over. Autotest's shards have databases of
// their own: a replica beside Autotest serves one shard, the master if no other
// is named.
func (im *importer) shard() {
	im.plain("SHARD", "shard_hostname", "shard", asIs)
	if im.ours["shard"] == "" {
		im.ours["shard"] = shard.Master.String()
		im.taken = append(im.taken, Taken{"SHARD", "shard_hostname", "(not set)", "shard: " + shard.Master.String()})
	}
}

// serverDatabase takes the database of servers and roles over, if Autotest uses
// it. Without it every replica may lead.
func (im *importer) serverDatabase() {
	const section = "AUTOTEST_SERVER_DB"
	im.plain("SERVER", "use_server_db", "[whether servers.dsn is taken]", boolean)
	raw, _ := im.get("SERVER", "use_server_db")
	if use, err := boolean(raw); err == nil && use == "true" {
		im.ours["servers.dsn"], im.serversPassword = im.database(section, "servers.dsn")
		return
	}
	for _, key := range []string{"host", "database", "user"} {
		im.plain(section, key, "[not used: use_server_db is not True, every replica may lead]", asIs)
	}
}

func (im *importer) get(section, key string) (string, bool) {
	v, ok := im.ini[section][key]
	return v, ok && v != ""
}

// plain takes one setting over. A note in brackets is shown but not set.
func (im *importer) plain(section, key, as string, convert func(string) (string, error)) {
	raw, ok := im.get(section, key)
	if !ok {
		return
	}
	value, err := convert(raw)
	if err != nil {
		im.err = errors.Join(im.err, fmt.Errorf("%w: [%s] %s = %q: %w", ErrConfig, section, key, raw, err))
		return
	}
	im.taken = append(im.taken, Taken{section, key, raw, as})
	if !strings.HasPrefix(as, "[") {
		im.ours[as] = value
		return
	}
	if key == "inline_host_acquisition" && value == "true" {
		im.err = errors.Join(im.err, fmt.Errorf("%w in [SCHEDULER]: the main scheduler acquires hosts itself; set it to False in %s to run hostsched", ErrInline, shadowConfig))
	}
}

func (im *importer) secret(section, key string) string {
	v, ok := im.get(section, key)
	if ok {
		im.taken = append(im.taken, Taken{section, key, "(not shown)", "[secret]"})
	}
	return v
}

// database builds a DSN from a section, and returns it with the password.
func (im *importer) database(section, as string) (dsn, password string) {
	host, ok := im.get(section, "host")
	if !ok {
		return "", ""
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(host, "3306")
	if port, ok := im.get(section, "port"); ok {
		cfg.Addr = net.JoinHostPort(host, port)
	}
	cfg.User, _ = im.get(section, "user")
	cfg.DBName, _ = im.get(section, "database")
	for _, key := range []string{"host", "port", "user", "database"} {
		if v, ok := im.get(section, key); ok {
			im.taken = append(im.taken, Taken{section, key, v, as})
		}
	}
	return cfg.FormatDSN(), im.secret(section, "password")
}

func asIs(v string) (string, error) { return v, nil }

func addresses(v string) (string, error) {
	return strings.Join(strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\n' }), ","), nil
}

func seconds(v string) (string, error) {
	n, err := strconv.ParseFloat(v, 64)
	if err != nil {
		return "", errors.New("not a number of seconds")
	}
	return time.Duration(n * float64(time.Second)).String(), nil
}

func number(v string) (string, error) {
	if _, err := strconv.Atoi(v); err != nil {
		return "", errors.New("not a number")
	}
	return v, nil
}

// boolean reads what Autotest takes for true and false.
func boolean(v string) (string, error) {
	switch strings.ToLower(v) {
	case "true", "yes", "1", "on":
		return "true", nil
	case "false", "no", "0", "off":
		return "false", nil
	}
	return "", errors.New("neither True nor False")
}

// PrintTaken writes the table of what was taken from Autotest's configuration.
func (c *Config) PrintTaken(w io.Writer) error {
	if len(c.taken) == 0 {
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "AUTOTEST SETTING\tVALUE\tTAKEN AS")
	for _, t := range c.taken {
		fmt.Fprintf(tw, "[%s] %s\t%s\t%s\n", t.Section, t.Key, strings.ReplaceAll(t.Value, "\n", " "), t.As)
	}
	return tw.Flush()
}
