package config

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Store is the part of the configuration that opens the database.
func (c *Config) Store() sqldb.Config { return c.store(c.Database.DSN, c.Secret("database.password")) }

// ServersStore is the part of the configuration that opens the database with the
// servers table; ok is false if it is the main one.
func (c *Config) ServersStore() (cfg sqldb.Config, ok bool) {
	return c.store(c.Servers.DSN, c.Secret("servers.password")), c.Servers.DSN != ""
}

// ShardStore is the part of the configuration that opens a shard's own database.
func (c *Config) ShardStore(name shard.Name, dsn string) sqldb.Config {
	return c.store(dsn, c.shardSecret(name))
}

func (c *Config) store(dsn string, password Secret) sqldb.Config {
	return sqldb.Config{
		DSN: dsn, Password: password.Read, PasswordAdvice: password.Advice, TLS: c.DatabaseTLS(), Production: c.Production, TxTimeout: c.Etcd.TTL,
	}
}

// DatabaseFiles are the certificates for connections to database servers.
func (c *Config) DatabaseFiles() certs.Files {
	return certs.Files{Cert: c.Database.CertFile, Key: c.Database.KeyFile, CA: c.Database.CAFile}
}

// DatabaseTLS returns what each new connection to a database server offers; nil if that is
// left to the DSN.
func (c *Config) DatabaseTLS() func() (*tls.Config, error) { return certs.Client(c.DatabaseFiles()) }

// EtcdPeerFiles are the certificates by which the embedded members of etcd talk to each other.
func (c *Config) EtcdPeerFiles() certs.Files {
	return certs.Files{Cert: c.Etcd.PeerCertFile, Key: c.Etcd.PeerKeyFile, CA: c.Etcd.PeerTrustedCAFile}
}

// Actions are the labels that special tasks act on.
func (c *Config) Actions() scheduler.Actions {
	return scheduler.Actions{Provision: c.Labels.ProvisionKeys, Other: c.Labels.DroppedKeys, SkipProvision: c.Labels.SkipProvision}
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
		Rules: scheduler.Rules{
			Policy: scheduler.Policy(c.Scheduler.Policy), Aging: c.Scheduler.Aging + 0, // of the two zeros the one without a sign
			RespectStaticLabels: c.Labels.RespectStatic, Actions: c.Actions(),
		},
	}
}

// AgentsRun tells whether agents run the jobs of a lab. Where the configuration leaves it
// open, they do in a lab whose tables hostsched has made.
func (c *Config) AgentsRun(ctx context.Context, db *store.DB) (bool, error) {
	if c.Runner != RunnerAuto {
		return c.Runner != RunnerAutotest, nil
	}
	status, err := schema.ReadStatus(ctx, db.DB)
	return status.Lab == schema.LabOurs, err
}

// CertificateFiles is the part of the configuration for TLS between replicas.
func (c *Config) CertificateFiles() certs.Files {
	return certs.Files{Cert: c.TLS.CertFile, Key: c.TLS.KeyFile, CA: c.TLS.CAFile, RequireClient: c.TLS.RequireClientCert}
}

// EtcdConnection is the part of the configuration that reaches etcd.
func (c *Config) EtcdConnection() election.Connection {
	return election.Connection{Config: c.etcdClient, CertFile: c.Etcd.CertFile, CAFile: c.Etcd.CAFile}
}

// etcdClient reads the files of password and certificates as they are now.
func (c *Config) etcdClient() (clientv3.Config, error) {
	cfg := clientv3.Config{Endpoints: c.Etcd.Endpoints, Username: c.Etcd.User}
	var err error
	if cfg.Password, err = c.Secret("etcd.password").Read(); err != nil {
		return cfg, err
	}
	if c.Etcd.CertFile == "" && c.Etcd.CAFile == "" {
		return cfg, nil
	}
	info := transport.TLSInfo{CertFile: c.Etcd.CertFile, KeyFile: c.Etcd.KeyFile, TrustedCAFile: c.Etcd.CAFile}
	if cfg.TLS, err = info.ClientConfig(); err != nil {
		return cfg, fmt.Errorf("%w: TLS for etcd: %w", ErrConfig, err)
	}
	return cfg, nil
}

// Logger returns the process's logger.
func (c *Config) Logger(to io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "hostsched", Level: hclog.LevelFromString(c.Log.Level), JSONFormat: c.Log.Format == "json", Output: oneLine{to}, TimeFormat: time.RFC3339Nano,
	})
}
