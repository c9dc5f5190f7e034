-- hostsched's own tables. They stand beside Autotest's and change none of them.

-- +goose NO TRANSACTION
-- +goose Up

-- One row per shard: who may write, and since when.
CREATE TABLE IF NOT EXISTS hostsched_fence (
  shard VARCHAR(190) NOT NULL PRIMARY KEY,
  epoch BIGINT NOT NULL,
  token BIGINT NOT NULL,
  etcd_cluster VARCHAR(64) NOT NULL,
  holder VARCHAR(190) NOT NULL,
  taken_at DATETIME NOT NULL,
  ticks BIGINT NOT NULL,
  last_write VARCHAR(64) NOT NULL,
  session_id BIGINT NOT NULL,
  session_peer VARCHAR(190) NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

-- What people did by command: who, when, what, why.
CREATE TABLE IF NOT EXISTS hostsched_audit (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  at DATETIME NOT NULL,
  who VARCHAR(190) NOT NULL,
  action VARCHAR(64) NOT NULL,
  subject VARCHAR(190) NOT NULL,
  detail TEXT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4;

-- +goose Down
DROP TABLE IF EXISTS hostsched_audit;
DROP TABLE IF EXISTS hostsched_fence;
