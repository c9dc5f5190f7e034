package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/app"
	"github.com/hostsched/hostsched/internal/config"
)

func serveCommand() *cobra.Command {
	cfg := &config.Config{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one replica against etcd and a database",
		Long: `Run one replica. It campaigns in etcd for the shards that it should lead; the
winner schedules, the others wait and take over when it resigns, dies or is cut
off.

Every shard in afe_shards, and the master, is served. With --shard only that one
is, and the whole database belongs to it, as Autotest has it.

Every setting has one key: nested in the YAML file (etcd.endpoints), as a flag
(--etcd-endpoints) and in the environment (HOSTSCHED_ETCD_ENDPOINTS). Flags beat
the environment, the environment beats the file. Passwords come from the
environment or from a file.

A lab that runs Autotest points --autotest-config at the folder of its
global_config.ini and shadow_config.ini; what is taken from them is printed. Our
own settings win.

A database or an etcd that is away is waited for. What is wrong with the
configuration or the database ends the process with exit code 2.

SIGINT and SIGTERM finish the running apply and hand the shard over; a second
signal ends the process at once. SIGHUP reads the configuration again: log.level
takes effect, and the log says which changes need a restart.`,
		Example: `  hostsched serve --config /etc/hostsched.yaml

  HOSTSCHED_DATABASE_PASSWORD=... hostsched serve \
    --etcd-endpoints http://10.0.0.1:2379,http://10.0.0.2:2379 \
    --database-dsn 'scheduler@tcp(db.lab:3306)/chromeos_autotest_db' --production`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := cfg.Load()
			if errors.Is(err, config.ErrInline) {
				// As the original does: say so and end well.
				return line(cmd.ErrOrStderr(), "hostsched: %s", oneLine(err))
			}
			if err != nil {
				return err
			}
			return runReplica(cmd, cfg)
		},
	}
	cfg.Bind(cmd.Flags(), config.AllGroups)
	return cmd
}

// runReplica runs a replica until it ends by itself or a signal comes.
func runReplica(cmd *cobra.Command, cfg *config.Config) error {
	if err := cfg.PrintTaken(cmd.ErrOrStderr()); err != nil {
		return err
	}
	log := cfg.Logger(cmd.ErrOrStderr())
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	replica, err := app.New(app.Options{Config: cfg, Version: version(), Log: log, Out: cmd.OutOrStdout()})
	if err != nil {
		return err
	}
	ctx, release := untilSignalled(cmd.Context())
	defer release()
	if err := replica.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	for running := true; running; {
		select {
		case <-replica.Done():
			return replica.Err()
		case <-hangups:
			reload(cfg, log)
			replica.LookAtFiles()
		case <-ctx.Done():
			running = false
		}
	}
	log.Info("stopping: finishing the tick and handing over", "reason", context.Cause(ctx))
	return replica.Stop(context.WithoutCancel(ctx))
}

// reload does what can be done with a changed configuration without a restart. The
// end of a terminal also sends SIGHUP, so it never ends the process.
func reload(cfg *config.Config, log hclog.Logger) {
	afterRestart, err := cfg.Reload(log)
	if err != nil {
		log.Error("the configuration was not read again", "error", err)
		return
	}
	log.Warn("the configuration was read again; files with passwords and certificates are read whenever they are needed", "log.level", log.GetLevel(), "changed but takes effect after a restart", afterRestart)
}
