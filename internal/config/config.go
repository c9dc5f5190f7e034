package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.yaml.in/yaml/v3"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// ErrConfig is bad input: nothing was started, nothing was written.
var ErrConfig = errors.New("configuration")

// Config is everything a process can be told. The zero value is not usable:
// bind it to flags with Bind, then call Load.
type Config struct {
	Server    string
	Cluster   string
	Shard     string
	Listen    string
	Advertise string

	EtcdEndpoints    []string
	EtcdTTL          time.Duration
	EtcdUser         string
	EtcdPassword     string
	EtcdPasswordFile string
	EtcdCertFile     string
	EtcdKeyFile      string
	EtcdCAFile       string

	DSN              string
	DatabasePassword string
	PasswordFile     string
	Production       bool
	// ServersDSN is the database of servers and roles, if it is another one.
	ServersDSN          string
	ServersPassword     string
	ServersPasswordFile string
	// ShardPasswordDir has a file per shard with the password of its own
	// database.
	ShardPasswordDir string

	HoldOff time.Duration
	Weight  int

	MinTick             time.Duration
	AuditEvery          int
	RespectStaticLabels bool
	ProvisionKeys       []string
	DroppedKeys         []string
	SkipProvision       string

	LogLevel  string
	LogFormat string

	LifetimeHours float64
	MetricsFile   string

	NotifyTo         []string
	NotifyFrom       string
	NotifyInterval   time.Duration
	SMTPHost         string
	SMTPPort         int
	SMTPUser         string
	SMTPPassword     string
	SMTPPasswordFile string

	MetadataURL      string
	MetadataInterval time.Duration

	autotest string
	taken    []Taken

	file  string
	flags *pflag.FlagSet
	// keyOf maps a flag to its key in the file.
	keyOf map[string]string
}

// Groups of settings that a command may need.
type Groups int

// The groups.
const (
	DatabaseGroup Groups = 1 << iota
	EtcdGroup
	ReplicaGroup
	AllGroups = DatabaseGroup | EtcdGroup | ReplicaGroup
)

const envPrefix = "HOSTSCHED_"

// Defaults that are worth a name.
const (
	defaultTTL     = 5 * time.Second
	defaultMinTick = 50 * time.Millisecond
	defaultListen  = "127.0.0.1:8470"
	// Longer than a restart, shorter than anybody would wait for.
	defaultHoldOff = 5 * time.Second
	// At half a second per tick, about once a minute.
	defaultAuditEvery       = 1200
	defaultNotifyInterval   = time.Minute
	defaultSMTPPort         = 25
	defaultMetadataInterval = 5 * time.Second
)

// Secrets come from the environment or from a file, never from a flag.
var secrets = map[string]string{
	"etcd.password":     "etcd.password_file",
	"database.password": "database.password_file",

	"servers.password": "servers.password_file",

	"notify.smtp_password": "notify.smtp_password_file",
}

