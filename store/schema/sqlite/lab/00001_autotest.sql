-- The tables of an Autotest frontend database (AFE) that the scheduler reads or
-- writes, for labs that have no Autotest. Columns, types and keys are those of
-- Autotest, so that its clients work on them.
--
-- Text compares without regard to case, as it does by default on MySQL.

-- +goose Up
CREATE TABLE IF NOT EXISTS afe_users (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `login` VARCHAR(255) COLLATE NOCASE DEFAULT NULL,
  `access_level` INT(11) DEFAULT 0,
  `reboot_before` SMALLINT(6) NOT NULL,
  `reboot_after` SMALLINT(6) NOT NULL,
  `show_experimental` TINYINT(1) NOT NULL DEFAULT 0,
  `drone_set_id` INT(11) DEFAULT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_users_login_unique ON afe_users (`login`);
CREATE INDEX IF NOT EXISTS afe_users_drone_set_ibfk ON afe_users (`drone_set_id`);

CREATE TABLE IF NOT EXISTS afe_acl_groups (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `name` VARCHAR(255) COLLATE NOCASE DEFAULT NULL,
  `description` VARCHAR(255) COLLATE NOCASE DEFAULT NULL
);

CREATE TABLE IF NOT EXISTS afe_acl_groups_users (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `aclgroup_id` INT(11) DEFAULT NULL,
  `user_id` INT(11) DEFAULT NULL,
  CONSTRAINT acl_groups_users_aclgroup_id_fk FOREIGN KEY (`aclgroup_id`) REFERENCES afe_acl_groups (`id`),
  CONSTRAINT acl_groups_users_user_id_fk FOREIGN KEY (`user_id`) REFERENCES afe_users (`id`)
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_acl_groups_users_acl_groups_users_both_ids ON afe_acl_groups_users (`aclgroup_id`, `user_id`);
CREATE INDEX IF NOT EXISTS afe_acl_groups_users_acl_groups_users_user_id ON afe_acl_groups_users (`user_id`);

CREATE TABLE IF NOT EXISTS afe_labels (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `name` VARCHAR(750) COLLATE NOCASE DEFAULT NULL,
  `kernel_config` VARCHAR(255) COLLATE NOCASE DEFAULT NULL,
  `platform` TINYINT(1) DEFAULT 0,
  `invalid` TINYINT(1) NOT NULL,
  `only_if_needed` TINYINT(1) NOT NULL,
  `atomic_group_id` INT(11) DEFAULT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_labels_name ON afe_labels (`name`);
CREATE INDEX IF NOT EXISTS afe_labels_atomic_group_id ON afe_labels (`atomic_group_id`);

CREATE TABLE IF NOT EXISTS afe_static_labels (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `name` VARCHAR(750) COLLATE NOCASE DEFAULT NULL,
  `kernel_config` VARCHAR(255) COLLATE NOCASE DEFAULT NULL,
  `platform` TINYINT(1) DEFAULT 0,
  `invalid` TINYINT(1) NOT NULL,
  `only_if_needed` TINYINT(1) NOT NULL,
  `atomic_group_id` INT(11) DEFAULT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_static_labels_name ON afe_static_labels (`name`);
CREATE INDEX IF NOT EXISTS afe_static_labels_atomic_group_id ON afe_static_labels (`atomic_group_id`);

CREATE TABLE IF NOT EXISTS afe_replaced_labels (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `label_id` INT(11) DEFAULT NULL,
  CONSTRAINT afe_replaced_labels_ibfk_1 FOREIGN KEY (`label_id`) REFERENCES afe_labels (`id`) ON DELETE CASCADE
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_replaced_labels_label_id ON afe_replaced_labels (`label_id`);

CREATE TABLE IF NOT EXISTS afe_shards (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `hostname` VARCHAR(255) COLLATE NOCASE NOT NULL
);

CREATE TABLE IF NOT EXISTS afe_shards_labels (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `shard_id` INT(11) NOT NULL,
  `label_id` INT(11) NOT NULL,
  CONSTRAINT shard_label_id_fk FOREIGN KEY (`label_id`) REFERENCES afe_labels (`id`),
  CONSTRAINT shard_shard_id_fk FOREIGN KEY (`shard_id`) REFERENCES afe_shards (`id`)
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_shards_labels_shard_label_id_uc ON afe_shards_labels (`label_id`);
CREATE INDEX IF NOT EXISTS afe_shards_labels_shard_shard_id_fk ON afe_shards_labels (`shard_id`);

CREATE TABLE IF NOT EXISTS afe_hosts (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `hostname` VARCHAR(255) COLLATE NOCASE DEFAULT NULL,
  `locked` TINYINT(1) DEFAULT 0,
  `synch_id` INT(11) DEFAULT NULL,
  `status` VARCHAR(255) COLLATE NOCASE DEFAULT NULL,
  `invalid` TINYINT(1) DEFAULT 0,
  `protection` INT(11) NOT NULL,
  `locked_by_id` INT(11) DEFAULT NULL,
  `lock_time` DATETIME DEFAULT NULL,
  `dirty` TINYINT(1) NOT NULL,
  `leased` TINYINT(1) NOT NULL DEFAULT 1,
  `shard_id` INT(11) DEFAULT NULL,
  `lock_reason` TEXT COLLATE NOCASE,
  CONSTRAINT hosts_locked_by_fk FOREIGN KEY (`locked_by_id`) REFERENCES afe_users (`id`),
  CONSTRAINT hosts_to_shard_ibfk FOREIGN KEY (`shard_id`) REFERENCES afe_shards (`id`)
);
CREATE INDEX IF NOT EXISTS afe_hosts_hosts_locked_by_fk ON afe_hosts (`locked_by_id`);
CREATE INDEX IF NOT EXISTS afe_hosts_leased_hosts ON afe_hosts (`leased`, `locked`);
CREATE INDEX IF NOT EXISTS afe_hosts_hosts_to_shard_ibfk ON afe_hosts (`shard_id`);

CREATE TABLE IF NOT EXISTS afe_acl_groups_hosts (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `aclgroup_id` INT(11) DEFAULT NULL,
  `host_id` INT(11) DEFAULT NULL,
  CONSTRAINT acl_groups_hosts_aclgroup_id_fk FOREIGN KEY (`aclgroup_id`) REFERENCES afe_acl_groups (`id`),
  CONSTRAINT acl_groups_hosts_host_id_fk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`)
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_acl_groups_hosts_acl_groups_hosts_both_ids ON afe_acl_groups_hosts (`aclgroup_id`, `host_id`);
CREATE INDEX IF NOT EXISTS afe_acl_groups_hosts_acl_groups_hosts_host_id ON afe_acl_groups_hosts (`host_id`);

CREATE TABLE IF NOT EXISTS afe_hosts_labels (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `host_id` INT(11) DEFAULT NULL,
  `label_id` INT(11) DEFAULT NULL,
  CONSTRAINT hosts_labels_host_id_fk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`),
  CONSTRAINT hosts_labels_label_id_fk FOREIGN KEY (`label_id`) REFERENCES afe_labels (`id`)
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_hosts_labels_hosts_labels_both_ids ON afe_hosts_labels (`label_id`, `host_id`);
CREATE INDEX IF NOT EXISTS afe_hosts_labels_hosts_labels_host_id ON afe_hosts_labels (`host_id`);

CREATE TABLE IF NOT EXISTS afe_static_hosts_labels (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `host_id` INT(11) DEFAULT NULL,
  `staticlabel_id` INT(11) DEFAULT NULL,
  CONSTRAINT static_hosts_labels_host_id_fk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`),
  CONSTRAINT static_hosts_labels_label_id_fk FOREIGN KEY (`staticlabel_id`) REFERENCES afe_static_labels (`id`)
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_static_hosts_labels_hosts_labels_both_ids ON afe_static_hosts_labels (`staticlabel_id`, `host_id`);
CREATE INDEX IF NOT EXISTS afe_static_hosts_labels_hosts_labels_host_id ON afe_static_hosts_labels (`host_id`);

CREATE TABLE IF NOT EXISTS afe_jobs (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `owner` VARCHAR(255) COLLATE NOCASE DEFAULT NULL,
  `name` VARCHAR(255) COLLATE NOCASE DEFAULT NULL,
  `priority` INT(11) DEFAULT NULL,
  `control_file` TEXT COLLATE NOCASE,
  `control_type` INT(11) DEFAULT NULL,
  `created_on` DATETIME DEFAULT NULL,
  `synch_count` INT(11) NOT NULL,
  `timeout` INT(11) NOT NULL,
  `run_verify` TINYINT(1) DEFAULT 1,
  `email_list` VARCHAR(250) COLLATE NOCASE NOT NULL,
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
  CONSTRAINT jobs_to_shard_ibfk FOREIGN KEY (`shard_id`) REFERENCES afe_shards (`id`)
);
CREATE INDEX IF NOT EXISTS afe_jobs_drone_set_ibfk ON afe_jobs (`drone_set_id`);
CREATE INDEX IF NOT EXISTS afe_jobs_parameterized_job_ibfk ON afe_jobs (`parameterized_job_id`);
CREATE INDEX IF NOT EXISTS afe_jobs_created_on ON afe_jobs (`created_on`);
CREATE INDEX IF NOT EXISTS afe_jobs_parent_job_id_index ON afe_jobs (`parent_job_id`);
CREATE INDEX IF NOT EXISTS afe_jobs_owner_index ON afe_jobs (`owner`);
CREATE INDEX IF NOT EXISTS afe_jobs_jobs_to_shard_ibfk ON afe_jobs (`shard_id`);
CREATE INDEX IF NOT EXISTS afe_jobs_name_index ON afe_jobs (`name`);

CREATE TABLE IF NOT EXISTS afe_jobs_dependency_labels (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `job_id` INT(11) NOT NULL,
  `label_id` INT(11) NOT NULL,
  CONSTRAINT jobs_dependency_labels_job_id_fk FOREIGN KEY (`job_id`) REFERENCES afe_jobs (`id`),
  CONSTRAINT jobs_dependency_labels_label_id_fk FOREIGN KEY (`label_id`) REFERENCES afe_labels (`id`)
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_jobs_dependency_labels_job_id ON afe_jobs_dependency_labels (`job_id`, `label_id`);
CREATE INDEX IF NOT EXISTS afe_jobs_dependency_labels_jobs_dependency_labels_label_id_f ON afe_jobs_dependency_labels (`label_id`);

CREATE TABLE IF NOT EXISTS afe_job_keyvals (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `job_id` INT(11) NOT NULL,
  `key` VARCHAR(90) COLLATE NOCASE NOT NULL,
  `value` VARCHAR(300) COLLATE NOCASE NOT NULL
);
CREATE INDEX IF NOT EXISTS afe_job_keyvals_job_id ON afe_job_keyvals (`job_id`);
CREATE INDEX IF NOT EXISTS afe_job_keyvals_key ON afe_job_keyvals (`key`);

CREATE TABLE IF NOT EXISTS afe_host_queue_entries (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `job_id` INT(11) DEFAULT NULL,
  `host_id` INT(11) DEFAULT NULL,
  `status` VARCHAR(255) COLLATE NOCASE DEFAULT NULL,
  `meta_host` INT(11) DEFAULT NULL,
  `active` TINYINT(1) DEFAULT 0,
  `complete` TINYINT(1) DEFAULT 0,
  `deleted` TINYINT(1) NOT NULL,
  `execution_subdir` VARCHAR(255) COLLATE NOCASE NOT NULL,
  `atomic_group_id` INT(11) DEFAULT NULL,
  `aborted` TINYINT(1) NOT NULL DEFAULT 0,
  `started_on` DATETIME DEFAULT NULL,
  `finished_on` DATETIME DEFAULT NULL,
  CONSTRAINT host_queue_entries_host_id_fk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`),
  CONSTRAINT host_queue_entries_job_id_fk FOREIGN KEY (`job_id`) REFERENCES afe_jobs (`id`),
  CONSTRAINT host_queue_entries_meta_host_fk FOREIGN KEY (`meta_host`) REFERENCES afe_labels (`id`)
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_host_queue_entries_host_queue_entries_job_id_and_host_id ON afe_host_queue_entries (`job_id`, `host_id`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_host_queue_entries_host_id ON afe_host_queue_entries (`host_id`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_host_queue_entries_meta_host ON afe_host_queue_entries (`meta_host`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_atomic_group_id ON afe_host_queue_entries (`atomic_group_id`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_host_queue_entries_host_active ON afe_host_queue_entries (`host_id`, `active`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_host_queue_entry_status ON afe_host_queue_entries (`status`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_host_queue_entries_abort_incomplete ON afe_host_queue_entries (`aborted`, `complete`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_active ON afe_host_queue_entries (`active`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_complete ON afe_host_queue_entries (`complete`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_deleted ON afe_host_queue_entries (`deleted`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_aborted ON afe_host_queue_entries (`aborted`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_started_on ON afe_host_queue_entries (`started_on`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_finished_on ON afe_host_queue_entries (`finished_on`);
CREATE INDEX IF NOT EXISTS afe_host_queue_entries_job_id ON afe_host_queue_entries (`job_id`);

CREATE TABLE IF NOT EXISTS afe_ineligible_host_queues (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `job_id` INT(11) DEFAULT NULL,
  `host_id` INT(11) DEFAULT NULL,
  CONSTRAINT ineligible_host_queues_host_id_fk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`),
  CONSTRAINT ineligible_host_queues_job_id_fk FOREIGN KEY (`job_id`) REFERENCES afe_jobs (`id`)
);
CREATE UNIQUE INDEX IF NOT EXISTS afe_ineligible_host_queues_ineligible_host_queues_both_ids ON afe_ineligible_host_queues (`host_id`, `job_id`);
CREATE INDEX IF NOT EXISTS afe_ineligible_host_queues_ineligible_host_queues_job_id ON afe_ineligible_host_queues (`job_id`);

CREATE TABLE IF NOT EXISTS afe_special_tasks (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `host_id` INT(11) NOT NULL,
  `task` VARCHAR(64) COLLATE NOCASE NOT NULL,
  `time_requested` DATETIME NOT NULL,
  `is_active` TINYINT(1) NOT NULL DEFAULT 0,
  `is_complete` TINYINT(1) NOT NULL DEFAULT 0,
  `time_started` DATETIME DEFAULT NULL,
  `queue_entry_id` INT(11) DEFAULT NULL,
  `success` TINYINT(1) NOT NULL DEFAULT 0,
  `requested_by_id` INT(11) NOT NULL,
  `is_aborted` TINYINT(1) NOT NULL DEFAULT 0,
  `time_finished` DATETIME DEFAULT NULL,
  CONSTRAINT special_tasks_requested_by_id FOREIGN KEY (`requested_by_id`) REFERENCES afe_users (`id`),
  CONSTRAINT special_tasks_to_host_queue_entries_ibfk FOREIGN KEY (`queue_entry_id`) REFERENCES afe_host_queue_entries (`id`),
  CONSTRAINT special_tasks_to_hosts_ibfk FOREIGN KEY (`host_id`) REFERENCES afe_hosts (`id`)
);
CREATE INDEX IF NOT EXISTS afe_special_tasks_special_tasks_host_id ON afe_special_tasks (`host_id`);
CREATE INDEX IF NOT EXISTS afe_special_tasks_special_tasks_host_queue_entry_id ON afe_special_tasks (`queue_entry_id`);
CREATE INDEX IF NOT EXISTS afe_special_tasks_special_tasks_requested_by_id ON afe_special_tasks (`requested_by_id`);
CREATE INDEX IF NOT EXISTS afe_special_tasks_special_tasks_active_complete ON afe_special_tasks (`is_active`, `is_complete`);

CREATE TABLE IF NOT EXISTS servers (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `hostname` VARCHAR(128) COLLATE NOCASE NOT NULL,
  `cname` VARCHAR(128) COLLATE NOCASE DEFAULT NULL,
  `status` VARCHAR(128) COLLATE NOCASE DEFAULT NULL,
  `date_created` DATETIME DEFAULT NULL,
  `date_modified` TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
  `note` TEXT COLLATE NOCASE
);
CREATE UNIQUE INDEX IF NOT EXISTS servers_hostname_UNIQUE ON servers (`hostname`);
CREATE UNIQUE INDEX IF NOT EXISTS servers_cname_UNIQUE ON servers (`cname`);

CREATE TABLE IF NOT EXISTS server_roles (
  `id` INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  `server_id` INT(11) DEFAULT NULL,
  `role` VARCHAR(128) COLLATE NOCASE DEFAULT NULL,
  CONSTRAINT fk_server_roles_server FOREIGN KEY (`server_id`) REFERENCES servers (`id`) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS server_roles_fk_server_roles_server_idx ON server_roles (`server_id`);

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
