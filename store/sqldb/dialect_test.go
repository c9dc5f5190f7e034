package sqldb

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestServersAreToldByWhatTheyHave: the version is a text that a server may be told
// to say, so that only what it has decides.
func TestServersAreToldByWhatTheyHave(t *testing.T) {
	for name, c := range map[string]struct {
		have   serverVariables
		server string // empty if it is refused
		text   string
	}{
		"MySQL":                           {serverVariables{mysql8013: "OFF", "version": "8.0.36"}, ServerMySQL, ""},
		"MySQL 5.7":                       {serverVariables{"version": "5.7.44-log"}, "", "this is MySQL, which says that it has version 5.7.44-log"},
		"MySQL 5.7 that says 8":           {serverVariables{"version": "8.0.36"}, "", "hostsched needs MySQL 8.0.13"},
		"MySQL that says it is MariaDB":   {serverVariables{mysql8013: "OFF", "version": "10.11.6-MariaDB"}, ServerMySQL, ""},
		"MariaDB":                         {serverVariables{mariaDBOnly: "1", mariaDB103: "1", "version": "10.11.6-MariaDB"}, ServerMariaDB, ""},
		"MariaDB that says 5.7":           {serverVariables{mariaDBOnly: "1", mariaDB103: "1", "version": "5.7.44-log"}, ServerMariaDB, ""},
		"MariaDB 10.2 that says it is 11": {serverVariables{mariaDBOnly: "1", "version": "11.4.2-MariaDB"}, "", "MariaDB 10.3.4"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := mysqlDialect(c.have)
			if c.server == "" {
				require.ErrorIs(t, err, ErrServer)
				require.ErrorContains(t, err, c.text)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.server, d.Server)
		})
	}
}