// Bind declares the flags of the groups a command needs. Settings of other
// groups are still accepted in the file, so that one file serves all commands.
func (c *Config) Bind(flags *pflag.FlagSet, groups Groups) {
	c.flags = flags
	c.keyOf = map[string]string{}
	actions := scheduler.DefaultActions()
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	flags.StringVarP(&c.file, "config", "c", "", "YAML file with the settings below (env HOSTSCHED_CONFIG)")
	flags.StringVar(&c.autotest, "autotest-config", "", "folder of Autotest's global_config.ini and shadow_config.ini, or the former (env HOSTSCHED_AUTOTEST_CONFIG)")
	bind(c, groups, DatabaseGroup, "database.dsn", (*pflag.FlagSet).StringVar, &c.DSN, "", "database: user@tcp(host:port)/database or sqlite:PATH; no password on the command line")
	bind(c, groups, DatabaseGroup, "database.password_file", (*pflag.FlagSet).StringVar, &c.PasswordFile, "", "file with the database password (or env HOSTSCHED_DATABASE_PASSWORD)")
	bind(c, groups, DatabaseGroup, "production", (*pflag.FlagSet).BoolVar, &c.Production, false, "allow a database on another machine")
	bind(c, groups, DatabaseGroup, "servers.dsn", (*pflag.FlagSet).StringVar, &c.ServersDSN, "", "database with the servers and server_roles tables, if it is not the same (Autotest's server database)")
	bind(c, groups, DatabaseGroup, "servers.password_file", (*pflag.FlagSet).StringVar, &c.ServersPasswordFile, "", "file with its password (or env HOSTSCHED_SERVERS_PASSWORD)")
	bind(c, groups, DatabaseGroup, "shards.password_dir", (*pflag.FlagSet).StringVar, &c.ShardPasswordDir, "", "folder with a file per shard that has a database of its own: its password; without one the password of the main database is used")
	bind(c, groups, DatabaseGroup, "log.level", (*pflag.FlagSet).StringVar, &c.LogLevel, "info", "trace, debug, info, warn or error")
	bind(c, groups, DatabaseGroup, "log.format", (*pflag.FlagSet).StringVar, &c.LogFormat, "text", "text or json")
	bind(c, groups, EtcdGroup, "etcd.endpoints", (*pflag.FlagSet).StringSliceVar, &c.EtcdEndpoints, []string{"http://127.0.0.1:2379"}, "etcd client URLs")
	bind(c, groups, EtcdGroup, "etcd.user", (*pflag.FlagSet).StringVar, &c.EtcdUser, "", "etcd user")
	bind(c, groups, EtcdGroup, "etcd.password_file", (*pflag.FlagSet).StringVar, &c.EtcdPasswordFile, "", "file with the etcd password (or env HOSTSCHED_ETCD_PASSWORD)")
	bind(c, groups, EtcdGroup, "etcd.cert_file", (*pflag.FlagSet).StringVar, &c.EtcdCertFile, "", "client certificate for etcd")
	bind(c, groups, EtcdGroup, "etcd.key_file", (*pflag.FlagSet).StringVar, &c.EtcdKeyFile, "", "key of the client certificate")
	bind(c, groups, EtcdGroup, "etcd.ca_file", (*pflag.FlagSet).StringVar, &c.EtcdCAFile, "", "certificate authority of the etcd servers")
	bind(c, groups, EtcdGroup, "cluster", (*pflag.FlagSet).StringVar, &c.Cluster, "default", "name of this hostsched installation within etcd")
	bind(c, groups, ReplicaGroup, "server", (*pflag.FlagSet).StringVar, &c.Server, host, "name of this server")
	bind(c, groups, ReplicaGroup, "shard", (*pflag.FlagSet).StringVar, &c.Shard, "", "serve only this shard, to which the whole database belongs, as Autotest has it: master, or the shard's hostname; empty serves every shard in afe_shards")
	bind(c, groups, ReplicaGroup, "placement.hold_off", (*pflag.FlagSet).DurationVar, &c.HoldOff, defaultHoldOff, "how long a server must be there before shards are handed over to it")
	bind(c, groups, ReplicaGroup, "placement.weight", (*pflag.FlagSet).IntVar, &c.Weight, 1, "this server's share of shards compared with other servers")
	bind(c, groups, ReplicaGroup, "listen", (*pflag.FlagSet).StringVar, &c.Listen, defaultListen, "address for metrics, health and status")
	bind(c, groups, ReplicaGroup, "advertise", (*pflag.FlagSet).StringVar, &c.Advertise, "", "address shown in etcd; the listen address if empty")
	bind(c, groups, ReplicaGroup, "etcd.ttl", (*pflag.FlagSet).DurationVar, &c.EtcdTTL, defaultTTL, "how long a silent leader keeps its lease; whole seconds")
	bind(c, groups, ReplicaGroup, "tick.min", (*pflag.FlagSet).DurationVar, &c.MinTick, defaultMinTick, "shortest time from one tick to the next")
	c.bindReporting(groups)
	bind(c, groups, ReplicaGroup, "audit.every", (*pflag.FlagSet).IntVar, &c.AuditEvery, defaultAuditEvery, "the leader audits the database every so many ticks; 0 never")
	bind(c, groups, ReplicaGroup, "labels.respect_static", (*pflag.FlagSet).BoolVar, &c.RespectStaticLabels, false, "look replaced labels up among static labels")
	bind(c, groups, ReplicaGroup, "labels.provision_keys", (*pflag.FlagSet).StringSliceVar, &c.ProvisionKeys, actions.Provision, "label keys that a Provision task handles")
	bind(c, groups, ReplicaGroup, "labels.dropped_keys", (*pflag.FlagSet).StringSliceVar, &c.DroppedKeys, actions.Other, "label keys that other special tasks handle")
	bind(c, groups, ReplicaGroup, "labels.skip_provision", (*pflag.FlagSet).StringVar, &c.SkipProvision, actions.SkipProvision, "label that rules a Provision task out")
}

