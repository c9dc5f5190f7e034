package labclient

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// Contexts are the labs that a person works with, kept in a file.
type Contexts struct {
	// Current is the one that is meant if none is named.
	Current  string             `yaml:"current,omitempty"`
	Contexts map[string]Context `yaml:"contexts,omitempty"`
}

// Context is one lab.
type Context struct {
	Servers []string `yaml:"servers"`
	// Token is what a login left; TokenFile has one that somebody else keeps.
	Token     string `yaml:"token,omitempty"`
	TokenFile string `yaml:"token_file,omitempty"`
	CAFile    string `yaml:"ca_file,omitempty"`
}

// The file has tokens in it: it is for its person alone.
const (
	contextsMode  = 0o600
	contextFolder = 0o700
)

// ContextsFile is where contexts are kept: hostsched/config.yaml in the folder for
// configuration, ~/.config unless XDG_CONFIG_HOME says otherwise.
func ContextsFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("%w: the folder for contexts: %w; set HOME", ErrSetting, err)
	}
	return filepath.Join(dir, "hostsched", "config.yaml"), nil
}

// ReadContexts reads a file of contexts. One that is not there has none.
func ReadContexts(path string) (Contexts, error) {
	all := Contexts{Contexts: map[string]Context{}}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, fmt.Errorf("%w: read contexts: %w", ErrSetting, err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&all); err != nil && !errors.Is(err, io.EOF) {
		return all, fmt.Errorf("%w: %s: %w; mend or remove it", ErrSetting, path, err)
	}
	if all.Contexts == nil {
		all.Contexts = map[string]Context{}
	}
	return all, requirePrivate(path, all)
}

// requirePrivate refuses a file with a token in it that others may read.
func requirePrivate(path string, all Contexts) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%w: read contexts: %w", ErrSetting, err)
	}
	for _, c := range all.Contexts {
		if c.Token != "" && info.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("%w: %s has tokens in it and others may read it: chmod 600 %[2]s, and revoke the tokens if somebody did", ErrSetting, path)
		}
	}
	return nil
}

// Write puts the file in place of the former one, whole or not at all.
func (all Contexts) Write(path string) error {
	text, err := yaml.Marshal(all)
	if err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), contextFolder); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	// CreateTemp makes the file for its person alone.
	f, err := os.CreateTemp(filepath.Dir(path), ".config")
	if err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(contextsMode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write contexts: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
