package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/dev"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
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
	root := newRoot(args...)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		completeSettings(root) // cobra keeps what is registered for as long as the process lives
	}
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
	// If standard error cannot be written, the exit code has to do.
	_ = line(stderr, "hostsched: %s", oneLine(err))
	return exitCode(err)
}

// oneLine is an error as people read it.
func oneLine(err error) string { return shard.OneLine(err.Error()) }

// errUsage is a mistake on the command line.
var errUsage = errors.New("usage")

func exitCode(err error) int {
	var c coded
	if errors.As(err, &c) {
		return c.code
	}
	if code, ok := apiExitCode(err); ok {
		return code
	}
	if errors.Is(err, sqldb.ErrPartly) {
		return exitFailed
	}
	for _, input := range []error{errUsage, jobspec.ErrSpec, dev.ErrOptions, config.ErrConfig, shard.ErrName, sqldb.ErrDSN, sqldb.ErrNotLocal, sqldb.ErrSchema, sqldb.ErrPrivilege, sqldb.ErrUnreachable, sqldb.ErrAccess, sqldb.ErrServer, admin.ErrInput, store.ErrNoShard, store.ErrOtherCluster, schema.ErrCopy} {
		if errors.Is(err, input) {
			return exitInput
		}
	}
	return exitFailed
}

// newRoot returns the tree of commands, or as much of it as a command line needs.
func newRoot(args ...string) *cobra.Command {
	root := &cobra.Command{
		Use:   "hostsched",
		Short: "Highly available host scheduler for hardware test labs",
		Long: `hostsched assigns hosts (devices under test) to queue entries, by labels, ACLs,
priority and every suite's guaranteed minimum of hosts, and releases them when
they are unused. Several replicas campaign in etcd; the winner schedules, and the
database refuses everybody else.

Exit codes: 0 done, 1 failed, 2 bad input (nothing was started or written); more of
them in 'hostsched help exit-codes'.`,
		Example: `  hostsched dev                                  # a lab to try: three replicas, two agents
  hostsched migrate up --database-dsn sqlite:lab.db
  hostsched serve --config /etc/hostsched.yaml`,
		Version:       version(),
		Args:          noArgs,
		RunE:          showHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(commandsFor(args)...)
	refuseUnknown(root)
	return root
}

// commandsFor makes the commands. Of those that are started for every run only the one that is
// asked for: to make all costs a third of the start of a process, and memory for as long as it lives.
func commandsFor(args []string) []*cobra.Command {
	var name string
	if len(args) > 0 {
		name = args[0]
	}
	switch name {
	case "run":
		return []*cobra.Command{ownRunCommand()}
	case guardCommandName:
		return []*cobra.Command{guardCommand()}
	case "agent":
		return []*cobra.Command{agentCommand()}
	}
	return []*cobra.Command{
		devCommand(), serveCommand(), planCommand(), checkCommand(), auditCommand(), clusterCommand(), shardCommand(), serverCommand(), fenceCommand(), etcdCommand(), migrateCommand(), configCommand(), doctorCommand(), versionCommand(),
		ownRunCommand(), guardCommand(), loginCommand(), logoutCommand(), whoamiCommand(), tokenCommand(), contextCommand(), apiCommand(), jobCommand(), suiteCommand(), hostCommand(), poolCommand(), labelCommand(), aclCommand(), userCommand(), roleCommand(), eventCommand(), agentCommand(), exitCodesCommand(),
	}
}

func flagError(cmd *cobra.Command, err error) error {
	return fmt.Errorf("%w: %w; see '%s --help'", errUsage, err, cmd.CommandPath())
}

// withDatabase loads the configuration, opens the database, does the work and
// closes the database again.
func withDatabase(ctx context.Context, cfg *config.Config, create bool, work func(*store.DB) error) error {
	if err := cfg.Load(); err != nil {
		return err
	}
	open := cfg.Store()
	open.Create = create
	return inDatabase(ctx, open, work)
}

func inDatabase(ctx context.Context, open sqldb.Config, work func(*store.DB) error) error {
	db, err := store.Open(ctx, open)
	if err != nil {
		return err
	}
	return errors.Join(work(db), db.Close())
}

// loadLab loads the configuration of a lab that runs. If nobody says where it is, and commands
// that call the API would find a standalone server of this machine, it is that one's.
func loadLab(cfg *config.Config) error { return cfg.LoadNear(standaloneFolder()) }

// withLab reads something in the lab of the configuration.
func withLab(ctx context.Context, cfg *config.Config, work func(ops.Lab) error) error {
	return inLab(ctx, cfg, true, work)
}

func inLab(ctx context.Context, cfg *config.Config, readOnly bool, work func(ops.Lab) error) error {
	if err := loadLab(cfg); err != nil {
		return err
	}
	open := cfg.Store()
	open.ReadOnly = readOnly
	return inDatabase(ctx, open, func(db *store.DB) error { return work(ops.Lab{Config: cfg, Main: admin.New(db)}) })
}

// changeLab changes something in the lab of the configuration, if that lab is the one
// that is meant.
func changeLab(ctx context.Context, cfg *config.Config, work func(ops.Lab) error) error {
	return inLab(ctx, cfg, false, func(lab ops.Lab) error {
		if err := lab.MayChange(ctx); err != nil {
			return err
		}
		return work(lab)
	})
}
