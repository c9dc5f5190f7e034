package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostsched/hostsched/internal/app"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// labCopy is a copy of a lab as the command line asks for it.
type labCopy struct {
	cfg                    config.Config
	from, to, fromPassword string
	force                  bool
	out                    output
}

func migrateCopyCommand() *cobra.Command {
	c := &labCopy{}
	cmd := &cobra.Command{
		Use: "copy --from DSN [--to DSN]", Short: "Copy a lab into an empty database of another kind", Args: noArgs,
		Long: `Copy all tables of a lab that hostsched created into an empty database, such as that
of a standalone server into one of MariaDB or MySQL. All rows keep their ids. The
source is read as it is at one moment, and the rows of each table are counted in both.
A target that is not empty is refused; a copy that was stopped begins anew.
Logs and files of runs that are over lie outside of the database if runs.blobs is
set, and in the folder blobs of a standalone server. They are not copied: it is said
at the end how many there are, and what to do.

Without --to the target is the database of the configuration. Its password comes from
database.password_file or HOSTSCHED_DATABASE_PASSWORD, that of the source from
--from-password-file. Stop the replicas of the source first: what they write
afterwards is not copied.`,
		Example: `  hostsched migrate copy --from sqlite:/var/lib/hostsched/lab.db --config /etc/hostsched.yaml`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.run(cmd) },
	}
	c.cfg.Bind(cmd.Flags(), config.DatabaseGroup)
	c.out.bind(cmd)
	cmd.Flags().StringVar(&c.from, "from", "", "database to copy")
	cmd.Flags().StringVar(&c.to, "to", "", "empty database; that of the configuration if left out")
	cmd.Flags().StringVar(&c.fromPassword, "from-password-file", "", "file with the password of --from")
	cmd.Flags().BoolVar(&c.force, "force", false, "copy it even if its history says that somebody leads it")
	return cmd
}

func (c *labCopy) run(cmd *cobra.Command) (err error) {
	ctx, stop := untilSignalled(cmd.Context())
	defer stop()
	if c.from == "" {
		return fmt.Errorf("%w: say with --from which database to copy", errUsage)
	}
	if sqldb.HasPassword(c.from) || sqldb.HasPassword(c.to) {
		return fmt.Errorf("%w: a DSN on the command line has a password in it, which every user of this machine can read; use --from-password-file, and --database-password-file for the target", errUsage)
	}
	if c.to != "" {
		if err := cmd.Flags().Set("database-dsn", c.to); err != nil {
			return err
		}
	}
	if err := c.cfg.Load(); err != nil {
		return err
	}
	free, stopped, err := lockLab(c.from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, free()) }()
	copied, err := c.copy(ctx, schema.CopyOptions{Led: c.force || stopped, Progress: progress(cmd.ErrOrStderr())})
	if err != nil {
		return err
	}
	return c.out.write(cmd, copied, func(w io.Writer) error {
		if err := copiedTable(w, copied); err != nil || copied.Files == 0 {
			return err
		}
		return errors.Join(
			line(w, "logs and files of runs that lie outside of the database, and were not copied: %d", copied.Files),
			line(w, "copy %s with 'cp -r' to where all servers see it, and give them the setting runs.blobs with that place", c.filesAt()))
	})
}

// filesAt is where the logs of the lab that is copied lie.
func (c *labCopy) filesAt() string {
	if absolute, err := sqldb.Absolute(c.from); err == nil {
		if path, isFile := strings.CutPrefix(absolute, "sqlite:"); isFile && config.IsFolder(filepath.Dir(path)) {
			return config.BlobsOf(filepath.Dir(path)) + " (or what runs.blobs of that server names)"
		}
	}
	return "what runs.blobs of the former servers names"
}

// lockLab keeps a standalone server from starting with the lab that is copied. stopped
// tells that none runs, whatever the history of the lab says.
func lockLab(dsn string) (free func() error, stopped bool, err error) {
	free = func() error { return nil }
	absolute, err := sqldb.Absolute(dsn)
	if err != nil {
		return nil, false, fmt.Errorf("--from: %w", err)
	}
	path, isFile := strings.CutPrefix(absolute, "sqlite:")
	if !isFile || !config.IsFolder(filepath.Dir(path)) {
		return free, false, nil
	}
	free, err = app.LockFolder(filepath.Dir(path))
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", schema.ErrCopy, err)
	}
	return free, true, nil
}

func (c *labCopy) copy(ctx context.Context, opts schema.CopyOptions) (out schema.Copied, err error) {
	source := sqldb.Config{DSN: c.from, TLS: c.cfg.DatabaseTLS(), Production: c.cfg.Production}
	if c.fromPassword != "" {
		source.Password = config.FileSecret(c.fromPassword, "--from-password-file").Read
	}
	from, err := store.Open(ctx, source)
	if err != nil {
		return out, fmt.Errorf("--from: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	target := c.cfg.Store()
	target.Create = true
	to, err := store.Open(ctx, target)
	if err != nil {
		return out, fmt.Errorf("--to: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return schema.Copy(ctx, from.DB, to.DB, opts)
}

// progressRows is after how many rows a line says how far a large table is.
const progressRows = 100_000

func progress(w io.Writer) func(table string, rows int64) {
	var said int64
	return func(table string, rows int64) {
		if rows < said {
			said = 0 // another table
		}
		if rows-said >= progressRows {
			said = rows
			_ = line(w, "%s: %d rows", table, rows) // only a person misses it
		}
	}
}

func copiedTable(w io.Writer, c schema.Copied) error {
	t := newTable(w)
	t.row("TABLE", "ROWS")
	var rows int64
	for _, x := range c.Tables {
		t.row(x.Name, x.Rows)
		rows += x.Rows
	}
	if err := t.flush(); err != nil {
		return err
	}
	return line(w, "%d rows of %d tables were copied from %s to %s; both have the same numbers of rows", rows, len(c.Tables), c.From, c.To)
}
