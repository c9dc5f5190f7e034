package main

import (
	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/app"
)

func serverCommand() *cobra.Command {
	cfg := &app.Config{}
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run one replica against etcd and a database",
		Long: `Run one replica. It campaigns for its shard in etcd; the winner schedules, the
others wait and take over when it resigns, dies or is cut off.

Every setting has one key: nested in the YAML file (etcd.endpoints), as a flag
(--etcd-endpoints) and in the environment (HOSTSCHED_ETCD_ENDPOINTS). Flags beat
the environment, the environment beats the file. Passwords come from the
environment or from a file.

SIGINT and SIGTERM finish the running apply and hand the shard over.`,
		Example: `  hostsched server --config /etc/hostsched.yaml

  HOSTSCHED_DATABASE_PASSWORD=... hostsched server \
    --etcd-endpoints http://10.0.0.1:2379,http://10.0.0.2:2379 \
    --database-dsn 'scheduler@tcp(db.lab:3306)/chromeos_autotest_db' --production`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(); err != nil {
				return err
			}
			return app.RunServer(cmd.Context(), cfg, version(), cmd.ErrOrStderr())
		},
	}
	cfg.Bind(cmd.Flags(), app.AllGroups)
	return cmd
}
