package config

import (
	"reflect"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"
)

// levelKey is the setting that takes effect while a process runs.
const levelKey = "log.level"

// Reload reads the configuration again, with the flags and the environment of this
// process. It sets the level of the log, and returns the keys of the settings that
// have changed but take effect only after a restart. What is wrong with the new
// configuration is an error, and then nothing changes. Files with passwords need no
// reload, because they are read whenever they are needed.
func (c *Config) Reload(log hclog.Logger) (afterRestart []string, err error) {
	next := &Config{}
	next.Bind(pflag.NewFlagSet("reload", pflag.ContinueOnError), AllGroups)
	next.file, next.autotest = c.file, c.autotest
	for i, s := range c.settings {
		if !s.secret && c.flags.Changed(s.flagName()) {
			next.settings[i].field.Set(s.field)
			next.flags.Lookup(s.flagName()).Changed = true
		}
	}
	if err := next.Load(); err != nil {
		return nil, err
	}
	for i, s := range c.settings {
		changed := !reflect.DeepEqual(s.field.Interface(), next.settings[i].field.Interface())
		fresh := s.key == levelKey || s.secret && c.secrets[s.key].file != ""
		if changed && !fresh {
			afterRestart = append(afterRestart, s.key)
		}
	}
	log.SetLevel(hclog.LevelFromString(next.Log.Level))
	return afterRestart, nil
}
