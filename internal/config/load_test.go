package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const dsn = "sqlite:x.db"

func writeFile(t *testing.T, text string) string {
	t.Helper()
	// Not t.TempDir: its name has the test's in it, and with it what must not show.
	dir, err := os.MkdirTemp("", "config")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	path := filepath.Join(dir, "hostsched.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// loadFile loads a file, and flags besides.
func loadFile(t *testing.T, text string, args ...string) (*Config, error) {
	t.Helper()
	c, flags := bound(t)
	require.NoError(t, flags.Parse(append([]string{"--config", writeFile(t, text), "--database-dsn", dsn}, args...)))
	return c, c.Load()
}

// load loads a file with settings like tick.min=1s.
func load(t *testing.T, settings ...string) error {
	t.Helper()
	var text strings.Builder
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		section, name, _ := strings.Cut(key, ".")
		text.WriteString(section + ": {" + name + ": '" + value + "'}\n")
	}
	_, err := loadFile(t, text.String())
	return err
}

func TestTextIsTakenAsWritten(t *testing.T) {
	for _, text := range []string{"0123", "0x1F", "0o17", "1e3", "1_000", "2026-01-02", "3.10", "1.0", "007", "on", "yes", "true", "12:30:45", "+1", ".5"} {
		c, err := loadFile(t, "server: "+text+"\ncluster: "+text+"\nshard: "+text+"\nlabels: {dropped_keys: ["+text+"]}\n")
		require.NoError(t, err, text)
		require.Equal(t, []string{text, text, text}, []string{c.Server, c.Cluster, c.Shard})
		require.Equal(t, []string{text}, c.Labels.DroppedKeys)
	}
}

func TestNotSet(t *testing.T) {
	host, err := os.Hostname()
	require.NoError(t, err)
	for _, text := range []string{"", "# nothing\n", "---\n", "server:\ncluster: ~\nnotify:\n#  to: [a@b.c]\netcd: null\ntick: {}\nlabels: {dropped_keys: }\n"} {
		c, err := loadFile(t, text)
		require.NoError(t, err, text)
		require.Equal(t, host, c.Server)
		require.Equal(t, "default", c.Cluster)
		require.Equal(t, []string{"http://127.0.0.1:2379"}, c.Etcd.Endpoints)
		require.Equal(t, []string{"cleanup-reboot", "modem_repair", "rpm"}, c.Labels.DroppedKeys)
	}
}

func TestLists(t *testing.T) {
	for text, want := range map[string][]string{
		"[a, b]":           {"a", "b"},
		"a, b":             {"a", "b"},
		"a":                {"a"},
		`["a,b", c]`:       {"a,b", "c"},
		`'"a,b", c'`:       {"a,b", "c"},
		"[]":               {},
		"''":               {},
		"[0123, yes, 1.0]": {"0123", "yes", "1.0"},
	} {
		c, err := loadFile(t, "labels:\n  provision_keys: "+text)
		require.NoError(t, err, text)
		require.Equal(t, want, c.Labels.ProvisionKeys, text)
	}
	c, err := loadFile(t, "notify:\n  to:\n  - a@b.c\n  - d@e.f\n", "--etcd-endpoints", "http://a:1,http://b:1", "--etcd-endpoints", "http://c:1")
	require.NoError(t, err)
	require.Equal(t, []string{"a@b.c", "d@e.f"}, c.Notify.To)
	require.Equal(t, []string{"http://a:1", "http://b:1", "http://c:1"}, c.Etcd.Endpoints)
}

// Anchors, aliases and merges are as in any YAML file; what a section says
// itself beats what is merged into it.
func TestAnchors(t *testing.T) {
	c, err := loadFile(t, `
database: &db
  password_file: &pw `+writeFile(t, "sesame\n")+`
servers:
  <<: *db
  dsn: sqlite:s.db
etcd: {password_file: *pw, user: u}
`)
	require.NoError(t, err)
	require.Equal(t, []string{"sesame", "sesame", "sesame"}, []string{c.Database.Password, c.Servers.Password, c.Etcd.Password})
	require.Equal(t, "sqlite:s.db", c.Servers.DSN)
}

// Each mistake is one line that names the file, the line and the key.
func TestMistakesInTheFile(t *testing.T) {
	for text, want := range map[string]string{
		"etcd: [1]":                              "line 1: etcd is a list",
		"\nlog: verbose":                         `line 2: log is the text "verbose"`,
		"log: {level: verbose}":                  `line 1: log.level: "verbose" is not trace, debug, info, warn or error`,
		"server: [a, b]":                         "line 1: server: it is a list; it must be a single value",
		"server: {a: b}":                         "line 1: server: it is a section; it must be a single value",
		"etcd:\n  endpoints: {a: b}":             "line 2: etcd.endpoints: it is a section; it must be a list of texts",
		"etcd:\n  endpoints: [a, [b]]":           "line 2: etcd.endpoints: an element of the list is a list",
		"etcd:\n  endpoints: [a, ~]":             "line 2: etcd.endpoints: an element of the list is empty",
		"etdc: {}":                               "line 1: unknown key etdc; did you mean etcd?",
		"etdc:":                                  "line 1: unknown key etdc",
		"etcd:\n  ttl: 5s\n  tll: 5s":            "line 3: unknown key etcd.tll; did you mean etcd.ttl?",
		"etcd:\n  ttl: 5s\n  user: u\n  ttl: 6s": "line 4: etcd.ttl is there twice; the first is on line 2",
		"etcd: {ttl: 5s}\ntick: {}\netcd: {}":    "line 3: etcd is there twice; the first is on line 1",
		"placement.weight: 4":                    "line 1: placement.weight is written as placement: with weight: below it",
		"server: a\n---\nserver: b":              "line 2: a second document begins",
		"? [a]\n: b":                             "line 1: a key is a list; it must be a name",
		"- a":                                    "line 1: the file is a list",
		"tick:\n  min: soon":                     `line 2: tick.min: "soon" is not a duration`,
		"tick:\n  min: 5":                        `line 2: tick.min: "5" is not a duration`,
		"placement: {weight: 1.5}":               `line 1: placement.weight: "1.5" is not a whole number`,
		"production: perhaps":                    `line 1: production: "perhaps" is not true or false`,
		"database: {password: sesame}":           "line 1: database.password does not belong into the file; use database.password_file",
		"database: {password: [sesame]}":         "line 1: database.password does not belong into the file",
		"server: &a [*a]":                        "line 1: server: it is a list",
		"server: a\n tick: {":                    "line 2",
		"etcd: &e {<<: *e}":                      "line 1: etcd",
		"server: ''":                             "an empty name is not allowed",
		"server: a/b":                            `server is "a/b": slashes, white space and control characters are not allowed`,
		"server: ../z":                           `server is "../z": slashes`,
		"server: ..":                             "it would be a folder",
		"server: " + strings.Repeat("x", 300):    "300 characters, at most 128 are stored",
		"server: " + strings.Repeat("x", 180):    "180 characters, at most 128 are stored",
		"cluster: " + strings.Repeat("x", 191):   "191 characters, at most 190 are stored",
		`cluster: "a b"`:                         `cluster is "a b": slashes, white space`,
		"shard: a/b":                             `shard: invalid shard name "a/b": slashes`,
		"etcd: {ttl: 1500ms}":                    "etcd.ttl is 1.5s; it must be whole seconds",
		"etcd: {endpoints: []}":                  "etcd.endpoints is empty",
		"etcd: {cert_file: x}":                   "etcd.cert_file and etcd.key_file go together",
		"database: {cert_file: x}":               "database.cert_file and database.key_file go together",
		"metadata: {url: es:9200}":               `metadata.url is "es:9200"`,
	} {
		t.Run(text, func(t *testing.T) {
			_, err := loadFile(t, text)
			require.ErrorIs(t, err, ErrConfig)
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "sesame")
			if strings.Contains(want, "line ") {
				require.ErrorContains(t, err, "hostsched.yaml: ")
			}
		})
	}
}

