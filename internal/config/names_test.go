package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// names are all settings that people have in their files, scripts and units: the
// key, the flag, the environment variable and the default. None may change.
var names = []struct{ key, flag, env, def string }{
	{"advertise", "advertise", "HOSTSCHED_ADVERTISE", ""},
	{"audit.every", "audit-every", "HOSTSCHED_AUDIT_EVERY", "1200"},
	{"cluster", "cluster", "HOSTSCHED_CLUSTER", "default"},
	{"database.dsn", "database-dsn", "HOSTSCHED_DATABASE_DSN", ""},
	{"database.password_file", "database-password-file", "HOSTSCHED_DATABASE_PASSWORD_FILE", ""},
	{"database.ca_file", "database-ca-file", "HOSTSCHED_DATABASE_CA_FILE", ""},
	{"database.cert_file", "database-cert-file", "HOSTSCHED_DATABASE_CERT_FILE", ""},
	{"database.key_file", "database-key-file", "HOSTSCHED_DATABASE_KEY_FILE", ""},
	{"api.listen", "api-listen", "HOSTSCHED_API_LISTEN", ""},
	{"api.socket", "api-socket", "HOSTSCHED_API_SOCKET", ""},
	{"data_dir", "data-dir", "HOSTSCHED_DATA_DIR", ""},
	{"etcd.data_dir", "etcd-data-dir", "HOSTSCHED_ETCD_DATA_DIR", ""},
	{"etcd.embedded", "etcd-embedded", "HOSTSCHED_ETCD_EMBEDDED", "false"},
	{"etcd.initial_cluster", "etcd-initial-cluster", "HOSTSCHED_ETCD_INITIAL_CLUSTER", ""},
	{"etcd.initial_cluster_state", "etcd-initial-cluster-state", "HOSTSCHED_ETCD_INITIAL_CLUSTER_STATE", "new"},
	{"etcd.listen_client_urls", "etcd-listen-client-urls", "HOSTSCHED_ETCD_LISTEN_CLIENT_URLS", "[http://127.0.0.1:2379]"},
	{"etcd.listen_peer_urls", "etcd-listen-peer-urls", "HOSTSCHED_ETCD_LISTEN_PEER_URLS", ""},
	{"etcd.name", "etcd-name", "HOSTSCHED_ETCD_NAME", ""},
	{"etcd.peer_cert_file", "etcd-peer-cert-file", "HOSTSCHED_ETCD_PEER_CERT_FILE", ""},
	{"etcd.peer_key_file", "etcd-peer-key-file", "HOSTSCHED_ETCD_PEER_KEY_FILE", ""},
	{"etcd.peer_trusted_ca_file", "etcd-peer-trusted-ca-file", "HOSTSCHED_ETCD_PEER_TRUSTED_CA_FILE", ""},
	{"standalone", "standalone", "HOSTSCHED_STANDALONE", "false"},
	{"etcd.ca_file", "etcd-ca-file", "HOSTSCHED_ETCD_CA_FILE", ""},
	{"etcd.cert_file", "etcd-cert-file", "HOSTSCHED_ETCD_CERT_FILE", ""},
	{"etcd.endpoints", "etcd-endpoints", "HOSTSCHED_ETCD_ENDPOINTS", "[http://127.0.0.1:2379]"},
	{"etcd.key_file", "etcd-key-file", "HOSTSCHED_ETCD_KEY_FILE", ""},
	{"etcd.password_file", "etcd-password-file", "HOSTSCHED_ETCD_PASSWORD_FILE", ""},
	{"etcd.ttl", "etcd-ttl", "HOSTSCHED_ETCD_TTL", "5s"},
	{"etcd.user", "etcd-user", "HOSTSCHED_ETCD_USER", ""},
	{"history.days", "history-days", "HOSTSCHED_HISTORY_DAYS", "90"},
	{"journal.days", "journal-days", "HOSTSCHED_JOURNAL_DAYS", "90"},
	{"journal.enabled", "journal-enabled", "HOSTSCHED_JOURNAL_ENABLED", "auto"},
	{"labels.dropped_keys", "labels-dropped-keys", "HOSTSCHED_LABELS_DROPPED_KEYS", "[cleanup-reboot,modem_repair,rpm]"},
	{"labels.provision_keys", "labels-provision-keys", "HOSTSCHED_LABELS_PROVISION_KEYS", "[cros-version,cheets-version,fwrw-version,fwro-version]"},
	{"labels.respect_static", "labels-respect-static", "HOSTSCHED_LABELS_RESPECT_STATIC", "false"},
	{"labels.skip_provision", "labels-skip-provision", "HOSTSCHED_LABELS_SKIP_PROVISION", "skip_provision"},
	{"lifetime.hours", "lifetime-hours", "HOSTSCHED_LIFETIME_HOURS", "0"},
	{"listen", "listen", "HOSTSCHED_LISTEN", "127.0.0.1:8470"},
	{"api.url", "api-url", "HOSTSCHED_API_URL", ""},
	{"oidc.issuer", "oidc-issuer", "HOSTSCHED_OIDC_ISSUER", ""},
	{"oidc.client_id", "oidc-client-id", "HOSTSCHED_OIDC_CLIENT_ID", ""},
	{"oidc.client_secret_file", "oidc-client-secret-file", "HOSTSCHED_OIDC_CLIENT_SECRET_FILE", ""},
	{"oidc.device_client_id", "oidc-device-client-id", "HOSTSCHED_OIDC_DEVICE_CLIENT_ID", ""},
	{"oidc.device_client_secret_file", "oidc-device-client-secret-file", "HOSTSCHED_OIDC_DEVICE_CLIENT_SECRET_FILE", ""},
	{"oidc.scopes", "oidc-scopes", "HOSTSCHED_OIDC_SCOPES", "[openid,profile,email]"},
	{"oidc.user_claim", "oidc-user-claim", "HOSTSCHED_OIDC_USER_CLAIM", "preferred_username"},
	{"oidc.groups_claim", "oidc-groups-claim", "HOSTSCHED_OIDC_GROUPS_CLAIM", "groups"},
	{"oidc.least_role", "oidc-least-role", "HOSTSCHED_OIDC_LEAST_ROLE", "user"},
	{"oidc.session", "oidc-session", "HOSTSCHED_OIDC_SESSION", "12h0m0s"},
	{"api.auth", "api-auth", "HOSTSCHED_API_AUTH", "token"},
	{"api.max_priority", "api-max-priority", "HOSTSCHED_API_MAX_PRIORITY", "100"},
	{"api.rate", "api-rate", "HOSTSCHED_API_RATE", "200"},
	{"api.anonymous", "api-anonymous", "HOSTSCHED_API_ANONYMOUS", "none"},
	{"runner", "runner", "HOSTSCHED_RUNNER", "auto"},
	{"runs.lease", "runs-lease", "HOSTSCHED_RUNS_LEASE", "10m0s"},
	{"runs.keep_days", "runs-keep-days", "HOSTSCHED_RUNS_KEEP_DAYS", "90"},
	{"runs.blobs", "runs-blobs", "HOSTSCHED_RUNS_BLOBS", ""},
	{"log.assignments", "log-assignments", "HOSTSCHED_LOG_ASSIGNMENTS", "false"},
	{"log.format", "log-format", "HOSTSCHED_LOG_FORMAT", "text"},
	{"log.level", "log-level", "HOSTSCHED_LOG_LEVEL", "info"},
	{"metadata.interval", "metadata-interval", "HOSTSCHED_METADATA_INTERVAL", "5s"},
	{"metadata.url", "metadata-url", "HOSTSCHED_METADATA_URL", ""},
	{"tracing.endpoint", "tracing-endpoint", "HOSTSCHED_TRACING_ENDPOINT", ""},
	{"tracing.share", "tracing-share", "HOSTSCHED_TRACING_SHARE", "1"},
	{"metrics.file", "metrics-file", "HOSTSCHED_METRICS_FILE", ""},
	{"notify.from", "notify-from", "HOSTSCHED_NOTIFY_FROM", "hostsched@localhost"},
	{"notify.interval", "notify-interval", "HOSTSCHED_NOTIFY_INTERVAL", "1m0s"},
	{"notify.smtp_host", "notify-smtp-host", "HOSTSCHED_NOTIFY_SMTP_HOST", "localhost"},
	{"notify.smtp_password_file", "notify-smtp-password-file", "HOSTSCHED_NOTIFY_SMTP_PASSWORD_FILE", ""},
	{"notify.smtp_port", "notify-smtp-port", "HOSTSCHED_NOTIFY_SMTP_PORT", "25"},
	{"notify.smtp_user", "notify-smtp-user", "HOSTSCHED_NOTIFY_SMTP_USER", ""},
	{"notify.to", "notify-to", "HOSTSCHED_NOTIFY_TO", ""},
	{"placement.hold_off", "placement-hold-off", "HOSTSCHED_PLACEMENT_HOLD_OFF", "5s"},
	{"placement.weight", "placement-weight", "HOSTSCHED_PLACEMENT_WEIGHT", "1"},
	{"production", "production", "HOSTSCHED_PRODUCTION", "false"},
	{"scheduler.aging", "scheduler-aging", "HOSTSCHED_SCHEDULER_AGING", "0"},
	{"scheduler.policy", "scheduler-policy", "HOSTSCHED_SCHEDULER_POLICY", "optimal"},
	{"server", "server", "HOSTSCHED_SERVER", ""},
	{"servers.dsn", "servers-dsn", "HOSTSCHED_SERVERS_DSN", ""},
	{"servers.password_file", "servers-password-file", "HOSTSCHED_SERVERS_PASSWORD_FILE", ""},
	{"shard", "shard", "HOSTSCHED_SHARD", ""},
	{"shards.password_dir", "shards-password-dir", "HOSTSCHED_SHARDS_PASSWORD_DIR", ""},
	{"tick.min", "tick-min", "HOSTSCHED_TICK_MIN", "50ms"},
	{"tls.ca_file", "tls-ca-file", "HOSTSCHED_TLS_CA_FILE", ""},
	{"tls.cert_file", "tls-cert-file", "HOSTSCHED_TLS_CERT_FILE", ""},
	{"tls.key_file", "tls-key-file", "HOSTSCHED_TLS_KEY_FILE", ""},
	{"tls.require_client_cert", "tls-require-client-cert", "HOSTSCHED_TLS_REQUIRE_CLIENT_CERT", "false"},
}

