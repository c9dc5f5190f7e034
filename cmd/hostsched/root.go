package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Exit codes.
const (
	exitOK = 0
	// exitFailed: the command could not do its work.
	exitFailed = 1
	// exitInput: the command line, the configuration or the database it points
	// at do not fit. Nothing was started and nothing was written.
	exitInput = 2
)

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if err.Error() == "" {
		return exitCode(err)
	}
	// One line, whatever it is made of.
	fmt.Fprintln(stderr, "hostsched:", strings.Join(strings.Split(err.Error(), "\n"), "; "))
	return exitCode(err)
}

// errUsage is a mistake on the command line.
var errUsage = errors.New("usage")

func exitCode(err error) int {
	var c coded
	if errors.As(err, &c) {
		return c.code
	}
	for _, input := range []error{errUsage, config.ErrConfig, sqldb.ErrDSN, sqldb.ErrNotLocal, sqldb.ErrSchema, sqldb.ErrPrivilege, sqldb.ErrUnreachable, admin.ErrInput, store.ErrNoShard} {
		if errors.Is(err, input) {
			return exitInput
		}
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "hostsched",
		Short: "Highly available host scheduler for hardware test labs",
		Long: `hostsched gives hosts (devices under test) to queue entries, by labels, ACLs,
priority and every suite's guaranteed minimum of hosts, and takes them back when
they are unused. Several replicas campaign in etcd; the winner schedules, and the
database refuses everybody else.

Exit codes: 0 done, 1 failed, 2 bad input (nothing was started or written).`,
		Example: `  hostsched dev                                  # a simulated lab with three replicas
  hostsched migrate up --database-dsn sqlite:lab.db
  hostsched server --config /etc/hostsched.yaml`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w; see '%s --help'", errUsage, err, cmd.CommandPath())
	})
	root.AddCommand(serverCommand(), migrateCommand(), planCommand(), auditCommand(), fenceCommand(), clusterCommand(), shardCommand(), devCommand())
	return root
}

// noArgs refuses arguments that would otherwise be ignored.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: unknown argument %q; see '%s --help'", errUsage, args[0], cmd.CommandPath())
	}
	return nil
}

// version is the module's version and the commit it was built from, as far as
// the build recorded them.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v += " " + s.Value[:12]
		}
	}
	return v
}

// withDatabase loads the configuration, opens the database, does the work and
// closes the database again.
func withDatabase(ctx context.Context, cfg *config.Config, create bool, work func(*store.DB) error) error {
	if err := cfg.Load(); err != nil {
		return err
	}
	open := cfg.Store()
	open.Create = create
	db, err := store.Open(ctx, open)
	if err != nil {
		return err
	}
	return errors.Join(work(db), db.Close())
}

// Output formats of commands that print facts.
const (
	outputTable = "table"
	outputWide  = "wide"
	outputJSON  = "json"
)

// addOutputFlag adds --output with table and json, and more if a command has
// them.
func addOutputFlag(cmd *cobra.Command, output *string, more ...string) {
	formats := append([]string{outputTable}, append(more, outputJSON)...)
	cmd.Flags().StringVarP(output, "output", "o", outputTable, "output format: "+strings.Join(formats, ", "))
	// The flag exists, so this cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// write prints a value as JSON, or by its table function, which knows whether it
// should be wide.
func write(cmd *cobra.Command, output string, v any, table func(io.Writer) error) error {
	switch output {
	case outputTable, outputWide:
		return table(cmd.OutOrStdout())
	case outputJSON:
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	return fmt.Errorf("%w: output format %q; it must be table or json", errUsage, output)
}