// bindReporting declares where a replica reports to, besides its log.
func (c *Config) bindReporting(groups Groups) {
	bind(c, groups, ReplicaGroup, "lifetime.hours", (*pflag.FlagSet).Float64Var, &c.LifetimeHours, 0, "end in an orderly way after so many hours; 0 never")
	bind(c, groups, ReplicaGroup, "metrics.file", (*pflag.FlagSet).StringVar, &c.MetricsFile, "", "also write the metrics to this file, in Prometheus text format")
	bind(c, groups, ReplicaGroup, "notify.to", (*pflag.FlagSet).StringSliceVar, &c.NotifyTo, nil, "mail addresses to notify of errors, failovers and double owners")
	bind(c, groups, ReplicaGroup, "notify.from", (*pflag.FlagSet).StringVar, &c.NotifyFrom, "hostsched@localhost", "sender of notifications")
	bind(c, groups, ReplicaGroup, "notify.interval", (*pflag.FlagSet).DurationVar, &c.NotifyInterval, defaultNotifyInterval, "shortest time between two mails")
	bind(c, groups, ReplicaGroup, "notify.smtp_host", (*pflag.FlagSet).StringVar, &c.SMTPHost, "localhost", "mail server")
	bind(c, groups, ReplicaGroup, "notify.smtp_port", (*pflag.FlagSet).IntVar, &c.SMTPPort, defaultSMTPPort, "port of the mail server")
	bind(c, groups, ReplicaGroup, "notify.smtp_user", (*pflag.FlagSet).StringVar, &c.SMTPUser, "", "user at the mail server")
	bind(c, groups, ReplicaGroup, "notify.smtp_password_file", (*pflag.FlagSet).StringVar, &c.SMTPPasswordFile, "", "file with the mail password (or env HOSTSCHED_NOTIFY_SMTP_PASSWORD)")
	bind(c, groups, ReplicaGroup, "metadata.url", (*pflag.FlagSet).StringVar, &c.MetadataURL, "", "Elasticsearch _bulk endpoint for queued-time records, like http://es:9200/hostsched/_bulk")
	bind(c, groups, ReplicaGroup, "metadata.interval", (*pflag.FlagSet).DurationVar, &c.MetadataInterval, defaultMetadataInterval, "longest time a record waits for its batch")
}

// bind declares one setting. A command that does not need its group gets it
// hidden, so that the file and the environment may still hold it.
func bind[T any](c *Config, groups, group Groups, key string, declare func(*pflag.FlagSet, *T, string, T, string), value *T, def T, usage string) {
	name := strings.NewReplacer(".", "-", "_", "-").Replace(key)
	declare(c.flags, value, name, def, usage)
	c.keyOf[name] = key
	c.flags.Lookup(name).Hidden = groups&group == 0
}

// Load fills in what was not given as a flag: from the environment, then the
// file. It refuses unknown keys and reads the secrets.
func (c *Config) Load() error {
	if c.file == "" {
		c.file = os.Getenv(envPrefix + "CONFIG")
	}
	for flag, dsn := range map[string]string{"database": c.DSN, "servers": c.ServersDSN} {
		if c.flags.Changed(flag+"-dsn") && sqldb.HasPassword(dsn) {
			return fmt.Errorf("%w: --%s-dsn has a password in it, which every user of this machine can read; use --%[2]s-password-file or HOSTSCHED_%s_PASSWORD", ErrConfig, flag, strings.ToUpper(flag))
		}
	}
	file, err := readFile(c.file)
	if err != nil {
		return err
	}
	if err := c.checkKeys(file); err != nil {
		return err
	}
	im, err := c.readAutotest()
	if err != nil {
		return err
	}
	for name, key := range c.keyOf {
		if err := c.setting(name, key, file, im.ours); err != nil {
			return err
		}
	}
	if err := c.readSecrets(); err != nil {
		return err
	}
	c.DatabasePassword = orElse(c.DatabasePassword, im.databasePassword)
	c.ServersPassword = orElse(c.ServersPassword, im.serversPassword)
	c.SMTPPassword = orElse(c.SMTPPassword, im.smtpPassword)
	return c.check()
}

