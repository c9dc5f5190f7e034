package testserver

import (
	"fmt"
	"maps"
	"slices"
)

// hostileDefaults are the worst values that an administrator may have given to
// everything that decides how statements act. A variable that a server does not
// know is left out.
var hostileDefaults = map[string]string{
	"autocommit":                        "0",
	"completion_type":                   "2",
	"tx_isolation":                      "'SERIALIZABLE'",
	"transaction_isolation":             "'SERIALIZABLE'",
	"tx_read_only":                      "1",
	"transaction_read_only":             "1",
	"innodb_snapshot_isolation":         "1",
	"sql_mode":                          "'ANSI,NO_BACKSLASH_ESCAPES,TRADITIONAL'",
	"sql_safe_updates":                  "1",
	"foreign_key_checks":                "0",
	"unique_checks":                     "0",
	"check_constraint_checks":           "0",
	"sql_select_limit":                  "1",
	"max_join_size":                     "1",
	"sql_big_selects":                   "0",
	"max_sort_length":                   "64",
	"sql_auto_is_null":                  "1",
	"default_storage_engine":            "MyISAM",
	"max_execution_time":                "1000",
	"max_statement_time":                "1",
	"innodb_lock_wait_timeout":          "1",
	"lock_wait_timeout":                 "1",
	"wait_timeout":                      "1",
	"idle_transaction_timeout":          "1",
	"idle_readonly_transaction_timeout": "1",
	"idle_write_transaction_timeout":    "1",
	"group_concat_max_len":              "4",
	"big_tables":                        "1",
	"character_set_server":              "'latin1'",
	"collation_server":                  "'latin1_bin'",
	"time_zone":                         "'+05:30'",
}

// harmless are the variables that tests themselves need on root's connections.
func harmless(kind Kind) string {
	const both = "?autocommit=1&completion_type=0&sql_mode=%27%27&sql_select_limit=18446744073709551615&max_join_size=18446744073709551615&sql_safe_updates=0&foreign_key_checks=1&wait_timeout=3600&lock_wait_timeout=60"
	if kind == MySQL {
		return both + "&transaction_read_only=0&max_execution_time=0"
	}
	return both + "&tx_read_only=0&max_statement_time=0"
}

// HostileDefaults gives the server that Main starts the worst defaults there are.
// Tests of a package that calls it before Main prove that our connections set
// everything themselves.
func HostileDefaults() { shared.hostile = true }

func (s *Server) beHostile() error {
	for _, name := range slices.Sorted(maps.Keys(hostileDefaults)) {
		var known int
		if err := s.admin.QueryRow("SELECT COUNT(*) FROM (SELECT 1) x WHERE @@global." + name + " IS NOT NULL").Scan(&known); err != nil {
			continue
		}
		if _, err := s.admin.Exec("SET GLOBAL " + name + " = " + hostileDefaults[name]); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}
