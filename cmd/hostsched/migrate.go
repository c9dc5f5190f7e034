package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
)

func migrateCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "migrate",
		Short:   "Create, show, copy or remove hostsched's tables",
		Example: "  hostsched migrate up --database-dsn sqlite:lab.db",
	}, migrateUpCommand(), migrateStatusCommand(), migrateCopyCommand(), migrateDownCommand())
}

// onDatabase completes a command that opens the database, does its work and
// prints the state of the schema. create makes an SQLite file that is missing.
func onDatabase(cmd *cobra.Command, groups config.Groups, create bool, work func(context.Context, ops.Lab) (schema.Status, error)) *cobra.Command {
	cfg := &config.Config{}
	var out output
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd.Context(), cfg, create, func(db *store.DB) error {
			st, err := work(cmd.Context(), ops.Lab{Config: cfg, Main: admin.New(db)})
			if err != nil {
				return err
			}
			return out.write(cmd, st, func(w io.Writer) error { return schemaTable(w, st) })
		})
	}
	cfg.Bind(cmd.Flags(), groups)
	out.bind(cmd)
	return cmd
}

func schemaTable(w io.Writer, st schema.Status) error {
	t := newTable(w)
	guard := "not installed"
	if st.Guard {
		guard = "installed"
	}
	t.row("server", st.Server)
	t.row("schema", fmt.Sprintf("%d (this binary needs %d)", st.Schema, st.Wanted))
	t.row("lab tables", st.Lab)
	t.row("guard", guard)
	return t.flush()
}

func migrateUpCommand() *cobra.Command {
	var opts schema.Options
	cmd := onDatabase(&cobra.Command{
		Use: "up", Short: "Create the tables that are missing",
		Long: `Create the tables that are missing. A database with Autotest's tables only gets
hostsched's own, and the guard (a unique index that allows one active entry per
host) only with --guard. An empty database gets everything.

If it is stopped, run it again: it continues from there. It waits a few seconds
for a table that others use, then gives up and says who uses it.`,
		Example: `  hostsched migrate up --database-dsn sqlite:lab.db
  hostsched migrate up --config /etc/hostsched.yaml --guard`,
	}, config.DatabaseGroup, true, func(ctx context.Context, lab ops.Lab) (schema.Status, error) {
		return schema.Up(ctx, lab.Main.DB.DB, opts)
	})
	cmd.Flags().BoolVar(&opts.Guard, "guard", false, "install the guard index in an existing Autotest database")
	return cmd
}

func migrateStatusCommand() *cobra.Command {
	return onDatabase(&cobra.Command{
		Use: "status", Short: "Show which tables there are",
		Long: `Show which tables there are. The lab tables are "ours" if hostsched created them,
"autotest" if it did not, "none" if there are none, and "incomplete" if creating or
dropping ours was stopped: 'migrate up' or 'migrate down --lab' continues from there.`,
		Example: "  hostsched migrate status --database-dsn sqlite:lab.db -o json",
	}, config.DatabaseGroup, false, func(ctx context.Context, lab ops.Lab) (schema.Status, error) {
		return schema.ReadStatus(ctx, lab.Main.DB.DB)
	})
}

func migrateDownCommand() *cobra.Command {
	var opts schema.Options
	var yes, force bool
	cmd := onDatabase(&cobra.Command{
		Use: "down", Short: "Remove hostsched's tables",
		Long: `Remove the guard and hostsched's own tables. Autotest's tables are never touched;
tables of a lab that hostsched created go with --lab, and all their rows with
them. If it is stopped, run it again. While somebody leads a shard in the database,
or etcd does not say whether, it is refused without --force.`,
		Example: "  hostsched migrate down --database-dsn sqlite:lab.db --yes",
	}, config.DatabaseGroup|config.EtcdGroup, false, func(ctx context.Context, lab ops.Lab) (schema.Status, error) {
		if !yes {
			return schema.Status{}, fmt.Errorf("%w: this drops tables of %s; say --yes if it is meant", errUsage, lab.Main.Target())
		}
		if !force {
			if err := withEtcd(lab.Config, func(client *clientv3.Client) error { return lab.RequireNoLeader(ctx, client) }); err != nil {
				return schema.Status{}, err
			}
		}
		return schema.Down(ctx, lab.Main.DB.DB, opts)
	})
	cmd.Flags().BoolVar(&opts.Lab, "lab", false, "also drop the lab's tables, if hostsched created them")
	cmd.Flags().BoolVar(&yes, "yes", false, "drop without asking")
	cmd.Flags().BoolVar(&force, "force", false, "drop even if somebody leads a shard")
	return cmd
}
