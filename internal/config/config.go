package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// ErrConfig is bad input: nothing was started, nothing was written.
var ErrConfig = errors.New("configuration")

// Values of Config.Runner.
const (
	RunnerAuto     = "auto"
	RunnerAutotest = "autotest"
)

// Config is everything a process can be told. The zero value is not usable:
// bind it to flags with Bind, then call Load.
//
// A new setting is one field here, and one line in deploy/hostsched.example.yaml.
// The tags of a field are
//
//	key      its name in the file; that of a section comes before it, with a dot
//	group    the commands that need it; a section's group holds for its fields
//	usage    what --help says of it
//	default  its value if nobody says anything; see also dynamicDefaults
//	min, max the bounds of a number or a duration, both allowed
//	oneof    the texts that are allowed
//	secret   its value is read from the environment, or from the file that the
//	         setting of the same name with _file at the end names; it is no flag
//	         and must not be in our file
type Config struct {
	Server    string `key:"server" group:"replica" usage:"name of this server"`
	Cluster   string `key:"cluster" group:"etcd" default:"default" usage:"name of this hostsched installation within etcd"`
	Shard     string `key:"shard" group:"replica" usage:"serve only this shard, to which the whole database belongs, as Autotest has it: master, or the shard's hostname; empty serves every shard in afe_shards"`
	Listen    string `key:"listen" group:"replica" default:"127.0.0.1:8470" usage:"address for metrics, health and status"`
	Advertise string `key:"advertise" group:"replica" usage:"address at which other servers reach this replica, shown in etcd; if empty the listen address, or one of this machine where listen names none"`

	Standalone bool   `key:"standalone" group:"database" default:"false" usage:"a whole lab server in one process, with etcd and an SQLite database of its own in data_dir"`
	DataDir    string `key:"data_dir" group:"database" usage:"folder of a standalone server, which is meant if it is given; ./hostsched-data if empty"`

	TLS struct {
		CertFile          string `key:"cert_file" usage:"certificate with which this replica answers on listen, and asks other replicas; without one there is no TLS between replicas"`
		KeyFile           string `key:"key_file" usage:"key of that certificate"`
		CAFile            string `key:"ca_file" usage:"certificate authority of the other replicas; that of the system if empty"`
		RequireClientCert bool   `key:"require_client_cert" default:"false" usage:"answer only clients with a certificate of tls.ca_file"`
	} `key:"tls" group:"etcd"`

	Etcd struct {
		Endpoints    []string      `key:"endpoints" default:"http://127.0.0.1:2379" usage:"etcd client URLs"`
		TTL          time.Duration `key:"ttl" group:"replica" default:"5s" min:"1s" max:"10m" usage:"how long a silent leader keeps its lease; whole seconds"`
		User         string        `key:"user" usage:"etcd user"`
		Password     string        `key:"password" secret:"yes"`
		PasswordFile string        `key:"password_file" usage:"file with the etcd password (or env HOSTSCHED_ETCD_PASSWORD)"`
		CertFile     string        `key:"cert_file" usage:"client certificate for etcd"`
		KeyFile      string        `key:"key_file" usage:"key of the client certificate"`
		CAFile       string        `key:"ca_file" usage:"certificate authority of the etcd servers"`

		// A member of etcd in this process. The names are etcd's own.
		Embedded            bool     `key:"embedded" default:"false" usage:"run a member of etcd in this process, and use it"`
		DataDir             string   `key:"data_dir" group:"replica" usage:"folder of the embedded member"`
		Name                string   `key:"name" group:"replica" usage:"name of the embedded member; that of the server if empty"`
		InitialCluster      []string `key:"initial_cluster" group:"replica" usage:"all embedded members and where they reach each other, like sched-1=http://10.0.0.1:2380"`
		InitialClusterState string   `key:"initial_cluster_state" group:"replica" default:"new" oneof:"new or existing" usage:"new, or existing for a member that was added to a cluster that runs"`
		ListenPeerURLs      []string `key:"listen_peer_urls" group:"replica" usage:"where the embedded member listens for the others; its own of etcd.initial_cluster if empty"`
		ListenClientURLs    []string `key:"listen_client_urls" default:"http://127.0.0.1:2379" usage:"where the embedded member listens for this machine"`
		PeerCertFile        string   `key:"peer_cert_file" group:"replica" usage:"certificate with which embedded members talk to each other"`
		PeerKeyFile         string   `key:"peer_key_file" group:"replica" usage:"key of that certificate"`
		PeerTrustedCAFile   string   `key:"peer_trusted_ca_file" group:"replica" usage:"certificate authority of the other embedded members"`
	} `key:"etcd" group:"etcd"`

	Database struct {
		DSN          string `key:"dsn" usage:"database: user@tcp(host:port)/database or sqlite:PATH; no password on the command line"`
		Password     string `key:"password" secret:"yes"`
		PasswordFile string `key:"password_file" usage:"file with the database password (or env HOSTSCHED_DATABASE_PASSWORD)"`
		CertFile     string `key:"cert_file" usage:"client certificate for all database servers, for users of whom they require one"`
		KeyFile      string `key:"key_file" usage:"key of the client certificate"`
		CAFile       string `key:"ca_file" usage:"certificate authority of the database servers; that of the system if empty"`
	} `key:"database" group:"database"`

	Production bool `key:"production" group:"database" default:"false" usage:"allow a database on another machine"`

	Servers struct {
		DSN          string `key:"dsn" usage:"database with the servers and server_roles tables, if it is not the same (Autotest's server database)"`
		Password     string `key:"password" secret:"yes"`
		PasswordFile string `key:"password_file" usage:"file with its password (or env HOSTSCHED_SERVERS_PASSWORD)"`
	} `key:"servers" group:"database"`

	Shards struct {
		PasswordDir string `key:"password_dir" usage:"folder with a file per shard that has a database of its own: its password; without one the password of the main database is used"`
	} `key:"shards" group:"database"`

	API struct {
		Listen      string  `key:"listen" usage:"address for the API, if it is another one than listen"`
		Socket      string  `key:"socket" usage:"unix socket on which the API takes whoever may open it, this user and root, for an administrator"`
		Auth        string  `key:"auth" default:"token" oneof:"token or none" usage:"who may call the API: token, who has one; or none, everybody as administrator, only on a loopback address"`
		MaxPriority int     `key:"max_priority" default:"100" min:"0" max:"2000000000" usage:"the highest priority that users may give their jobs; above it the role operator is needed"`
		Rate        float64 `key:"rate" default:"200" min:"0" max:"1000000" usage:"how many requests one token may make in a second; 0 any number"`
		Anonymous   string  `key:"anonymous" default:"none" oneof:"none or viewer" usage:"what callers without token may do: none, or viewer, read all but secrets"`
		URL         string  `key:"url" usage:"how browsers reach the replicas, like https://lab.example; the address that they used if empty"`
	} `key:"api" group:"replica"`

	OIDC struct {
		Issuer                 string        `key:"issuer" usage:"URL of the OpenID provider at which people log in; nobody can without it"`
		ClientID               string        `key:"client_id" usage:"what the provider calls this lab"`
		ClientSecret           string        `key:"client_secret" secret:"yes"`
		ClientSecretFile       string        `key:"client_secret_file" usage:"file with the client's secret (or env HOSTSCHED_OIDC_CLIENT_SECRET)"`
		DeviceClientID         string        `key:"device_client_id" usage:"what the provider calls this lab for logins of the command line, if it is another client"`
		DeviceClientSecret     string        `key:"device_client_secret" secret:"yes"`
		DeviceClientSecretFile string        `key:"device_client_secret_file" usage:"file with that client's secret (or env HOSTSCHED_OIDC_DEVICE_CLIENT_SECRET)"`
		Scopes                 []string      `key:"scopes" default:"openid,profile,email" usage:"what the provider is asked for"`
		UserClaim              string        `key:"user_claim" default:"preferred_username" usage:"the claim that has the login; it must be one that people cannot choose themselves"`
		GroupsClaim            string        `key:"groups_claim" default:"groups" usage:"the claim that has the groups; 'hostsched role add group NAME ROLE' gives them roles"`
		Least                  string        `key:"least_role" default:"user" oneof:"viewer or user" usage:"the role of people who have no other: viewer or user"`
		Session                time.Duration `key:"session" default:"12h" min:"1m" max:"8760h" usage:"how long a login lasts"`
	} `key:"oidc" group:"replica"`

	Placement struct {
		// The default is longer than a restart, and shorter than anybody would
		// wait for.
		HoldOff time.Duration `key:"hold_off" default:"5s" min:"0s" max:"1h" usage:"how long a server must be there before shards are handed over to it"`
		Weight  int           `key:"weight" default:"1" min:"1" max:"1000" usage:"this server's share of shards compared with other servers"`
	} `key:"placement" group:"replica"`

	Tick struct {
		Min time.Duration `key:"min" default:"50ms" min:"0s" max:"10m" usage:"shortest time from one tick to the next, unless something is submitted, aborted or unlocked through the API"`
	} `key:"tick" group:"replica"`

	Scheduler struct {
		// Beside Autotest the default is exact, see policy in autotest.go.
		Policy string  `key:"policy" default:"optimal" oneof:"exact or optimal" usage:"how hosts are chosen: exact, as Autotest does, one entry after the other, the default with --autotest-config; or optimal, as many entries at once as possible"`
		Aging  float64 `key:"aging" default:"0" min:"0" max:"1000000" usage:"priority points that a job gains for each hour it waits; 0 none"`
	} `key:"scheduler" group:"replica"`

	Audit struct {
		// By default once a minute when ticks follow each other every 50 ms, as
		// they do in a busy lab, and every two minutes in a quiet one, whose
		// leader ticks every 100 ms.
		Every int `key:"every" default:"1200" min:"0" max:"1000000" usage:"the leader checks the database every so many ticks; 0 never"`
	} `key:"audit" group:"replica"`

	History struct {
		Days int `key:"days" default:"90" min:"0" max:"36500" usage:"the leader deletes terms and audit records older than so many days; 0 keeps them for ever"`
	} `key:"history" group:"replica"`

	// Runner says who runs the jobs of the lab.
	Runner string `key:"runner" group:"replica" default:"auto" oneof:"auto, autotest or agents" usage:"who runs the jobs: agents, and who submits a job to run it himself; or autotest, monitor_db beside us; auto, agents where hostsched made the tables of the lab"`

	Runs struct {
		Lease    time.Duration `key:"lease" default:"10m" min:"2s" max:"24h" usage:"how long a run may go on whose agent, or whoever else runs it, cannot reach the servers"`
		KeepDays int           `key:"keep_days" default:"90" min:"0" max:"36500" usage:"the leader deletes logs, files and results of runs that were over so many days ago; 0 keeps them for ever"`
		Blobs    string        `key:"blobs" usage:"where logs and files of runs lie that are over: a folder that all replicas see, or a bucket like s3://NAME?region=REGION; in the database if empty, and in the folder blobs of a standalone server"`
	} `key:"runs" group:"replica"`

	Journal struct {
		// Beside Autotest the default is off, see journal in autotest.go.
		Enabled string `key:"enabled" default:"auto" oneof:"auto, on or off" usage:"whether the leader notes every assignment, release, start and stop in the journal: auto, where hostsched made the tables of the lab; or on, or off, the default with --autotest-config"`
		Days    int    `key:"days" default:"90" min:"0" max:"36500" usage:"the leader deletes what is older than so many days from the journal; 0 keeps it for ever"`
	} `key:"journal" group:"replica"`

	Labels struct {
		RespectStatic bool     `key:"respect_static" default:"false" usage:"look replaced labels up among static labels"`
		ProvisionKeys []string `key:"provision_keys" usage:"label keys that a Provision task handles"`
		DroppedKeys   []string `key:"dropped_keys" usage:"label keys that other special tasks handle"`
		SkipProvision string   `key:"skip_provision" usage:"label that rules a Provision task out"`
	} `key:"labels" group:"replica"`

	Log struct {
		Level       string `key:"level" default:"info" oneof:"trace, debug, info, warn or error" usage:"trace, debug, info, warn or error"`
		Format      string `key:"format" default:"text" oneof:"text or json" usage:"text or json"`
		Assignments bool   `key:"assignments" group:"replica" default:"false" usage:"say in the log, at level info, who got which host and why, and which hosts were released; at level debug it is always said"`
	} `key:"log" group:"database"`

	Lifetime struct {
		Hours float64 `key:"hours" default:"0" min:"0" max:"8760" usage:"end in an orderly way after so many hours; 0 never"`
	} `key:"lifetime" group:"replica"`

	Metrics struct {
		File string `key:"file" usage:"also write the metrics to this file, in Prometheus text format"`
	} `key:"metrics" group:"replica"`

	Notify struct {
		To               []string      `key:"to" usage:"mail addresses to notify of errors, failovers and double owners"`
		From             string        `key:"from" default:"hostsched@localhost" usage:"sender of notifications"`
		Interval         time.Duration `key:"interval" default:"1m" min:"1ms" max:"24h" usage:"shortest time between two mails"`
		SMTPHost         string        `key:"smtp_host" default:"localhost" usage:"mail server"`
		SMTPPort         int           `key:"smtp_port" default:"25" min:"1" max:"65535" usage:"port of the mail server"`
		SMTPUser         string        `key:"smtp_user" usage:"user at the mail server"`
		SMTPPassword     string        `key:"smtp_password" secret:"yes"`
		SMTPPasswordFile string        `key:"smtp_password_file" usage:"file with the mail password (or env HOSTSCHED_NOTIFY_SMTP_PASSWORD)"`
	} `key:"notify" group:"replica"`

	Tracing struct {
		Endpoint string  `key:"endpoint" usage:"URL of an OpenTelemetry collector, like http://otel:4318, that is told what becomes of jobs; none if empty"`
		Share    float64 `key:"share" default:"1" min:"0" max:"1" usage:"share of the jobs that are told, of those that were submitted without a trace of their own"`
	} `key:"tracing" group:"replica"`

	Metadata struct {
		URL      string        `key:"url" usage:"Elasticsearch _bulk endpoint for queued-time records, like http://es:9200/hostsched/_bulk"`
		Interval time.Duration `key:"interval" default:"5s" min:"1ms" max:"1h" usage:"longest time a record waits for its batch"`
	} `key:"metadata" group:"replica"`

	file, autotest string
	near           string // the folder of LoadNear
	taken          []Taken
	secrets        map[string]secretSource
	flags          *pflag.FlagSet
	groups         Groups
	settings       []*setting
}

