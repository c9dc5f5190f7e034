-- Version 6: who runs the jobs of a lab of its own: agents, runs with their claims, host
-- epochs, logs. Replicas of version 5 can continue: they neither read nor write this.

-- +goose Up

-- What a host's claims and failures left behind. epoch is the fencing token of a host: it
-- rises with every claim. run_id is the run that has the host, or had it last. bad_since is
-- set while the lab holds a host as bad; failures counts failed repairs and lost runs in a
-- row, last_job is the job of the last one if that was a lost run. Times are milliseconds
-- since 1970 by the database's clock.
CREATE TABLE IF NOT EXISTS hostsched_host_epochs (
  host_id INTEGER NOT NULL PRIMARY KEY,
  epoch BIGINT NOT NULL DEFAULT 0,
  run_id BIGINT DEFAULT NULL,
  failures INTEGER NOT NULL DEFAULT 0,
  last_job INTEGER DEFAULT NULL,
  bad_since BIGINT DEFAULT NULL,
  bad_reason VARCHAR(500) NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS hostsched_host_epochs_bad ON hostsched_host_epochs (bad_since);

-- Agents. desired is what an administrator wants (run, drain, stop), seen is what the
-- servers saw. session changes with each start of an agent's process, and is empty after its
-- goodbye. next_token_hash takes the place of token_hash with the first call that shows it;
-- rotate_since is set while an administrator wants that. unfit is why the agent takes nothing.
CREATE TABLE IF NOT EXISTS hostsched_agents (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  name VARCHAR(190) NOT NULL,
  join_hash CHAR(64) DEFAULT NULL,
  join_expires BIGINT DEFAULT NULL,
  token_hash CHAR(64) DEFAULT NULL,
  next_token_hash CHAR(64) DEFAULT NULL,
  rotate_since BIGINT DEFAULT NULL,
  revoked BIGINT DEFAULT NULL,
  desired VARCHAR(16) NOT NULL DEFAULT 'run',
  desired_by VARCHAR(190) NOT NULL DEFAULT '',
  desired_reason VARCHAR(500) NOT NULL DEFAULT '',
  session VARCHAR(64) NOT NULL DEFAULT '',
  boot_id VARCHAR(64) NOT NULL DEFAULT '',
  protocol INTEGER NOT NULL DEFAULT 0,
  version VARCHAR(190) NOT NULL DEFAULT '',
  capacity INTEGER NOT NULL DEFAULT 0,
  unfit VARCHAR(500) NOT NULL DEFAULT '',
  address VARCHAR(190) NOT NULL DEFAULT '',
  seen BIGINT DEFAULT NULL,
  created BIGINT NOT NULL,
  created_by VARCHAR(190) NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS hostsched_agents_name ON hostsched_agents (name);
CREATE UNIQUE INDEX IF NOT EXISTS hostsched_agents_join ON hostsched_agents (join_hash);
CREATE UNIQUE INDEX IF NOT EXISTS hostsched_agents_token ON hostsched_agents (token_hash);
CREATE UNIQUE INDEX IF NOT EXISTS hostsched_agents_next_token ON hostsched_agents (next_token_hash);

-- The home of a host: the agent that runs what is to be run on it.
CREATE TABLE IF NOT EXISTS hostsched_agent_hosts (
  host_id INTEGER NOT NULL PRIMARY KEY,
  agent_id BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS hostsched_agent_hosts_agent ON hostsched_agent_hosts (agent_id);

-- Runs. kind is job, reserve, or a special task's (Verify, Cleanup, Reset, Provision,
-- Repair). agent_id is NULL if a person or a CI system claimed it, and login says who.
-- state is claimed, running, finishing, done or lost.
CREATE TABLE IF NOT EXISTS hostsched_runs (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  claim_key VARCHAR(64) NOT NULL,
  kind VARCHAR(16) NOT NULL,
  state VARCHAR(16) NOT NULL,
  task_id INTEGER DEFAULT NULL,
  job_id INTEGER DEFAULT NULL,
  agent_id BIGINT DEFAULT NULL,
  login VARCHAR(190) NOT NULL DEFAULT '',
  session VARCHAR(64) NOT NULL DEFAULT '',
  token_hash CHAR(64) NOT NULL,
  lease_ms BIGINT NOT NULL,
  lease_until BIGINT NOT NULL,
  hard_ms BIGINT NOT NULL DEFAULT 0,
  claimed BIGINT NOT NULL,
  started BIGINT DEFAULT NULL,
  ended BIGINT DEFAULT NULL,
  closed BIGINT DEFAULT NULL,
  stop_reason VARCHAR(32) NOT NULL DEFAULT '',
  stop_since BIGINT DEFAULT NULL,
  exit_code INTEGER DEFAULT NULL,
  exit_signal INTEGER DEFAULT NULL,
  result VARCHAR(16) NOT NULL DEFAULT '',
  tests_failed INTEGER NOT NULL DEFAULT 0,
  not_run_reason VARCHAR(32) NOT NULL DEFAULT '',
  detail VARCHAR(500) NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX IF NOT EXISTS hostsched_runs_claim ON hostsched_runs (claim_key);
CREATE UNIQUE INDEX IF NOT EXISTS hostsched_runs_token ON hostsched_runs (token_hash);
CREATE INDEX IF NOT EXISTS hostsched_runs_state ON hostsched_runs (state, lease_until);
CREATE INDEX IF NOT EXISTS hostsched_runs_job ON hostsched_runs (job_id);
CREATE INDEX IF NOT EXISTS hostsched_runs_task ON hostsched_runs (task_id);
CREATE INDEX IF NOT EXISTS hostsched_runs_agent ON hostsched_runs (agent_id);

-- The hosts of a run, and with which epoch it has each.
CREATE TABLE IF NOT EXISTS hostsched_run_hosts (
  run_id BIGINT NOT NULL,
  host_id INTEGER NOT NULL,
  entry_id INTEGER DEFAULT NULL,
  epoch BIGINT NOT NULL,
  PRIMARY KEY (run_id, host_id)
);
CREATE INDEX IF NOT EXISTS hostsched_run_hosts_host ON hostsched_run_hosts (host_id);
CREATE INDEX IF NOT EXISTS hostsched_run_hosts_entry ON hostsched_run_hosts (entry_id);

-- Logs as they come, and artifacts: a stream is a log, or the bytes of an artifact. sha256 is
-- set once it is complete, and hashing is what its sum needs until then. A complete stream may
-- lie in the store of files, place says where; until then its chunks are here. cut is how many
-- bytes were over the cap.
CREATE TABLE IF NOT EXISTS hostsched_logs (
  run_id BIGINT NOT NULL,
  stream VARCHAR(32) NOT NULL,
  size BIGINT NOT NULL DEFAULT 0,
  cut BIGINT NOT NULL DEFAULT 0,
  sha256 CHAR(64) NOT NULL DEFAULT '',
  hashing BLOB DEFAULT NULL,
  place VARCHAR(255) NOT NULL DEFAULT '',
  PRIMARY KEY (run_id, stream)
);
CREATE INDEX IF NOT EXISTS hostsched_logs_place ON hostsched_logs (place, run_id);

CREATE TABLE IF NOT EXISTS hostsched_log_chunks (
  run_id BIGINT NOT NULL,
  stream VARCHAR(32) NOT NULL,
  begins BIGINT NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (run_id, stream, begins)
);

-- Files that a run left, whose bytes are the stream artifact-NUMBER, and the results of its
-- tests.
CREATE TABLE IF NOT EXISTS hostsched_artifacts (
  run_id BIGINT NOT NULL,
  path VARCHAR(255) NOT NULL,
  number INTEGER NOT NULL,
  size BIGINT NOT NULL,
  sha256 CHAR(64) NOT NULL,
  PRIMARY KEY (run_id, path)
);

CREATE TABLE IF NOT EXISTS hostsched_results (
  run_id BIGINT NOT NULL,
  number INTEGER NOT NULL,
  name VARCHAR(500) NOT NULL,
  status VARCHAR(16) NOT NULL,
  millis BIGINT NOT NULL DEFAULT 0,
  message VARCHAR(1000) NOT NULL DEFAULT '',
  PRIMARY KEY (run_id, number)
);

-- Jobs that whoever submitted them runs himself: kind is run or reserve. until is when a
-- reservation ends. seen is when the submitter asked last whether the hosts are there: one
-- who does not ask any more is gone, and nobody would use them.
CREATE TABLE IF NOT EXISTS hostsched_own_jobs (
  job_id INTEGER NOT NULL PRIMARY KEY,
  kind VARCHAR(16) NOT NULL,
  until BIGINT DEFAULT NULL,
  seen BIGINT NOT NULL
);

-- +goose Down
DROP TABLE IF EXISTS hostsched_own_jobs;
DROP TABLE IF EXISTS hostsched_results;
DROP TABLE IF EXISTS hostsched_artifacts;
DROP TABLE IF EXISTS hostsched_log_chunks;
DROP TABLE IF EXISTS hostsched_logs;
DROP TABLE IF EXISTS hostsched_run_hosts;
DROP TABLE IF EXISTS hostsched_runs;
DROP TABLE IF EXISTS hostsched_agent_hosts;
DROP TABLE IF EXISTS hostsched_agents;
DROP TABLE IF EXISTS hostsched_host_epochs;
