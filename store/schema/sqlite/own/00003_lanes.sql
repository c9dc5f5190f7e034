-- Version 3: a leader writes large plans over several connections, its lanes.
-- On SQLite, which has one writer, there is one lane, and so the primary key
-- stays as it is.

-- +goose Up

-- The fence is rebuilt, as in 00002_shards.sql, in case that the column is there.
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
  paused_at BIGINT NOT NULL DEFAULT 0,
  lane INTEGER NOT NULL DEFAULT 0
);
INSERT INTO hostsched_fence_new
SELECT
  shard, epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer,
  shard_id, layout, pause_reason, paused_by, paused_at, 0
FROM hostsched_fence;
DROP TABLE hostsched_fence;
ALTER TABLE hostsched_fence_new RENAME TO hostsched_fence;

-- Version 2 knows of one row only: it cannot take over from version 3.
UPDATE hostsched_facts SET value = '3' WHERE name = 'oldest';

-- +goose Down
-- The column goes with its table, which 00001_fence.sql drops.
