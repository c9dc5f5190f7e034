-- Version 4: a shard belongs to one cluster, the installation of hostsched that leads it.

-- +goose Up

-- Two installations on one database would fence each other again and again, each under
-- leaders' keys of its own. The name is empty as long as no leader of this version or a
-- later one has taken the shard over: version 3 neither reads nor writes it. The fence is
-- rebuilt, as in 00002_shards.sql, in case that the column is there.
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
  lane INTEGER NOT NULL DEFAULT 0,
  cluster_name VARCHAR(190) NOT NULL DEFAULT ''
);
INSERT INTO hostsched_fence_new
SELECT
  f.shard, f.epoch, f.token, f.etcd_cluster, f.holder, f.taken_at, f.ticks, f.last_write, f.session_id, f.session_peer,
  f.shard_id, f.layout, f.pause_reason, f.paused_by, f.paused_at, f.lane,
  (SELECT cluster_name FROM (SELECT * FROM hostsched_fence WHERE shard = f.shard))
FROM
  (SELECT '' AS cluster_name) AS defaults,
  (SELECT shard, epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer, shard_id, layout, pause_reason, paused_by, paused_at, lane FROM hostsched_fence) AS f;
DROP TABLE hostsched_fence;
ALTER TABLE hostsched_fence_new RENAME TO hostsched_fence;

-- +goose Down
-- The column goes with its table, which 00001_fence.sql drops.
