-- The tables of an Autotest frontend database (AFE) that the scheduler reads or
-- writes, for labs that have no Autotest. Columns, types and keys are those of
-- Autotest, so that its clients work on them.
--
-- Keys stand inside their tables, so that a table that is there is complete, and
-- the user needs no INDEX privilege. The row format is named because the long
-- unique keys do not fit into every format that may be a server's default. The
-- comment tells a table of ours from one that somebody else put here.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS afe_users (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `login` VARCHAR(255) DEFAULT NULL,
  `access_level` INT(11) DEFAULT 0,
  `reboot_before` SMALLINT(6) NOT NULL,
  `reboot_after` SMALLINT(6) NOT NULL,
  `show_experimental` TINYINT(1) NOT NULL DEFAULT 0,
  `drone_set_id` INT(11) DEFAULT NULL,
  UNIQUE KEY afe_users_login_unique (`login`),
  KEY afe_users_drone_set_ibfk (`drone_set_id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_acl_groups (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `name` VARCHAR(255) DEFAULT NULL,
  `description` VARCHAR(255) DEFAULT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_acl_groups_users (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `aclgroup_id` INT(11) DEFAULT NULL,
  `user_id` INT(11) DEFAULT NULL,
  UNIQUE KEY afe_acl_groups_users_acl_groups_users_both_ids (`aclgroup_id`, `user_id`),
  KEY afe_acl_groups_users_acl_groups_users_user_id (`user_id`),
  CONSTRAINT acl_groups_users_aclgroup_id_fk FOREIGN KEY (`aclgroup_id`) REFERENCES afe_acl_groups (`id`),
  CONSTRAINT acl_groups_users_user_id_fk FOREIGN KEY (`user_id`) REFERENCES afe_users (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_labels (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `name` VARCHAR(750) DEFAULT NULL,
  `kernel_config` VARCHAR(255) DEFAULT NULL,
  `platform` TINYINT(1) DEFAULT 0,
  `invalid` TINYINT(1) NOT NULL,
  `only_if_needed` TINYINT(1) NOT NULL,
  `atomic_group_id` INT(11) DEFAULT NULL,
  UNIQUE KEY afe_labels_name (`name`),
  KEY afe_labels_atomic_group_id (`atomic_group_id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_static_labels (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `name` VARCHAR(750) DEFAULT NULL,
  `kernel_config` VARCHAR(255) DEFAULT NULL,
  `platform` TINYINT(1) DEFAULT 0,
  `invalid` TINYINT(1) NOT NULL,
  `only_if_needed` TINYINT(1) NOT NULL,
  `atomic_group_id` INT(11) DEFAULT NULL,
  UNIQUE KEY afe_static_labels_name (`name`),
  KEY afe_static_labels_atomic_group_id (`atomic_group_id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_replaced_labels (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `label_id` INT(11) DEFAULT NULL,
  UNIQUE KEY afe_replaced_labels_label_id (`label_id`),
  CONSTRAINT afe_replaced_labels_ibfk_1 FOREIGN KEY (`label_id`) REFERENCES afe_labels (`id`) ON DELETE CASCADE
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_shards (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `hostname` VARCHAR(255) NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_shards_labels (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `shard_id` INT(11) NOT NULL,
  `label_id` INT(11) NOT NULL,
  UNIQUE KEY afe_shards_labels_shard_label_id_uc (`label_id`),
  KEY afe_shards_labels_shard_shard_id_fk (`shard_id`),
  CONSTRAINT shard_label_id_fk FOREIGN KEY (`label_id`) REFERENCES afe_labels (`id`),
  CONSTRAINT shard_shard_id_fk FOREIGN KEY (`shard_id`) REFERENCES afe_shards (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_hosts (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `hostname` VARCHAR(255) DEFAULT NULL,
  `locked` TINYINT(1) DEFAULT 0,
  `synch_id` INT(11) DEFAULT NULL,
  `status` VARCHAR(255) DEFAULT NULL,
  `invalid` TINYINT(1) DEFAULT 0,
  `protection` INT(11) NOT NULL,
  `locked_by_id` INT(11) DEFAULT NULL,
  `lock_time` DATETIME DEFAULT NULL,
  `dirty` TINYINT(1) NOT NULL,
  `leased` TINYINT(1) NOT NULL DEFAULT 1,
  `shard_id` INT(11) DEFAULT NULL,
  `lock_reason` TEXT,
  KEY afe_hosts_hosts_locked_by_fk (`locked_by_id`),
  KEY afe_hosts_leased_hosts (`leased`, `locked`),
  KEY afe_hosts_hosts_to_shard_ibfk (`shard_id`),
  CONSTRAINT hosts_locked_by_fk FOREIGN KEY (`locked_by_id`) REFERENCES afe_users (`id`),
  CONSTRAINT hosts_to_shard_ibfk FOREIGN KEY (`shard_id`) REFERENCES afe_shards (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_acl_groups_hosts (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `aclgroup_id` INT(11) DEFAULT NULL,
  `host_id` INT(11) DEFAULT NULL,
  UNIQUE KEY afe_acl_groups_hosts_acl_groups_hosts_both_ids (`aclgroup_id`, `host_id`),
  KEY afe_acl_groups_hosts_acl_groups_hosts_host_id (`host_id`),
  CONSTRAINT acl_groups_hosts_aclgroup_id_fk FOREIGN KEY (`aclgroup_id`) REFERENCES afe_acl_groups (`id`),
  CONSTRAINT acl_groups_hosts_host_id_fk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_hosts_labels (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `host_id` INT(11) DEFAULT NULL,
  `label_id` INT(11) DEFAULT NULL,
  UNIQUE KEY afe_hosts_labels_hosts_labels_both_ids (`label_id`, `host_id`),
  KEY afe_hosts_labels_hosts_labels_host_id (`host_id`),
  CONSTRAINT hosts_labels_host_id_fk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`),
  CONSTRAINT hosts_labels_label_id_fk FOREIGN KEY (`label_id`) REFERENCES afe_labels (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_static_hosts_labels (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `host_id` INT(11) DEFAULT NULL,
  `staticlabel_id` INT(11) DEFAULT NULL,
  UNIQUE KEY afe_static_hosts_labels_hosts_labels_both_ids (`staticlabel_id`, `host_id`),
  KEY afe_static_hosts_labels_hosts_labels_host_id (`host_id`),
  CONSTRAINT static_hosts_labels_host_id_fk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`),
  CONSTRAINT static_hosts_labels_label_id_fk FOREIGN KEY (`staticlabel_id`) REFERENCES afe_static_labels (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_jobs (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `owner` VARCHAR(255) DEFAULT NULL,
  `name` VARCHAR(255) DEFAULT NULL,
  `priority` INT(11) DEFAULT NULL,
  `control_file` TEXT,
  `control_type` INT(11) DEFAULT NULL,
  `created_on` DATETIME DEFAULT NULL,
  `synch_count` INT(11) NOT NULL,
  `timeout` INT(11) NOT NULL,
  `run_verify` TINYINT(1) DEFAULT 1,
  `email_list` VARCHAR(250) NOT NULL,
  `reboot_before` SMALLINT(6) NOT NULL,
  `reboot_after` SMALLINT(6) NOT NULL,
  `parse_failed_repair` TINYINT(1) NOT NULL DEFAULT 1,
  `max_runtime_hrs` INT(11) NOT NULL,
  `drone_set_id` INT(11) DEFAULT NULL,
  `parameterized_job_id` INT(11) DEFAULT NULL,
  `max_runtime_mins` INT(11) NOT NULL,
  `parent_job_id` INT(11) DEFAULT NULL,
  `test_retry` INT(11) NOT NULL DEFAULT 0,
  `run_reset` SMALLINT(6) NOT NULL DEFAULT 1,
  `timeout_mins` INT(11) NOT NULL,
  `shard_id` INT(11) DEFAULT NULL,
  `require_ssp` TINYINT(1) DEFAULT NULL,
  KEY afe_jobs_drone_set_ibfk (`drone_set_id`),
  KEY afe_jobs_parameterized_job_ibfk (`parameterized_job_id`),
  KEY afe_jobs_created_on (`created_on`),
  KEY afe_jobs_parent_job_id_index (`parent_job_id`),
  KEY afe_jobs_owner_index (`owner`),
  KEY afe_jobs_jobs_to_shard_ibfk (`shard_id`),
  KEY afe_jobs_name_index (`name`),
  CONSTRAINT jobs_to_shard_ibfk FOREIGN KEY (`shard_id`) REFERENCES afe_shards (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_jobs_dependency_labels (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `job_id` INT(11) NOT NULL,
  `label_id` INT(11) NOT NULL,
  UNIQUE KEY afe_jobs_dependency_labels_job_id (`job_id`, `label_id`),
  KEY afe_jobs_dependency_labels_jobs_dependency_labels_label_id_f (`label_id`),
  CONSTRAINT jobs_dependency_labels_job_id_fk FOREIGN KEY (`job_id`) REFERENCES afe_jobs (`id`),
  CONSTRAINT jobs_dependency_labels_label_id_fk FOREIGN KEY (`label_id`) REFERENCES afe_labels (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_job_keyvals (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `job_id` INT(11) NOT NULL,
  `key` VARCHAR(90) NOT NULL,
  `value` VARCHAR(300) NOT NULL,
  KEY afe_job_keyvals_job_id (`job_id`),
  KEY afe_job_keyvals_key (`key`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_host_queue_entries (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `job_id` INT(11) DEFAULT NULL,
  `host_id` INT(11) DEFAULT NULL,
  `status` VARCHAR(255) DEFAULT NULL,
  `meta_host` INT(11) DEFAULT NULL,
  `active` TINYINT(1) DEFAULT 0,
  `complete` TINYINT(1) DEFAULT 0,
  `deleted` TINYINT(1) NOT NULL,
  `execution_subdir` VARCHAR(255) NOT NULL,
  `atomic_group_id` INT(11) DEFAULT NULL,
  `aborted` TINYINT(1) NOT NULL DEFAULT 0,
  `started_on` DATETIME DEFAULT NULL,
  `finished_on` DATETIME DEFAULT NULL,
  UNIQUE KEY afe_host_queue_entries_host_queue_entries_job_id_and_host_id (`job_id`, `host_id`),
  KEY afe_host_queue_entries_host_queue_entries_host_id (`host_id`),
  KEY afe_host_queue_entries_host_queue_entries_meta_host (`meta_host`),
  KEY afe_host_queue_entries_atomic_group_id (`atomic_group_id`),
  KEY afe_host_queue_entries_host_queue_entries_host_active (`host_id`, `active`),
  KEY afe_host_queue_entries_host_queue_entry_status (`status`),
  KEY afe_host_queue_entries_host_queue_entries_abort_incomplete (`aborted`, `complete`),
  KEY afe_host_queue_entries_active (`active`),
  KEY afe_host_queue_entries_complete (`complete`),
  KEY afe_host_queue_entries_deleted (`deleted`),
  KEY afe_host_queue_entries_aborted (`aborted`),
  KEY afe_host_queue_entries_started_on (`started_on`),
  KEY afe_host_queue_entries_finished_on (`finished_on`),
  KEY afe_host_queue_entries_job_id (`job_id`),
  CONSTRAINT host_queue_entries_host_id_fk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`),
  CONSTRAINT host_queue_entries_job_id_fk FOREIGN KEY (`job_id`) REFERENCES afe_jobs (`id`),
  CONSTRAINT host_queue_entries_meta_host_fk FOREIGN KEY (`meta_host`) REFERENCES afe_labels (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_ineligible_host_queues (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `job_id` INT(11) DEFAULT NULL,
  `host_id` INT(11) DEFAULT NULL,
  UNIQUE KEY afe_ineligible_host_queues_ineligible_host_queues_both_ids (`host_id`, `job_id`),
  KEY afe_ineligible_host_queues_ineligible_host_queues_job_id (`job_id`),
  CONSTRAINT ineligible_host_queues_host_id_fk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`),
  CONSTRAINT ineligible_host_queues_job_id_fk FOREIGN KEY (`job_id`) REFERENCES afe_jobs (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS afe_special_tasks (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `host_id` INT(11) NOT NULL,
  `task` VARCHAR(64) NOT NULL,
  `time_requested` DATETIME NOT NULL,
  `is_active` TINYINT(1) NOT NULL DEFAULT 0,
  `is_complete` TINYINT(1) NOT NULL DEFAULT 0,
  `time_started` DATETIME DEFAULT NULL,
  `queue_entry_id` INT(11) DEFAULT NULL,
  `success` TINYINT(1) NOT NULL DEFAULT 0,
  `requested_by_id` INT(11) NOT NULL,
  `is_aborted` TINYINT(1) NOT NULL DEFAULT 0,
  `time_finished` DATETIME DEFAULT NULL,
  KEY afe_special_tasks_special_tasks_host_id (`host_id`),
  KEY afe_special_tasks_special_tasks_host_queue_entry_id (`queue_entry_id`),
  KEY afe_special_tasks_special_tasks_requested_by_id (`requested_by_id`),
  KEY afe_special_tasks_special_tasks_active_complete (`is_active`, `is_complete`),
  CONSTRAINT special_tasks_requested_by_id FOREIGN KEY (`requested_by_id`) REFERENCES afe_users (`id`),
  CONSTRAINT special_tasks_to_host_queue_entries_ibfk FOREIGN KEY (`queue_entry_id`) REFERENCES afe_host_queue_entries (`id`),
  CONSTRAINT special_tasks_to_hosts_ibfk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS servers (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `hostname` VARCHAR(128) NOT NULL,
  `cname` VARCHAR(128) DEFAULT NULL,
  `status` VARCHAR(128) DEFAULT NULL,
  `date_created` DATETIME DEFAULT NULL,
  `date_modified` TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
  `note` TEXT,
  UNIQUE KEY servers_hostname_UNIQUE (`hostname`),
  UNIQUE KEY servers_cname_UNIQUE (`cname`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

CREATE TABLE IF NOT EXISTS server_roles (
  `id` INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY,
  `server_id` INT(11) DEFAULT NULL,
  `role` VARCHAR(128) DEFAULT NULL,
  KEY server_roles_fk_server_roles_server_idx (`server_id`),
  CONSTRAINT fk_server_roles_server FOREIGN KEY (`server_id`) REFERENCES servers (`id`) ON DELETE CASCADE
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COMMENT='made by hostsched';

-- +goose Down
-- Files are undone in the order of their numbers: tables of later ones that refer to these go
-- first.
DROP TABLE IF EXISTS afe_host_attributes;
DROP TABLE IF EXISTS afe_aborted_host_queue_entries;
DROP TABLE IF EXISTS server_roles;
DROP TABLE IF EXISTS servers;
DROP TABLE IF EXISTS afe_special_tasks;
DROP TABLE IF EXISTS afe_ineligible_host_queues;
DROP TABLE IF EXISTS afe_host_queue_entries;
DROP TABLE IF EXISTS afe_job_keyvals;
DROP TABLE IF EXISTS afe_jobs_dependency_labels;
DROP TABLE IF EXISTS afe_jobs;
DROP TABLE IF EXISTS afe_static_hosts_labels;
DROP TABLE IF EXISTS afe_hosts_labels;
DROP TABLE IF EXISTS afe_acl_groups_hosts;
DROP TABLE IF EXISTS afe_hosts;
DROP TABLE IF EXISTS afe_shards_labels;
DROP TABLE IF EXISTS afe_shards;
DROP TABLE IF EXISTS afe_replaced_labels;
DROP TABLE IF EXISTS afe_static_labels;
DROP TABLE IF EXISTS afe_labels;
DROP TABLE IF EXISTS afe_acl_groups_users;
DROP TABLE IF EXISTS afe_acl_groups;
DROP TABLE IF EXISTS afe_users;
