-- Version 3: a leader writes large plans over two connections, its lanes.

-- +goose NO TRANSACTION
-- +goose Up

-- Each lane has a fence row of its own, alike in all but what the lane itself
-- writes. What concerns the shard changes the rows of all lanes in one
-- statement.
SET @change = IF(
  (SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hostsched_fence' AND COLUMN_NAME = 'lane') = 0,
  'ALTER TABLE hostsched_fence ADD COLUMN lane INTEGER NOT NULL DEFAULT 0, DROP PRIMARY KEY, ADD PRIMARY KEY (shard, lane)',
  'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;

-- Version 2 knows of one row only: it cannot take over from version 3.
UPDATE hostsched_facts SET value = '3' WHERE name = 'oldest';

-- +goose Down
-- The column goes with its table, which 00001_fence.sql drops.
