-- Version 5: what a lab of its own keeps beside Autotest's tables: holds, the
-- journal, who may use the API. Replicas of version 4 can continue: they neither
-- read nor write these tables.

-- +goose Up

-- Holds of hosts beyond what Autotest knows. lock_until belongs to the lock of
-- afe_hosts that has the same lock_time and locked_by_id; another lock has no end.
-- Times are milliseconds since 1970 by the database's clock.
CREATE TABLE IF NOT EXISTS hostsched_hosts (
  host_id INTEGER NOT NULL PRIMARY KEY,
  lock_until BIGINT DEFAULT NULL,
  lock_time DATETIME DEFAULT NULL,
  locked_by_id INTEGER DEFAULT NULL,
  drain_since BIGINT DEFAULT NULL,
  drain_by VARCHAR(190) NOT NULL DEFAULT '',
  drain_reason VARCHAR(500) NOT NULL DEFAULT '',
  drain_deadline BIGINT DEFAULT NULL,
  drain_abort TINYINT NOT NULL DEFAULT 0
);

-- The journal: what happened to hosts, jobs and shards, in the transaction that did it.
CREATE TABLE IF NOT EXISTS hostsched_events (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  at BIGINT NOT NULL,
  kind VARCHAR(32) NOT NULL,
  shard VARCHAR(190) NOT NULL DEFAULT '',
  host_id INTEGER DEFAULT NULL,
  job_id INTEGER DEFAULT NULL,
  entry_id INTEGER DEFAULT NULL,
  who VARCHAR(190) NOT NULL,
  subject VARCHAR(255) NOT NULL DEFAULT '',
  reason VARCHAR(500) NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS hostsched_events_host ON hostsched_events (host_id);
CREATE INDEX IF NOT EXISTS hostsched_events_job ON hostsched_events (job_id);

-- What was submitted, as the API took it.
CREATE TABLE IF NOT EXISTS hostsched_job_specs (
  job_id INTEGER NOT NULL PRIMARY KEY,
  clone_of INTEGER DEFAULT NULL,
  spec MEDIUMTEXT NOT NULL
);

-- Tokens of the API. token_hash is the SHA-256 of the token in hexadecimal digits.
CREATE TABLE IF NOT EXISTS hostsched_tokens (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  token_hash CHAR(64) NOT NULL,
  login VARCHAR(190) NOT NULL,
  name VARCHAR(190) NOT NULL,
  role VARCHAR(32) NOT NULL DEFAULT '',
  created BIGINT NOT NULL,
  created_by VARCHAR(190) NOT NULL,
  expires BIGINT DEFAULT NULL,
  last_used BIGINT DEFAULT NULL,
  revoked BIGINT DEFAULT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS hostsched_tokens_hash ON hostsched_tokens (token_hash);

-- Which role a user, or everybody of a group of the identity provider, has.
CREATE TABLE IF NOT EXISTS hostsched_role_grants (
  kind VARCHAR(16) NOT NULL,
  name VARCHAR(190) NOT NULL,
  role VARCHAR(32) NOT NULL,
  PRIMARY KEY (kind, name)
);

-- Answers to requests with an Idempotency-Key. status is 0 while the first one runs.
CREATE TABLE IF NOT EXISTS hostsched_idempotency (
  login VARCHAR(190) NOT NULL,
  idempotency_key VARCHAR(190) NOT NULL,
  request_hash CHAR(64) NOT NULL,
  created BIGINT NOT NULL,
  status INTEGER NOT NULL DEFAULT 0,
  answer MEDIUMTEXT NOT NULL,
  PRIMARY KEY (login, idempotency_key)
);
CREATE INDEX IF NOT EXISTS hostsched_idempotency_created ON hostsched_idempotency (created);

-- +goose Down
DROP TABLE IF EXISTS hostsched_idempotency;
DROP TABLE IF EXISTS hostsched_role_grants;
DROP TABLE IF EXISTS hostsched_tokens;
DROP TABLE IF EXISTS hostsched_job_specs;
DROP TABLE IF EXISTS hostsched_events;
DROP TABLE IF EXISTS hostsched_hosts;
