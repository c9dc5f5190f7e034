-- Version 7 stands for the next version in the test of rolling upgrades: only
-- binaries with the build tag hostsched_next know of it.

-- +goose Up
CREATE TABLE hostsched_terms_new (
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
  assignments BIGINT NOT NULL,
  binary_version VARCHAR(64) NOT NULL DEFAULT ''
);
INSERT INTO hostsched_terms_new
SELECT
  t.id, t.shard, t.epoch, t.token, t.holder, t.began, t.ended, t.planned, t.cause, t.ticks, t.assignments,
  (SELECT binary_version FROM (SELECT * FROM hostsched_terms WHERE id = t.id))
FROM
  (SELECT '' AS binary_version) AS defaults,
  (SELECT id, shard, epoch, token, holder, began, ended, planned, cause, ticks, assignments FROM hostsched_terms) AS t;
DROP TABLE hostsched_terms;
ALTER TABLE hostsched_terms_new RENAME TO hostsched_terms;
CREATE INDEX hostsched_terms_shard ON hostsched_terms (shard, ended);

-- +goose Down
-- The column goes with its table, which 00002_shards.sql drops.