// What a flag overrides must be right all the same.
func TestMistakesInTheFileBehindAFlag(t *testing.T) {
	_, err := loadFile(t, "tick: {min: soon}", "--tick-min", "1s")
	require.ErrorContains(t, err, "tick.min")
}

func TestFlagsBeatEnvironmentBeatsFile(t *testing.T) {
	const text = "tick: {min: 1s}\nplacement: {hold_off: 1s, weight: 2}\netcd: {endpoints: [http://file:1]}\n"
	t.Setenv("HOSTSCHED_TICK_MIN", "2s")
	t.Setenv("HOSTSCHED_PLACEMENT_HOLD_OFF", "2s")
	t.Setenv("HOSTSCHED_ETCD_ENDPOINTS", "http://a:1, http://b:1")
	t.Setenv("HOSTSCHED_PLACEMENT_WEIGHT", "") // the same as not set
	c, err := loadFile(t, text, "--tick-min", "3s")
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, c.Tick.Min)
	require.Equal(t, 2*time.Second, c.Placement.HoldOff)
	require.Equal(t, []string{"http://a:1", "http://b:1"}, c.Etcd.Endpoints)
	require.Equal(t, 2, c.Placement.Weight)
}

func TestEnvironment(t *testing.T) {
	for name, want := range map[string]string{
		"HOSTSCHED_ETCD_TTLL":                "HOSTSCHED_ETCD_TTL?",
		"HOSTSCHED_SERVR":                    "HOSTSCHED_SERVER?",
		"HOSTSCHED_DATABASE_PASWORD":         "HOSTSCHED_DATABASE_PASSWORD?",
		"HOSTSCHED_SMTP_PORT":                "did you mean",
		"HOSTSCHED_":                         "did you mean",
		"HOSTSCHED_TEST_AS_PROGRAM":          "",
		"HOSTSCHED_GOLDEN_DIR":               "",
		"HOSTSCHED_MYSQL_DIR":                "",
		"HOSTSCHED_SERVICE_HOST":             "",
		"HOSTSCHED_SERVICE_PORT_HTTP":        "",
		"HOSTSCHED_PORT_8470_TCP_ADDR":       "",
		"HOSTSCHED_METRICS_SERVICE_PORT":     "",
		"HOSTSCHED_METRICS_PORT_8470_TCP":    "",
		"HOSTSCHED_NOTIFY_SMTP_PASSWORD":     "",
		"HOSTSCHEDULER":                      "",
		"HOSTSCHED_DATABASE_PASSWORD_FILE_X": "HOSTSCHED_DATABASE_PASSWORD_FILE?",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "x")
			_, err := loadFile(t, "")
			if want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrConfig)
			require.ErrorContains(t, err, "environment variable "+name+" is no setting; did you mean ")
			require.ErrorContains(t, err, want)
		})
	}
	t.Run("of a Kubernetes service", func(t *testing.T) {
		t.Setenv("HOSTSCHED_PORT", "tcp://10.0.0.1:8470")
		_, err := loadFile(t, "")
		require.NoError(t, err)
	})
	t.Run("wrong value", func(t *testing.T) {
		t.Setenv("HOSTSCHED_ETCD_TTL", "5")
		_, err := loadFile(t, "")
		require.ErrorIs(t, err, ErrConfig)
		require.ErrorContains(t, err, `environment variable HOSTSCHED_ETCD_TTL: "5" is not a duration`)
	})
}

