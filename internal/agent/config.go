package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/hostsched/hostsched/internal/shim"
)

// ErrConfig means that the agent's file does not fit. Nothing was started.
var ErrConfig = errors.New("the agent's configuration")

// Config is the agent's file.
type Config struct {
	// Name is the one that an administrator entered.
	Name    string   `yaml:"name"`
	Servers []string `yaml:"servers"`
	CAFile  string   `yaml:"ca_file"`
	// JoinTokenFile has what 'hostsched agent add' printed; it is needed once. TokenFile is
	// written by the agent.
	JoinTokenFile string `yaml:"join_token_file"`
	TokenFile     string `yaml:"token_file"`
	// Spool has a folder for each run.
	Spool string `yaml:"spool"`
	// Capacity is how many runs go on at the same time.
	Capacity int `yaml:"capacity"`
	// User runs the scripts of jobs and the commands of tasks, the agent's own if empty.
	User string `yaml:"user"`
	// Cgroup is auto, off, or a folder below which each run has its own.
	Cgroup string `yaml:"cgroup"`
	// MaskFile has values that logs do not show, one a line.
	MaskFile string `yaml:"mask_file"`
	// TaskTimeout ends special tasks for which the servers name no time.
	TaskTimeout time.Duration `yaml:"task_timeout"`
	// Drivers are tried in their order: the first one whose label a host carries is its driver.
	Drivers []Driver `yaml:"drivers"`

	runAs *shim.User
	masks []string
}

// Driver says how runs are made on the hosts with a label.
type Driver struct {
	// Label is empty for all hosts.
	Label string `yaml:"label"`
	// Kind is exec, ssh or autoserv.
	Kind string `yaml:"driver"`
	// Command runs a job's script, instead of the script itself (exec), or is the path of
	// autoserv with its first arguments (autoserv).
	Command []string `yaml:"command"`
	SSH     SSH      `yaml:"ssh"`
	// Tasks are the commands of special tasks; one without counts as done at once.
	Tasks map[string][]string `yaml:"tasks"`
}

// SSH says how hosts are reached.
type SSH struct {
	User string `yaml:"user"`
	// Address is HOST:PORT, with {host} for the name.
	Address    string `yaml:"address"`
	KeyFile    string `yaml:"key_file"`
	KnownHosts string `yaml:"known_hosts"`
	// Folder is that of hostsched on the host.
	Folder string `yaml:"folder"`
}

// Kinds of drivers.
const (
	driverExec     = "exec"
	driverSSH      = "ssh"
	driverAutoserv = "autoserv"
)

// taskFence is the command that ends what a lost run left on a host.
const taskFence = "fence"

var taskNames = []string{"verify", "cleanup", "reset", "provision", "repair", taskFence}

const (
	defaultCapacity    = 10
	maxCapacity        = 10_000
	defaultTaskTimeout = time.Hour
)

// Read reads and checks the agent's file.
func Read(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	return c, nil
}

func parse(text []byte) (*Config, error) {
	c := &Config{Capacity: defaultCapacity, Cgroup: "auto", TaskTimeout: defaultTaskTimeout}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return c, errors.Join(c.check()...)
}

func (c *Config) check() (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for name, value := range map[string]string{"name": c.Name, "token_file": c.TokenFile, "spool": c.Spool} {
		if value == "" {
			bad("%s is missing", name)
		}
	}
	if len(c.Servers) == 0 {
		bad("servers is missing: name the addresses of the lab's servers, like https://lab1:8470")
	}
	if c.Capacity < 1 || c.Capacity > maxCapacity {
		bad("capacity must be from 1 to %d, not %d", maxCapacity, c.Capacity)
	}
	if c.TaskTimeout < time.Second {
		bad("task_timeout must be at least 1s")
	}
	if len(c.Drivers) == 0 {
		bad("drivers is missing: at least one says how jobs run, as in the example")
	}
	for i := range c.Drivers {
		for _, err := range c.Drivers[i].check() {
			bad("drivers[%d]: %w", i, err)
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	for _, err := range []error{c.findUser(), c.readMasks(), c.absolute()} {
		if err != nil {
			bad("%w", err)
		}
	}
	return problems
}

// absolute is because shims begin in another folder.
func (c *Config) absolute() (err error) {
	if c.Spool != "" {
		c.Spool, err = filepath.Abs(c.Spool)
	}
	return err
}

func (d *Driver) check() (problems []error) {
	switch d.Kind {
	case driverExec:
	case driverSSH:
		problems = append(problems, d.SSH.check()...)
		if len(d.Command) > 0 {
			problems = append(problems, errors.New("command is not for the driver ssh, which runs the script on the host"))
		}
	case driverAutoserv:
		if len(d.Command) == 0 {
			problems = append(problems, errors.New("command is missing: the path of autoserv"))
		}
	default:
		problems = append(problems, fmt.Errorf("driver must be exec, ssh or autoserv, not %q", d.Kind))
	}
	problems = append(problems, checkCommand("command", d.Command))
	for name, args := range d.Tasks {
		if !slices.Contains(taskNames, name) {
			problems = append(problems, fmt.Errorf("tasks: there is no task %q; there are %s", name, strings.Join(taskNames, ", ")))
		}
		problems = append(problems, checkCommand("tasks: "+name, args))
	}
	return slices.DeleteFunc(problems, func(err error) bool { return err == nil })
}

// checkCommand finds a command that is not there when the agent starts, and not when a host
// needs it. One of another user may be hidden from this one, who is told so later.
func checkCommand(name string, args []string) error {
	if len(args) == 0 || strings.Contains(args[0], "{") {
		return nil
	}
	if _, err := exec.LookPath(args[0]); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (s *SSH) check() (problems []error) {
	for name, file := range map[string]string{"key_file": s.KeyFile, "known_hosts": s.KnownHosts} {
		if file == "" {
			problems = append(problems, fmt.Errorf("ssh: %s is missing", name))
		} else if _, err := os.Stat(file); err != nil {
			problems = append(problems, fmt.Errorf("ssh: %s: %w", name, err))
		}
	}
	if s.User == "" {
		problems = append(problems, errors.New("ssh: user is missing"))
	}
	return problems
}

// findUser also finds the groups, which the kernel does not know of.
func (c *Config) findUser() error {
	if c.User == "" {
		return nil
	}
	u, err := user.Lookup(c.User)
	if err != nil {
		return fmt.Errorf("user: %w", err)
	}
	if os.Geteuid() != 0 && u.Uid != strconv.Itoa(os.Geteuid()) {
		return fmt.Errorf("user: only an agent that runs as root can run jobs as %s", c.User)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("user: the groups of %s: %w", c.User, err)
	}
	numbers := make([]uint32, 0, len(ids)+2)
	for _, text := range append([]string{u.Uid, u.Gid}, ids...) {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return fmt.Errorf("user: %w", err)
		}
		numbers = append(numbers, uint32(n))
	}
	c.runAs = &shim.User{UID: numbers[0], GID: numbers[1], Groups: numbers[2:]}
	return nil
}

func (c *Config) readMasks() error {
	if c.MaskFile == "" {
		return nil
	}
	text, err := os.ReadFile(c.MaskFile)
	if err != nil {
		return fmt.Errorf("mask_file: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			c.masks = append(c.masks, line)
		}
	}
	return nil
}
