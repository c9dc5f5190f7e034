-- Version 2: several shards in one database, each led by whoever should.

-- The row of afe_shards (0: the master), so that a renamed shard cannot be led
-- under both its names.
ALTER TABLE hostsched_fence ADD COLUMN shard_id BIGINT NOT NULL DEFAULT 0;

-- Rises with every change of what belongs to the shard, and when it is paused: a
-- plan made before is refused.
ALTER TABLE hostsched_fence ADD COLUMN layout BIGINT NOT NULL DEFAULT 0;

-- Why nothing is scheduled at the moment; empty if the shard is not paused.
ALTER TABLE hostsched_fence ADD COLUMN pause_reason VARCHAR(500) NOT NULL DEFAULT '';
ALTER TABLE hostsched_fence ADD COLUMN paused_by VARCHAR(190) NOT NULL DEFAULT '';
ALTER TABLE hostsched_fence ADD COLUMN paused_at BIGINT NOT NULL DEFAULT 0;

-- Shards that have a database of their own.
CREATE TABLE hostsched_shard_databases (
  shard_id BIGINT NOT NULL PRIMARY KEY,
  dsn VARCHAR(1024) NOT NULL
) @ENGINE@;

-- Labels that a shard gave back to the master: their hosts follow.
CREATE TABLE hostsched_released_labels (
  label_id BIGINT NOT NULL PRIMARY KEY,
  shard_id BIGINT NOT NULL
) @ENGINE@;

-- Every term of every shard. Times are milliseconds since 1970 by the
-- database's clock; ended is 0 while a term lasts.
CREATE TABLE hostsched_terms (
  `id` @PK@,
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
) @ENGINE@;

CREATE INDEX hostsched_terms_shard ON hostsched_terms (shard, ended);

-- Facts about this schema. oldest is the lowest schema version whose binaries
-- can work with it.
CREATE TABLE hostsched_facts (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  value VARCHAR(190) NOT NULL
) @ENGINE@;

INSERT INTO hostsched_facts (name, value) VALUES ('oldest', '2');
