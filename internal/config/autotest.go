package config

import (
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

	"github.com/hostsched/hostsched/scheduler"
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

// readINI reads global_config.ini and, if there is one, shadow_config.ini
// beside it. path is their folder or the first file.
func readINI(path string) (ini, error) {
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
	// secrets are values that are not shown, by our key.
	secrets map[string]string
	taken   []Taken
	err     error
}

// readAutotest imports Autotest's configuration, if one was named.
func (c *Config) readAutotest() (*importer, error) {
	if c.autotest == "" {
		return &importer{}, nil
	}
	im, err := importAutotest(c.autotest)
	if err != nil {
		return nil, err
	}
	c.taken = im.taken
	return im, nil
}

// importAutotest returns our keys and values, and what was taken.
func importAutotest(path string) (*importer, error) {
	c, err := readINI(path)
	if err != nil {
		return nil, err
	}
	im := &importer{ini: c, ours: map[string]string{}, secrets: map[string]string{}}
	im.database("AUTOTEST_WEB", "database")
	im.plain("SCHEDULER", "minimum_tick_sec", "tick.min", seconds)
	im.plain("SCHEDULER", "notify_email", "notify.to", addresses)
	im.plain("SCHEDULER", "notify_email_from", "notify.from", asIs)
	im.plain("SCHEDULER", "inline_host_acquisition", "[must be False]", boolean)
	im.plain("SERVER", "smtp_server", "notify.smtp_host", asIs)
	im.plain("SERVER", "smtp_port", "notify.smtp_port", number)
	im.plain("SERVER", "smtp_user", "notify.smtp_user", asIs)
	im.secret("SERVER", "smtp_password", "notify.smtp_password")
	im.shard()
	im.policy()
	im.ours["journal.enabled"] = "off"
	im.ours["runner"] = RunnerAutotest
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

// policy makes the default beside Autotest what its own scheduler does. Autotest has no
// setting for it.
func (im *importer) policy() {
	exact := string(scheduler.PolicyExact)
	im.ours["scheduler.policy"] = exact
	im.taken = append(im.taken, Taken{"SCHEDULER", "(no such setting)", "", "scheduler.policy: " + exact})
}

// serverDatabase takes the database of servers and roles over, if Autotest uses
// it. Without it every replica may lead.
func (im *importer) serverDatabase() {
	const section = "AUTOTEST_SERVER_DB"
	im.plain("SERVER", "use_server_db", "[whether servers.dsn is taken]", boolean)
	if use, _, ok := im.get("SERVER", "use_server_db"); ok && !strings.EqualFold(use, "false") {
		im.database(section, "servers")
		return
	}
	for _, key := range []string{"host", "database", "user"} {
		im.plain(section, key, "[not used: use_server_db is not True, every replica may lead]", asIs)
	}
}

// get returns an option, and where it stands; ok is false if it is not there or
// empty.
func (im *importer) get(section, key string) (text string, o option, ok bool) {
	text, o, err := im.ini.value(section, key)
	if err != nil {
		im.err = errors.Join(im.err, fmt.Errorf("%w: %w", ErrConfig, err))
	}
	return text, o, err == nil && text != ""
}

// plain takes one setting over. A note in brackets is shown but not set.
func (im *importer) plain(section, key, as string, convert func(string) (string, error)) {
	raw, o, ok := im.get(section, key)
	if !ok {
		return
	}
	value, err := convert(raw)
	if err != nil {
		im.err = errors.Join(im.err, fmt.Errorf("%w: %s: [%s] %s = %q: %w", ErrConfig, o.at(), section, key, raw, err))
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

func (im *importer) secret(section, key, as string) {
	v, _, ok := im.get(section, key)
	if ok {
		im.taken = append(im.taken, Taken{section, key, "(not shown)", "[secret]"})
		im.secrets[as] = v
	}
}

// database makes a DSN of a section, and takes the password along.
func (im *importer) database(section, ours string) {
	cfg := mysql.NewConfig()
	port := "3306"
	host := ""
	for _, o := range []struct {
		key   string
		value *string
	}{{"host", &host}, {"port", &port}, {"user", &cfg.User}, {"database", &cfg.DBName}} {
		v, _, ok := im.get(section, o.key)
		if !ok {
			continue
		}
		*o.value = v
		im.taken = append(im.taken, Taken{section, o.key, v, ours + ".dsn"})
	}
	if host == "" {
		return
	}
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(host, port)
	im.ours[ours+".dsn"] = cfg.FormatDSN()
	im.secret(section, "password", ours+".password")
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
	d, err := time.ParseDuration(strconv.FormatFloat(n, 'f', -1, 64) + "s")
	if err != nil {
		return "", errors.New("not a number of seconds that can be waited")
	}
	return d.String(), nil
}

func number(v string) (string, error) {
	if _, err := strconv.Atoi(v); err != nil {
		return "", errors.New("not a number")
	}
	return v, nil
}

// boolean reads a truth value as Autotest does: whatever is not false is true,
// even 0 and no.
func boolean(v string) (string, error) {
	return strconv.FormatBool(!strings.EqualFold(v, "false")), nil
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