var secretNames = []struct{ key, env string }{
	{"database.password", "HOSTSCHED_DATABASE_PASSWORD"},
	{"etcd.password", "HOSTSCHED_ETCD_PASSWORD"},
	{"oidc.client_secret", "HOSTSCHED_OIDC_CLIENT_SECRET"},
	{"oidc.device_client_secret", "HOSTSCHED_OIDC_DEVICE_CLIENT_SECRET"},
	{"notify.smtp_password", "HOSTSCHED_NOTIFY_SMTP_PASSWORD"},
	{"servers.password", "HOSTSCHED_SERVERS_PASSWORD"},
}

// bound returns a configuration and its flags.
func bound(t *testing.T) (*Config, *pflag.FlagSet) {
	t.Helper()
	c := &Config{}
	flags := pflag.NewFlagSet(t.Name(), pflag.ContinueOnError)
	c.Bind(flags, AllGroups)
	return c, flags
}

func TestNames(t *testing.T) {
	c, flags := bound(t)
	byKey := map[string]*setting{}
	for _, s := range c.settings {
		byKey[s.key] = s
	}
	require.Len(t, byKey, len(names)+len(secretNames))
	host, err := os.Hostname()
	require.NoError(t, err)
	for _, n := range names {
		s := byKey[n.key]
		require.NotNil(t, s, n.key)
		flag := flags.Lookup(n.flag)
		require.NotNil(t, flag, n.flag)
		require.Equal(t, s, flag.Value)
		require.Equal(t, n.env, s.envName())
		want := n.def
		if n.key == "server" {
			want = host
		}
		require.Equal(t, want, flag.DefValue, n.key)
		require.NotEmpty(t, flag.Usage, n.key)
		require.NotZero(t, s.group, n.key)
	}
	for _, n := range secretNames {
		require.NotNil(t, byKey[n.key], n.key)
		require.True(t, byKey[n.key].secret)
		require.Equal(t, n.env, byKey[n.key].envName())
		require.NotNil(t, byKey[n.key+"_file"], "a secret can be read from a file")
		require.Nil(t, flags.Lookup(byKey[n.key].flagName()), "a secret is no flag")
	}
}