// dynamicDefaults are the defaults that no tag can hold.
func (c *Config) dynamicDefaults() {
	c.Server = "localhost"
	if host, err := os.Hostname(); err == nil {
		c.Server = host
	}
	actions := scheduler.DefaultActions()
	c.Labels.ProvisionKeys, c.Labels.DroppedKeys, c.Labels.SkipProvision = actions.Provision, actions.Other, actions.SkipProvision
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

// Bind sets the defaults and declares the flags of the groups a command needs.
// The flags of other groups are hidden: one file and one environment serve all
// commands.
func (c *Config) Bind(flags *pflag.FlagSet, groups Groups) {
	c.dynamicDefaults()
	c.flags, c.groups, c.settings = flags, groups, settingsOf(c)
	flags.StringVarP(&c.file, "config", "c", "", "YAML file with the settings below (env HOSTSCHED_CONFIG; /etc/hostsched.yaml if it exists)")
	flags.StringVar(&c.autotest, "autotest-config", "", "folder of Autotest's global_config.ini and shadow_config.ini, or the former (env HOSTSCHED_AUTOTEST_CONFIG)")
	for _, s := range c.settings {
		if s.secret {
			continue
		}
		flag := flags.VarPF(s, s.flagName(), "", s.usage)
		flag.Hidden = groups&s.group == 0
		if s.isBool() {
			flag.NoOptDefVal = "true"
		}
	}
}

// Load fills in what was not given as a flag: from the environment, then our
// file, then Autotest's. It refuses what is no setting, and reads the secrets.
func (c *Config) Load() error {
	env := environment()
	c.file = orElse(c.file, env[configEnv])
	c.autotest = orElse(c.autotest, env[autotestEnv])
	c.useDefaultFile()
	if err := c.passwordsInFlags(); err != nil {
		return err
	}
	if err := c.checkEnvironment(env); err != nil {
		return err
	}
	file, err := c.readFile()
	if err != nil {
		return err
	}
	autotest, err := c.readAutotest()
	if err != nil {
		return err
	}
	for _, s := range c.settings {
		if err := c.fill(s, env, file, autotest); err != nil {
			return err
		}
	}
	if err := c.standAlone(); err != nil {
		return err
	}
	c.useEmbeddedEtcd()
	if err := c.readSecrets(env, autotest); err != nil {
		return err
	}
	return c.check()
}

// fill gives a setting its value from the first place that has one.
func (c *Config) fill(s *setting, env map[string]string, file map[string]reflect.Value, autotest *importer) error {
	if s.secret || c.flags.Changed(s.flagName()) {
		return nil
	}
	if text := env[s.envName()]; text != "" {
		s.given = true
		if err := s.setText(text); err != nil {
			return fmt.Errorf("%w: environment variable %s: %w", ErrConfig, s.envName(), err)
		}
		return nil
	}
	if v, ok := file[s.key]; ok {
		s.given = true
		s.field.Set(v)
		return nil
	}
	if text, ok := autotest.ours[s.key]; ok {
		s.imported = true
		if err := s.setText(text); err != nil {
			return fmt.Errorf("%w: %s: %s: %w", ErrConfig, c.autotest, s.key, err)
		}
	}
	return nil
}

// given tells whether somebody said what a setting should be.
func (c *Config) given(key string) bool {
	return slices.ContainsFunc(c.settings, func(s *setting) bool { return s.key == key && s.given })
}

// NamesCluster tells whether the setting cluster is meant: the command uses etcd, or somebody
// said which cluster it should be.
func (c *Config) NamesCluster() bool { return c.groups&EtcdGroup != 0 || c.given("cluster") }

// passwordsInFlags refuses passwords where every user of the machine sees them.
func (c *Config) passwordsInFlags() error {
	for section, dsn := range map[string]string{"database": c.Database.DSN, "servers": c.Servers.DSN} {
		if c.flags.Changed(section+"-dsn") && sqldb.HasPassword(dsn) {
			return fmt.Errorf("%w: --%s-dsn has a password in it, which every user of this machine can read; use --%[2]s-password-file or HOSTSCHED_%s_PASSWORD", ErrConfig, section, strings.ToUpper(section))
		}
	}
	return nil
}

// check refuses what a single setting's tags cannot tell.
func (c *Config) check() error {
	if c.Database.DSN == "" {
		return fmt.Errorf("%w: no database; give --database-dsn, HOSTSCHED_DATABASE_DSN, or database.dsn in the file, or --standalone for a lab without a database server", ErrConfig)
	}
	if c.Etcd.TTL%time.Second != 0 {
		return fmt.Errorf("%w: etcd.ttl is %v; it must be whole seconds", ErrConfig, c.Etcd.TTL)
	}
	if len(c.Etcd.Endpoints) == 0 {
		return fmt.Errorf("%w: etcd.endpoints is empty; name at least one etcd client URL, or leave it out for http://127.0.0.1:2379", ErrConfig)
	}
	if (c.Etcd.CertFile == "") != (c.Etcd.KeyFile == "") {
		return fmt.Errorf("%w: etcd.cert_file and etcd.key_file go together", ErrConfig)
	}
	if (c.Database.CertFile == "") != (c.Database.KeyFile == "") {
		return fmt.Errorf("%w: database.cert_file and database.key_file go together", ErrConfig)
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return fmt.Errorf("%w: tls.cert_file and tls.key_file go together", ErrConfig)
	}
	if c.TLS.RequireClientCert && (c.TLS.CertFile == "" || c.TLS.CAFile == "") {
		return fmt.Errorf("%w: tls.require_client_cert needs tls.cert_file and tls.ca_file", ErrConfig)
	}
	if c.Tracing.Endpoint != "" && !strings.HasPrefix(c.Tracing.Endpoint, "http://") && !strings.HasPrefix(c.Tracing.Endpoint, "https://") {
		return fmt.Errorf("%w: tracing.endpoint is %q; it must begin with http:// or https://", ErrConfig, c.Tracing.Endpoint)
	}
	if c.Metadata.URL != "" && !strings.HasPrefix(c.Metadata.URL, "http://") && !strings.HasPrefix(c.Metadata.URL, "https://") {
		return fmt.Errorf("%w: metadata.url is %q; it must begin with http:// or https://", ErrConfig, c.Metadata.URL)
	}
	if err := c.checkAddresses(); err != nil {
		return err
	}
	if key, address := c.apiAddress(); c.API.Auth == "none" && !Loopback(address) {
		return fmt.Errorf("%w: api.auth is none, which makes everybody an administrator, and %s is %q; that is only allowed on a loopback address like 127.0.0.1:8470", ErrConfig, key, address)
	}
	if err := c.checkSockets(); err != nil {
		return err
	}
	if err := c.checkEmbeddedEtcd(); err != nil {
		return err
	}
	if err := c.checkOIDC(); err != nil {
		return err
	}
	return c.checkNames()
}

// checkOIDC refuses half a client.
func (c *Config) checkOIDC() error {
	o := c.OIDC
	switch {
	case o.Issuer == "" && o.ClientID == "":
		return nil
	case o.Issuer == "" || o.ClientID == "":
		return fmt.Errorf("%w: oidc.issuer and oidc.client_id go together", ErrConfig)
	case !strings.HasPrefix(o.Issuer, "https://") && !strings.HasPrefix(o.Issuer, "http://localhost") && !strings.HasPrefix(o.Issuer, "http://127.0.0.1"):
		return fmt.Errorf("%w: oidc.issuer is %q; it must begin with https://", ErrConfig, o.Issuer)
	case !slices.Contains(o.Scopes, "openid"):
		return fmt.Errorf("%w: oidc.scopes must have openid among them", ErrConfig)
	}
	return nil
}

// checkNames holds names of etcd keys and database rows to the one rule for
// them.
func (c *Config) checkNames() error {
	if err := shard.CheckName(c.Cluster); err != nil {
		return fmt.Errorf("%w: cluster is %q: %w", ErrConfig, c.Cluster, err)
	}
	if err := shard.CheckServer(c.Server); err != nil {
		return fmt.Errorf("%w: server is %q: %w", ErrConfig, c.Server, err)
	}
	if c.Shard == "" {
		return nil
	}
	if _, err := shard.Parse(c.Shard); err != nil {
		return fmt.Errorf("%w: shard: %w", ErrConfig, err)
	}
	return nil
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
