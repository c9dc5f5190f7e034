package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/console"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
)

// Modes of what a standalone server makes in its folder.
const (
	folderMode = 0o700
	secretMode = 0o600
)

// openFolder makes the folder of a standalone server and keeps other processes out of it
// for as long as this one lives.
func (a *App) openFolder() error {
	if !a.cfg.Standalone {
		return nil
	}
	dir := a.cfg.DataDir
	if err := makeFolder(dir); err != nil {
		return fmt.Errorf("%w: data_dir: %w", config.ErrConfig, err)
	}
	unlock, err := LockFolder(dir)
	if err != nil {
		return fmt.Errorf("%w: data_dir: %w", config.ErrConfig, err)
	}
	a.closers = append(a.closers, unlock)
	return nil
}

// makeFolder makes a folder that only this user may open. One that is not empty must be a
// standalone server's.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return err
	}
	if err := config.CheckFolder(dir); err != nil {
		return err
	}
	return os.Chmod(dir, folderMode)
}

// LockFolder keeps other processes out of the folder of a standalone server until unlock,
// or the end of this process.
func LockFolder(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, config.LockFile), os.O_CREATE|os.O_RDWR, secretMode)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("another process uses %s; stop it first, or choose another folder", dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// prepareLab makes the database of a standalone server, or brings it up to the version of
// this binary. Nobody else uses it, so nobody has to be asked.
func (a *App) prepareLab(ctx context.Context) error {
	open := a.cfg.Store()
	open.Create = true
	db, err := store.Open(ctx, open)
	if err != nil {
		return err
	}
	return errors.Join(a.migrate(ctx, db), db.Close())
}

func (a *App) migrate(ctx context.Context, db *store.DB) error {
	st, err := schema.ReadStatus(ctx, db.DB)
	if err != nil {
		return err
	}
	if st.Schema > 0 && st.Schema < st.Wanted {
		if err := a.keepCopy(ctx, db, st.Schema); err != nil {
			return err
		}
	}
	_, err = schema.Up(ctx, db.DB, schema.Options{})
	return err
}

// keepCopy copies the database before it is migrated. A copy that is there is older, from a
// migration that was stopped, and stays.
func (a *App) keepCopy(ctx context.Context, db *store.DB, version int64) error {
	path := fmt.Sprintf("%s.schema-%d", db.Path(), version)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	unfinished := path + ".unfinished"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("copy the database before it is migrated: %w", err)
	}
	if _, err := db.SQL().ExecContext(ctx, "VACUUM INTO ?", unfinished); err != nil {
		return fmt.Errorf("copy the database to %s before it is migrated: %w", path, err)
	}
	if err := os.Rename(unfinished, path); err != nil {
		return fmt.Errorf("copy the database before it is migrated: %w", err)
	}
	a.log.Info("the database is migrated; a copy of the former one is kept", "schema version", version, "copy", path)
	return nil
}

// welcome makes the first administrator of a standalone lab, and tells the person who
// started it where the lab is.
func (a *App) welcome(ctx context.Context) error {
	if !a.cfg.Standalone {
		return nil
	}
	if err := a.lab.Load().EnsureFirstAdmin(ctx, a.keepAdminToken); err != nil {
		return err
	}
	// Nothing depends on whether anybody reads it.
	_, _ = fmt.Fprintf(a.out, "hostsched serves the lab in %s at %s\n%s\nLook at %s%s/ in a browser, which asks for the token\nTry: hostsched host list --server unix:%s\n",
		a.cfg.DataDir, a.apiURL(), a.tokenHint(), a.apiURL(), console.Prefix, a.cfg.API.Socket)
	return nil
}

func (a *App) tokenHint() string {
	file := a.cfg.AdminTokenFile()
	if _, err := os.Stat(file); err == nil {
		return "The token of its administrator is in " + file
	}
	return fmt.Sprintf("The token of its administrator was removed from %s; the socket %s takes this user and root without one", file, a.cfg.API.Socket)
}

// keepAdminToken writes the token of the first administrator into its file, or returns the
// one that a process which died in between has written there.
func (a *App) keepAdminToken(fresh string) (string, error) {
	path := a.cfg.AdminTokenFile()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, secretMode)
	if errors.Is(err, os.ErrExist) {
		kept, err := os.ReadFile(path)
		return strings.TrimSpace(string(kept)), err
	}
	if err != nil {
		return "", fmt.Errorf("write the token of the first administrator: %w", err)
	}
	_, err = io.WriteString(f, fresh+"\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write the token of the first administrator: %w", err), os.Remove(path))
	}
	return fresh, nil
}

// apiURL is where the API answers.
func (a *App) apiURL() string {
	scheme, address := "http", a.Addr()
	if a.certs.Answers() {
		scheme = "https"
	}
	if a.cfg.API.Listen != "" {
		address = a.doors[0].listener.Addr().String()
	}
	return scheme + "://" + address
}
