-- Tables of Autotest that the API writes: who aborted an entry, and what else is
-- known of a host.

-- +goose Up
CREATE TABLE IF NOT EXISTS afe_aborted_host_queue_entries (
  `queue_entry_id` INTEGER NOT NULL PRIMARY KEY,
  `aborted_by_id` INTEGER NOT NULL,
  `aborted_on` DATETIME NOT NULL,
  CONSTRAINT aborted_host_queue_entries_aborted_by_id_fk FOREIGN KEY (`aborted_by_id`) REFERENCES afe_users (`id`),
  CONSTRAINT aborted_host_queue_entries_queue_entry_id_fk FOREIGN KEY (`queue_entry_id`) REFERENCES afe_host_queue_entries (`id`)
);
CREATE INDEX IF NOT EXISTS afe_aborted_host_queue_entries_aborted_by_id ON afe_aborted_host_queue_entries (`aborted_by_id`);

CREATE TABLE IF NOT EXISTS afe_host_attributes (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `host_id` INTEGER NOT NULL,
  `attribute` VARCHAR(90) COLLATE NOCASE NOT NULL,
  `value` VARCHAR(300) COLLATE NOCASE NOT NULL,
  CONSTRAINT afe_host_attributes_ibfk_1 FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`)
);
CREATE INDEX IF NOT EXISTS afe_host_attributes_host_id ON afe_host_attributes (`host_id`);
CREATE INDEX IF NOT EXISTS afe_host_attributes_attribute ON afe_host_attributes (`attribute`);

-- +goose Down
-- 00001_autotest.sql drops these tables first.
