-- Version 2: several shards in one database, each led by a replica of its own.
--
-- SQLite cannot add a column only where it is missing. So the fence is rebuilt
-- with all its columns. A column that a stopped migration of a former version
-- has added already keeps its values: the innermost query finds it in the table,
-- and where the table lacks it, finds the default that the outer query offers.

-- +goose Up

-- shard_id is the row of afe_shards (0: the master), so that a renamed shard
-- cannot be led under both its names. layout rises with every change of what
-- belongs to the shard, and when it is paused, so that a plan made before is
-- refused. pause_reason says why nothing is scheduled at the moment; it is empty
-- if the shard is not paused.
CREATE TABLE hostsched_fence_new (
  shard VARCHAR(190) NOT NULL PRIMARY KEY,
  epoch BIGINT NOT NULL,
  token BIGINT NOT NULL,
  etcd_cluster VARCHAR(64) NOT NULL,
  holder VARCHAR(190) NOT NULL,
  taken_at DATETIME NOT NULL,
  ticks BIGINT NOT NULL,
  last_write VARCHAR(64) NOT NULL,
  session_id BIGINT NOT NULL,
  session_peer VARCHAR(190) NOT NULL,
  shard_id BIGINT NOT NULL DEFAULT 0,
  layout BIGINT NOT NULL DEFAULT 0,
  pause_reason VARCHAR(500) NOT NULL DEFAULT '',
  paused_by VARCHAR(190) NOT NULL DEFAULT '',
  paused_at BIGINT NOT NULL DEFAULT 0
);
INSERT INTO hostsched_fence_new
SELECT
  f.shard, f.epoch, f.token, f.etcd_cluster, f.holder, f.taken_at, f.ticks, f.last_write, f.session_id, f.session_peer,
  (SELECT shard_id FROM (SELECT * FROM hostsched_fence WHERE shard = f.shard)),
  (SELECT layout FROM (SELECT * FROM hostsched_fence WHERE shard = f.shard)),
  (SELECT pause_reason FROM (SELECT * FROM hostsched_fence WHERE shard = f.shard)),
  (SELECT paused_by FROM (SELECT * FROM hostsched_fence WHERE shard = f.shard)),
  (SELECT paused_at FROM (SELECT * FROM hostsched_fence WHERE shard = f.shard))
FROM
  (SELECT 0 AS shard_id, 0 AS layout, '' AS pause_reason, '' AS paused_by, 0 AS paused_at) AS defaults,
  (SELECT shard, epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer FROM hostsched_fence) AS f;
DROP TABLE hostsched_fence;
ALTER TABLE hostsched_fence_new RENAME TO hostsched_fence;

-- Shards that have a database of their own.
CREATE TABLE IF NOT EXISTS hostsched_shard_databases (
  shard_id BIGINT NOT NULL PRIMARY KEY,
  dsn VARCHAR(1024) NOT NULL
);

-- Labels that a shard gave back to the master: their hosts follow.
CREATE TABLE IF NOT EXISTS hostsched_released_labels (
  label_id BIGINT NOT NULL PRIMARY KEY,
  shard_id BIGINT NOT NULL
);

-- Every term of every shard. Times are milliseconds since 1970 by the
-- database's clock; ended is 0 while a term lasts.
CREATE TABLE IF NOT EXISTS hostsched_terms (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  shard VARCHAR(190) NOT NULL,
  epoch BIGINT NOT NULL,
  token BIGINT NOT NULL,
  holder VARCHAR(190) NOT NULL,
  began BIGINT NOT NULL,
  ended BIGINT NOT NULL,
  planned INTEGER NOT NULL,
  cause TEXT NOT NULL,
  ticks BIGINT NOT NULL,
  assignments BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS hostsched_terms_shard ON hostsched_terms (shard, ended);

-- Facts about this schema. oldest is the lowest schema version whose binaries
-- can work with it.
CREATE TABLE IF NOT EXISTS hostsched_facts (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  value VARCHAR(190) NOT NULL
);

INSERT OR IGNORE INTO hostsched_facts (name, value) VALUES ('oldest', '2');

-- +goose Down
DROP TABLE IF EXISTS hostsched_facts;
DROP TABLE IF EXISTS hostsched_terms;
DROP TABLE IF EXISTS hostsched_released_labels;
DROP TABLE IF EXISTS hostsched_shard_databases;