func TestSecrets(t *testing.T) {
	path := writeFile(t, "from-file\n")
	text := "database: {password_file: " + path + "}\netcd: {password_file: " + path + "}\n"
	t.Setenv("HOSTSCHED_ETCD_PASSWORD", "from-environment")
	c, err := loadFile(t, text)
	require.NoError(t, err)
	require.Equal(t, "from-file", c.Database.Password)
	require.Equal(t, "from-environment", c.Etcd.Password)
	require.Empty(t, c.Servers.Password)

	_, err = loadFile(t, "servers: {password_file: /nowhere/x}")
	require.ErrorIs(t, err, ErrConfig)
	require.ErrorContains(t, err, "read servers.password_file")

	c, flags := bound(t)
	require.NoError(t, flags.Parse([]string{"--database-dsn", "u:sesame@tcp(127.0.0.1:1)/x"}))
	err = c.Load()
	require.ErrorIs(t, err, ErrConfig)
	require.NotContains(t, err.Error(), "sesame")
}

// TestPasswordsAreReadAgain: a password that comes from a file may be changed while a
// process runs; one from the environment stays.
func TestPasswordsAreReadAgain(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "password")
	write := func(path, password string) { require.NoError(t, os.WriteFile(path, []byte(password+"\n"), 0o600)) }
	write(path, "one")
	t.Setenv("HOSTSCHED_ETCD_PASSWORD", "from-environment")
	c, err := loadFile(t, "database: {password_file: "+path+"}\nservers: {dsn: 'u@tcp(127.0.0.1:1)/s', password_file: "+path+"}\n"+
		"notify: {smtp_user: u, smtp_password_file: "+path+"}\nshards: {password_dir: "+dir+"}\n")
	require.NoError(t, err)
	servers, _ := c.ServersStore()
	of := map[string]func() (string, error){
		"database": c.Store().Password, "servers": servers.Password, "mail": c.Secret("notify.smtp_password").Read, "shard": c.ShardStore("lab-east", dsn).Password,
	}
	is := func(want string, names ...string) {
		t.Helper()
		for _, name := range names {
			got, err := of[name]()
			require.NoError(t, err, name)
			require.Equal(t, want, got, name)
		}
	}
	is("one", "database", "servers", "mail", "shard")
	write(path, "two")
	is("two", "database", "servers", "mail", "shard")

	// A shard's own password comes before that of the main database as soon as it is there.
	write(filepath.Join(dir, "lab-east"), "three")
	is("three", "shard")
	write(filepath.Join(dir, "lab-east"), "four")
	is("four", "shard")
	is("two", "database")

	etcd := c.Secret("etcd.password")
	t.Setenv("HOSTSCHED_ETCD_PASSWORD", "changed")
	got, err := etcd.Read()
	require.NoError(t, err)
	require.Equal(t, "from-environment", got)
	require.Contains(t, etcd.Advice, "restart")

	require.NoError(t, os.Remove(path))
	_, err = c.Store().Password()
	require.ErrorContains(t, err, "read database.password_file")
}