// readAutotest imports Autotest's configuration, if one was named.
func (c *Config) readAutotest() (*importer, error) {
	if c.autotest == "" {
		c.autotest = os.Getenv(envPrefix + "AUTOTEST_CONFIG")
	}
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

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// setting finds the value of one setting that was not given as a flag: in the
// environment, then our file, then Autotest's.
func (c *Config) setting(name, key string, file, autotest map[string]string) error {
	if c.flags.Changed(name) {
		return nil
	}
	value, source := os.Getenv(envName(key)), "environment variable "+envName(key)
	if value == "" {
		var ok bool
		source = c.file + ": " + key
		if value, ok = file[key]; !ok {
			value, ok = autotest[key]
			source = c.autotest + ": " + key
		}
		if !ok {
			return nil
		}
	}
	if err := c.flags.Lookup(name).Value.Set(value); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConfig, source, err)
	}
	return nil
}

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// readFile flattens a YAML file: nested keys are joined by dots, lists by commas.
func readFile(path string) (map[string]string, error) {
	flat := map[string]string{}
	if path == "" {
		return flat, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: read the file given with --config: %w", ErrConfig, err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	flatten("", tree, flat)
	return flat, nil
}

func flatten(prefix string, tree map[string]any, flat map[string]string) {
	for key, value := range tree {
		switch v := value.(type) {
		case map[string]any:
			flatten(prefix+key+".", v, flat)
		case []any:
			parts := make([]string, len(v))
			for i := range v {
				parts[i] = fmt.Sprint(v[i])
			}
			flat[prefix+key] = strings.Join(parts, ",")
		case nil:
			flat[prefix+key] = ""
		default:
			flat[prefix+key] = fmt.Sprint(v)
		}
	}
}

func (c *Config) checkKeys(file map[string]string) error {
	known := map[string]bool{}
	for _, key := range c.keyOf {
		known[key] = true
	}
	var unknown []string
	for key := range file {
		if instead, secret := secrets[key]; secret {
			return fmt.Errorf("%w: %s: %s does not belong into the file; use %s or the environment variable %s", ErrConfig, c.file, key, instead, envName(key))
		}
		if !known[key] && (file[key] != "" || !c.isSection(key)) {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("%w: %s: unknown key %s; see 'hostsched serve --help' for those there are", ErrConfig, c.file, strings.Join(unknown, ", "))
	}
	return nil
}

// isSection tells whether a key has settings below it: a section whose settings
// are all commented out is no mistake.
func (c *Config) isSection(key string) bool {
	for _, k := range c.keyOf {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

func (c *Config) readSecrets() error {
	for _, s := range []struct {
		key, file string
		value     *string
	}{
		{"etcd.password", c.EtcdPasswordFile, &c.EtcdPassword},
		{"database.password", c.PasswordFile, &c.DatabasePassword},
		{"servers.password", c.ServersPasswordFile, &c.ServersPassword},
		{"notify.smtp_password", c.SMTPPasswordFile, &c.SMTPPassword},
	} {
		*s.value = os.Getenv(envName(s.key))
		if *s.value != "" || s.file == "" {
			continue
		}
		data, err := os.ReadFile(s.file)
		if err != nil {
			return fmt.Errorf("%w: read %s_file: %w", ErrConfig, s.key, err)
		}
		*s.value = strings.TrimRight(string(data), "\r\n")
	}
	return nil
}

func (c *Config) check() error {
	if c.DSN == "" {
		return fmt.Errorf("%w: no database; give --database-dsn, HOSTSCHED_DATABASE_DSN, or database.dsn in the file", ErrConfig)
	}
	if c.EtcdTTL < time.Second || c.EtcdTTL%time.Second != 0 {
		return fmt.Errorf("%w: etcd.ttl is %v; it must be whole seconds, at least 1s", ErrConfig, c.EtcdTTL)
	}
	if c.Shard != "" {
		if _, err := shard.Parse(c.Shard); err != nil {
			return fmt.Errorf("%w: shard: %w", ErrConfig, err)
		}
	}
	if c.HoldOff < 0 {
		return fmt.Errorf("%w: placement.hold_off is %v; it cannot be negative", ErrConfig, c.HoldOff)
	}
	if c.Weight < 1 {
		return fmt.Errorf("%w: placement.weight is %d; it must be at least 1", ErrConfig, c.Weight)
	}
	if c.AuditEvery < 0 {
		return fmt.Errorf("%w: audit.every is %d; it cannot be negative", ErrConfig, c.AuditEvery)
	}
	if c.LifetimeHours < 0 {
		return fmt.Errorf("%w: lifetime.hours is %v; it cannot be negative", ErrConfig, c.LifetimeHours)
	}
	if c.NotifyInterval <= 0 || c.MetadataInterval <= 0 {
		return fmt.Errorf("%w: notify.interval and metadata.interval must be positive", ErrConfig)
	}
	if c.MetadataURL != "" && !strings.HasPrefix(c.MetadataURL, "http://") && !strings.HasPrefix(c.MetadataURL, "https://") {
		return fmt.Errorf("%w: metadata.url is %q; it must begin with http:// or https://", ErrConfig, c.MetadataURL)
	}
	if c.MinTick < 0 {
		return fmt.Errorf("%w: tick.min is %v; it cannot be negative", ErrConfig, c.MinTick)
	}
	if !slices.Contains([]string{"trace", "debug", "info", "warn", "error"}, c.LogLevel) {
		return fmt.Errorf("%w: log.level is %q; it must be trace, debug, info, warn or error", ErrConfig, c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("%w: log.format is %q; it must be text or json", ErrConfig, c.LogFormat)
	}
	if (c.EtcdCertFile == "") != (c.EtcdKeyFile == "") {
		return fmt.Errorf("%w: etcd.cert_file and etcd.key_file go together", ErrConfig)
	}
	return nil
}

// Store is the part of the configuration that opens the database.
func (c *Config) Store() sqldb.Config {
	return sqldb.Config{DSN: c.DSN, Password: c.DatabasePassword, Production: c.Production, TxTimeout: c.EtcdTTL}
}

// ServersStore is the part of the configuration that opens the database with the
// servers table; ok is false if it is the main one.
func (c *Config) ServersStore() (cfg sqldb.Config, ok bool) {
	return sqldb.Config{DSN: c.ServersDSN, Password: c.ServersPassword, Production: c.Production, TxTimeout: c.EtcdTTL}, c.ServersDSN != ""
}

// ShardStore is the part of the configuration that opens a shard's own database.
func (c *Config) ShardStore(name shard.Name, dsn string) (sqldb.Config, error) {
	cfg := c.Store()
	cfg.DSN = dsn
	if c.ShardPasswordDir == "" {
		return cfg, nil
	}
	data, err := os.ReadFile(filepath.Join(c.ShardPasswordDir, name.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return cfg, nil
	}
	if err != nil {
		return cfg, fmt.Errorf("%w: read the password of shard %s: %w", ErrConfig, name, err)
	}
	cfg.Password = strings.TrimRight(string(data), "\r\n")
	return cfg, nil
}

// Actions are the labels that special tasks act on.
func (c *Config) Actions() scheduler.Actions {
	return scheduler.Actions{Provision: c.ProvisionKeys, Other: c.DroppedKeys, SkipProvision: c.SkipProvision}
}

// Shared tells whether several shards share the database. A configuration that
// names one shard gives it the whole database.
func (c *Config) Shared() bool { return c.Shard == "" }

// Scope is what this configuration's replica serves.
func (c *Config) Scope() store.Scope {
	name := shard.Name(c.Shard)
	if c.Shared() {
		name = shard.Master
	}
	return store.Scope{
		Shard: name, Shared: c.Shared(),
		Rules: scheduler.Rules{RespectStaticLabels: c.RespectStaticLabels, Actions: c.Actions()},
	}
}

// EtcdClient is the part of the configuration that reaches etcd.
func (c *Config) EtcdClient() (clientv3.Config, error) {
	cfg := clientv3.Config{Endpoints: c.EtcdEndpoints, Username: c.EtcdUser, Password: c.EtcdPassword}
	if c.EtcdCertFile == "" && c.EtcdCAFile == "" {
		return cfg, nil
	}
	info := transport.TLSInfo{CertFile: c.EtcdCertFile, KeyFile: c.EtcdKeyFile, TrustedCAFile: c.EtcdCAFile}
	tls, err := info.ClientConfig()
	if err != nil {
		return cfg, fmt.Errorf("%w: TLS for etcd: %w", ErrConfig, err)
	}
	cfg.TLS = tls
	return cfg, nil
}

// Logger returns the process's logger.
func (c *Config) Logger(to io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "hostsched", Level: hclog.LevelFromString(c.LogLevel), JSONFormat: c.LogFormat == "json", Output: to, TimeFormat: time.RFC3339Nano,
	})
}
