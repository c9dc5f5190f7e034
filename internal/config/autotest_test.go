package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const webSection = "[AUTOTEST_WEB]\nhost: 127.0.0.1\ndatabase: afe\n"

// loadAutotest loads global_config.ini and, if it is not empty,
// shadow_config.ini.
func loadAutotest(t *testing.T, global, shadow string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, globalConfig), []byte(global), 0o600))
	if shadow != "" {
		require.NoError(t, os.WriteFile(filepath.Join(dir, shadowConfig), []byte(shadow), 0o600))
	}
	c, flags := bound(t)
	require.NoError(t, flags.Parse([]string{"--autotest-config", dir}))
	return c, c.Load()
}

func TestInterpolation(t *testing.T) {
	c, err := loadAutotest(t, `[DEFAULT]
domain = lab
db_host: db.%(domain)s
[AUTOTEST_WEB]
host: %(DB_HOST)s
database: afe
db_user = sched
user: %(db_user)s
password: ab%%cd
[SERVER]
smtp_server: 100%%
[SCHEDULER]
notify_email_from: %(who)s@%(domain)s
who = %(name)s
name: me
`, "")
	require.NoError(t, err)
	require.Equal(t, "sched@tcp(db.lab:3306)/afe", c.Database.DSN)
	require.Equal(t, "ab%cd", c.Database.Password)
	require.Equal(t, "100%", c.Notify.SMTPHost)
	require.Equal(t, "me@lab", c.Notify.From)
}

// A shadow file may change what options of the global file refer to.
func TestInterpolationAcrossFiles(t *testing.T) {
	c, err := loadAutotest(t, webSection+"user: %(who)s\nwho: a\n", "[AUTOTEST_WEB]\nwho: b\n")
	require.NoError(t, err)
	require.Equal(t, "b@tcp(127.0.0.1:3306)/afe", c.Database.DSN)
}

func TestBadInterpolation(t *testing.T) {
	for text, want := range map[string]string{
		"password: sesame%x":      "write %% for a percent sign",
		"password: sesame%":       "write %% for a percent sign",
		"password: sesame%(x":     "write %% for a percent sign",
		"password: sesame%(x)d":   "write %% for a percent sign",
		"password: sesame%()s":    "write %% for a percent sign",
		"password: sesame%(who)s": "it refers to who, which is neither in [AUTOTEST_WEB] nor in [DEFAULT]",
		"password: %(password)s":  "more than 10 deep",
	} {
		_, err := loadAutotest(t, webSection+text+"\n", "")
		require.ErrorIs(t, err, ErrConfig, text)
		require.ErrorContains(t, err, "global_config.ini, line 4: [AUTOTEST_WEB] password: ")
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "sesame")
	}
	// What nobody reads hurts nobody.
	_, err := loadAutotest(t, webSection+"[OTHER]\nx: 100%\n", "")
	require.NoError(t, err)
}

// Whatever is not false is true.
func TestTruth(t *testing.T) {
	for text, want := range map[string]bool{
		"True": true, "true": true, "1": true, "yes": true, "T": true, "0": true, "no": true, "off": true,
		"False": false, "false": false, "FALSE": false, "": false,
	} {
		c, err := loadAutotest(t, webSection+"[SKYLAB]\nrespect_static_labels: "+text+"\n[SERVER]\nuse_server_db: "+text+"\n[AUTOTEST_SERVER_DB]\nhost: sdb\ndatabase: d\n", "")
		require.NoError(t, err)
		require.Equal(t, want, c.Labels.RespectStatic, text)
		require.Equal(t, want, c.Servers.DSN != "", text)
		_, err = loadAutotest(t, webSection+"[SCHEDULER]\ninline_host_acquisition: "+text+"\n", "")
		if want {
			require.ErrorIs(t, err, ErrInline, text)
		} else {
			require.NoError(t, err, text)
		}
	}
}

// Comments, continuation lines and line ends are as ConfigParser takes them.
func TestConfigParser(t *testing.T) {
	c, err := loadAutotest(t, strings.ReplaceAll(`# comment
; comment
rem comment
[AUTOTEST_WEB]
HOST = 127.0.0.1 ; the master
database: afe
user: a;b
password: ""
[SCHEDULER]
minimum_tick_sec: 5e-1 ; seconds
notify_email: a@b.c;
# between

  d@e.f
[AUTOTEST_WEB]
port: 3307
`, "\n", "\r\n"), "")
	require.NoError(t, err)
	require.Equal(t, "a;b@tcp(127.0.0.1:3307)/afe", c.Database.DSN)
	require.Empty(t, c.Database.Password)
	require.Equal(t, 500*time.Millisecond, c.Tick.Min)
	require.Equal(t, []string{"a@b.c", "d@e.f"}, c.Notify.To)
}

func TestMistakesInAutotestFiles(t *testing.T) {
	for text, want := range map[string]string{
		"\ufeff[AUTOTEST_WEB]\n":                            "line 1: neither a section nor key: value",
		"[A]\nnonsense\n":                                   "line 2: neither a section nor key: value",
		"[A]\n  indented: x\n":                              "line 2: neither",
		"[A]\n: x\n":                                        "line 2: neither",
		"[SCHEDULER]\nminimum_tick_sec: soon\n":             `global_config.ini, line 2: [SCHEDULER] minimum_tick_sec = "soon": not a number of seconds`,
		"[SCHEDULER]\nminimum_tick_sec: 1e300\n":            `line 2: [SCHEDULER] minimum_tick_sec = "1e300"`,
		"[SCHEDULER]\nminimum_tick_sec: nan\n":              `line 2: [SCHEDULER] minimum_tick_sec = "nan"`,
		webSection + "[SCHEDULER]\nminimum_tick_sec: 86400": "tick.min: 24h0m0s is out of bounds",
		webSection + "[SERVER]\nsmtp_port: x\n":             `line 5: [SERVER] smtp_port = "x": not a number`,
		webSection + "[SHARD]\nshard_hostname: a/b\n":       "invalid shard name",
	} {
		_, err := loadAutotest(t, text, "")
		require.ErrorIs(t, err, ErrConfig, text)
		require.ErrorContains(t, err, want)
	}
	_, err := loadAutotest(t, webSection, "[SERVER]\nsmtp_port: x\n")
	require.ErrorContains(t, err, "shadow_config.ini, line 2")
}
