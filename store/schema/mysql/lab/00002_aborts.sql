-- Tables of Autotest that the API writes: who aborted an entry, and what else is
-- known of a host.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS afe_aborted_host_queue_entries (
  `queue_entry_id` INT(11) NOT NULL PRIMARY KEY,
  `aborted_by_id` INT(11) NOT NULL,
  `aborted_on` DATETIME NOT NULL,
  KEY afe_aborted_host_queue_entries_aborted_by_id (`aborted_by_id`),
  CONSTRAINT aborted_host_queue_entries_aborted_by_id_fk FOREIGN KEY (`aborted_by_id`) REFERENCES afe_users (`id`),
  CONSTRAINT aborted_host_queue_entries_queue_entry_id_fk FOREIGN KEY (`queue_entry_id`) REFERENCES afe_host_queue_entries (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_host_attributes (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `host_id` INT(11) NOT NULL,
  `attribute` VARCHAR(90) NOT NULL,
  `value` VARCHAR(300) NOT NULL,
  KEY afe_host_attributes_host_id (`host_id`),
  KEY afe_host_attributes_attribute (`attribute`),
  CONSTRAINT afe_host_attributes_ibfk_1 FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

-- +goose Down
-- 00001_autotest.sql drops these tables first.
