-- Version 2: several shards in one database, each led by a replica of its own.
--
-- MySQL has no ADD COLUMN IF NOT EXISTS: each column is added by a statement that
-- is made up where the column is missing, and does nothing where it is there.

-- +goose NO TRANSACTION
-- +goose Up

-- The row of afe_shards (0: the master), so that a renamed shard cannot be led
-- under both its names.
SET @change = IF(
  (SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hostsched_fence' AND COLUMN_NAME = 'shard_id') = 0,
  'ALTER TABLE hostsched_fence ADD COLUMN shard_id BIGINT NOT NULL DEFAULT 0',
  'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;

-- Rises with every change of what belongs to the shard, and when it is paused,
-- so that a plan made before is refused.
SET @change = IF(
  (SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hostsched_fence' AND COLUMN_NAME = 'layout') = 0,
  'ALTER TABLE hostsched_fence ADD COLUMN layout BIGINT NOT NULL DEFAULT 0',
  'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;

-- Why nothing is scheduled at the moment; empty if the shard is not paused.
SET @change = IF(
  (SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hostsched_fence' AND COLUMN_NAME = 'pause_reason') = 0,
  'ALTER TABLE hostsched_fence ADD COLUMN pause_reason VARCHAR(500) NOT NULL DEFAULT ''''',
  'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;

SET @change = IF(
  (SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hostsched_fence' AND COLUMN_NAME = 'paused_by') = 0,
  'ALTER TABLE hostsched_fence ADD COLUMN paused_by VARCHAR(190) NOT NULL DEFAULT ''''',
  'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;

SET @change = IF(
  (SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hostsched_fence' AND COLUMN_NAME = 'paused_at') = 0,
  'ALTER TABLE hostsched_fence ADD COLUMN paused_at BIGINT NOT NULL DEFAULT 0',
  'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;

-- Shards that have a database of their own.
CREATE TABLE IF NOT EXISTS hostsched_shard_databases (
  shard_id BIGINT NOT NULL PRIMARY KEY,
  dsn VARCHAR(1024) NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

-- Labels that a shard gave back to the master: their hosts follow.
CREATE TABLE IF NOT EXISTS hostsched_released_labels (
  label_id BIGINT NOT NULL PRIMARY KEY,
  shard_id BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

-- Every term of every shard. Times are milliseconds since 1970 by the
-- database's clock; ended is 0 while a term lasts.
CREATE TABLE IF NOT EXISTS hostsched_terms (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  shard VARCHAR(190) NOT NULL,
  epoch BIGINT NOT NULL,
  token BIGINT NOT NULL,
  holder VARCHAR(190) NOT NULL,
  began BIGINT NOT NULL,
  ended BIGINT NOT NULL,
  planned INTEGER NOT NULL,
  cause TEXT NOT NULL,
  ticks BIGINT NOT NULL,
  assignments BIGINT NOT NULL,
  KEY hostsched_terms_shard (shard, ended)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

-- A former version of this migration created the table first and its key later,
-- and may have been stopped in between.
SET @change = IF(
  (SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hostsched_terms' AND INDEX_NAME = 'hostsched_terms_shard') = 0,
  'ALTER TABLE hostsched_terms ADD KEY hostsched_terms_shard (shard, ended)',
  'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;

-- Facts about this schema. oldest is the lowest schema version whose binaries
-- can work with it.
CREATE TABLE IF NOT EXISTS hostsched_facts (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  value VARCHAR(190) NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

INSERT IGNORE INTO hostsched_facts (name, value) VALUES ('oldest', '2');

-- +goose Down
DROP TABLE IF EXISTS hostsched_facts;
DROP TABLE IF EXISTS hostsched_terms;
DROP TABLE IF EXISTS hostsched_released_labels;
DROP TABLE IF EXISTS hostsched_shard_databases;