// Every number and duration has bounds, and its default is within them.
func TestBounds(t *testing.T) {
	c, _ := bound(t)
	for _, s := range c.settings {
		if kind := s.Type(); kind == "int" || kind == "float" || kind == "duration" {
			for _, bound := range []string{s.tag.Get("min"), s.tag.Get("max")} {
				_, err := s.parse(bound)
				require.NoError(t, err, s.key)
			}
		}
	}
	for key, texts := range map[string][]string{
		"etcd.ttl": {"876000h", "0s", "-1s"}, "placement.weight": {"1000000000", "0", "99999999999999999999"}, "tick.min": {"24h", "-1ms"},
		"lifetime.hours": {"1e300", "NaN", "Inf", "-1"}, "audit.every": {"-1", "2000000"}, "history.days": {"-1", "1000000"}, "journal.days": {"-1", "1000000"}, "placement.hold_off": {"-1s", "48h"},
		"notify.interval": {"0s"}, "notify.smtp_port": {"0", "65536"}, "metadata.interval": {"0s", "9000h"},
	} {
		for _, text := range texts {
			t.Run(key+" "+text, func(t *testing.T) {
				err := load(t, key+"="+text)
				require.ErrorIs(t, err, ErrConfig)
				require.ErrorContains(t, err, key[:strings.Index(key, ".")])
				require.NotContains(t, err.Error(), "\n")
				require.Regexp(t, "it must be from .* to |is not a whole number", err.Error())
			})
		}
	}
}

