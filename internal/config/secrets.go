package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/hostsched/hostsched/shard"
)

// secretSource is where a secret comes from: a file, which is read whenever the
// secret is needed, because a password may be changed while we run; or a value
// that was known at the start.
type secretSource struct {
	file string // empty if there is none
	from string // what to name in messages
	text string
}

// Secret is a secret of the configuration.
type Secret struct {
	// Read returns the secret as it is now.
	Read func() (string, error)
	// Advice says what to do about a secret that is refused.
	Advice string
}

// readSecrets finds each secret in the environment, or else in the file that
// the setting of the same name with _file at the end names, or else in
// Autotest's configuration. A file must be there from the beginning.
func (c *Config) readSecrets(env map[string]string, autotest *importer) error {
	files := map[string]string{}
	for _, s := range c.settings {
		if secret, ok := strings.CutSuffix(s.key, "_file"); ok {
			files[secret] = s.field.String()
		}
	}
	c.secrets = map[string]secretSource{}
	for _, s := range c.settings {
		if !s.secret {
			continue
		}
		source := secretSource{text: autotest.secrets[s.key], from: "Autotest's configuration"}
		switch path := files[s.key]; {
		case env[s.envName()] != "":
			source = secretSource{text: env[s.envName()], from: "the environment variable " + s.envName()}
		case path != "":
			source = secretSource{file: path, from: s.key + "_file"}
		}
		value, err := source.read()
		if err != nil {
			return err
		}
		c.secrets[s.key] = source
		s.field.SetString(value)
	}
	return nil
}

func (s secretSource) read() (string, error) {
	if s.file == "" {
		return s.text, nil
	}
	data, err := readFile(s.file)
	if err != nil {
		return "", fmt.Errorf("%w: read %s: %w", ErrConfig, s.from, err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// Secret returns a secret by its key, such as "database.password".
func (c *Config) Secret(key string) Secret { return c.secrets[key].secret() }

// SecretFile is a file with a secret, and the setting that names it.
type SecretFile struct{ Key, Path string }

// SecretFiles are those that are used.
func (c *Config) SecretFiles() (out []SecretFile) {
	for _, s := range c.settings {
		if source := c.secrets[s.key]; s.secret && source.file != "" {
			out = append(out, SecretFile{source.from, source.file})
		}
	}
	return out
}

// FileSecret is a secret in a file that is no setting. from names what named the file.
func FileSecret(path, from string) Secret {
	return secretSource{file: path, from: from}.secret()
}

func (s secretSource) secret() Secret {
	switch {
	case s.file != "":
		return Secret{s.read, "the password is in " + s.file + ", which is read for every new connection"}
	case s.text != "":
		return Secret{s.read, "the password came from " + s.from + " when this process started; restart it after a change"}
	}
	return Secret{s.read, ""}
}

// shardSecret is the password of a shard's own database: that of its file in
// shards.password_dir, if there is one, and else that of the main database.
func (c *Config) shardSecret(name shard.Name) Secret {
	main := c.Secret("database.password")
	if c.Shards.PasswordDir == "" || !isFileName(name.String()) {
		return main
	}
	own := secretSource{file: filepath.Join(c.Shards.PasswordDir, name.String()), from: "the password of shard " + name.String()}
	read := func() (string, error) {
		password, err := own.read()
		if errors.Is(err, fs.ErrNotExist) {
			return main.Read()
		}
		return password, err
	}
	return Secret{read, "the password is in " + own.file + ", or without that file that of the main database; it is read for every new connection"}
}

// isFileName tells whether a folder can have a file of this name: a shard's name may be ".."
// or longer than what file systems take, and has no file of its own then.
func isFileName(name string) bool {
	const most = 255 // bytes, on all file systems that matter
	return name != "." && filepath.IsLocal(name) && filepath.Base(name) == name && len(name) <= most
}
