-- Version 4: a shard belongs to one cluster, the installation of hostsched that leads it.

-- +goose NO TRANSACTION
-- +goose Up

-- Two installations on one database would fence each other again and again, each under
-- leaders' keys of its own. The name is empty as long as no leader of this version or a
-- later one has taken the shard over: version 3 neither reads nor writes it.
SET @change = IF(
  (SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'hostsched_fence' AND COLUMN_NAME = 'cluster_name') = 0,
  'ALTER TABLE hostsched_fence ADD COLUMN cluster_name VARCHAR(190) NOT NULL DEFAULT ''''',
  'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;

-- +goose Down
-- The column goes with its table, which 00001_fence.sql drops.
