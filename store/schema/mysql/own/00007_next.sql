-- Version 7 stands for the next version in the test of rolling upgrades: only
-- binaries with the build tag hostsched_next know of it.

-- +goose NO TRANSACTION
-- +goose Up
SET @change = IF(
  (SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hostsched_terms' AND COLUMN_NAME = 'binary_version') = 0,
  'ALTER TABLE hostsched_terms ADD COLUMN binary_version VARCHAR(64) NOT NULL DEFAULT ''''',
  'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;

-- +goose Down
-- The column goes with its table, which 00002_shards.sql drops.