// Ports are bounded wherever they stand.
func TestPorts(t *testing.T) {
	for _, setting := range []string{
		"listen: '127.0.0.1:65536'", "listen: ':-1'", "listen: 127.0.0.1", "listen: ':'", "advertise: lab-1:99999", "advertise: lab-1:nonsense",
		"etcd: {endpoints: ['http://127.0.0.1:99999']}", "etcd: {endpoints: ['http://127.0.0.1:2379', 'https://other:70000']}",
	} {
		_, err := loadFile(t, setting)
		require.ErrorIs(t, err, ErrConfig, setting)
		require.NotContains(t, err.Error(), "\n")
	}
	for _, setting := range []string{
		"listen: ':0'", "listen: '[::1]:8470'", "listen: ':http'", "advertise: lab-1:65535",
		"etcd: {endpoints: ['http://etcd']}", "etcd: {endpoints: ['unix://localhost:m1']}", "etcd: {endpoints: ['[::1]:2379']}",
	} {
		_, err := loadFile(t, setting)
		require.NoError(t, err, setting)
	}
}

var commentedKey = regexp.MustCompile(`(?m)^( *)# ( *[a-z_]+:( .*)?)$`)

// The example names every setting, perhaps in a comment, and no other.
func TestExampleIsComplete(t *testing.T) {
	text, err := os.ReadFile("../../deploy/hostsched.example.yaml")
	require.NoError(t, err)
	c, _ := bound(t)
	c.file = writeFile(t, commentedKey.ReplaceAllString(string(text), "$1$2"))
	values, err := c.readFile()
	require.NoError(t, err)
	var missing []string
	for _, n := range names {
		if _, ok := values[n.key]; !ok {
			missing = append(missing, n.key)
		}
	}
	require.Empty(t, missing, "deploy/hostsched.example.yaml shows every setting")
	c.file = "../../deploy/hostsched.example.yaml"
	_, err = c.readFile()
	require.NoError(t, err)
}

// The units have systemd start a process again for as long as its database is away, or its
// disk full: by default it gives up after five attempts.
func TestUnitsNeverGiveUp(t *testing.T) {
	units, err := filepath.Glob("../../deploy/*.service")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(units), 3)
	for _, name := range units {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		unit, _, _ := strings.Cut(string(text), "[Service]")
		require.Contains(t, unit, "\nStartLimitIntervalSec=0\n", name)
		require.Regexp(t, "\nRestart=(always|on-failure)\n", string(text), name)
	}
}
