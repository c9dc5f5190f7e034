package agent

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/shim"
)

// kindJob is the kind of a run that is no special task.
const kindJob = "job"

// scriptFile has the script of a job, in the folder that is the job's own.
const scriptFile = "script"

// plan is what a shim is to run, and what has to be in the folder before.
type plan struct {
	steps  []shim.Step
	script string
}

// driverOf is the driver of all hosts of a run together.
func (c *Config) driverOf(hosts []labapi.RunHost) (*Driver, error) {
	var found *Driver
	for _, h := range hosts {
		i := slices.IndexFunc(c.Drivers, func(d Driver) bool { return d.Label == "" || slices.Contains(h.Labels, d.Label) })
		switch {
		case i < 0:
			return nil, fmt.Errorf("no driver of the agent's file is for host %s, which carries %s", h.Hostname, strings.Join(h.Labels, ", "))
		case found != nil && found != &c.Drivers[i]:
			return nil, fmt.Errorf("hosts %s and %s have different drivers, and a run has one", hosts[0].Hostname, h.Hostname)
		}
		found = &c.Drivers[i]
	}
	return found, nil
}

// taskOf are the names that the agent's file has for kinds of runs.
var taskOf = map[string]string{"Verify": "verify", "Cleanup": "cleanup", "Reset": "reset", "Provision": "provision", "Repair": "repair"}

// plan says what to run for a claim. No steps mean that it is done at once.
func (a *Agent) plan(claimed labapi.Claimed, work string) (plan, error) {
	if len(claimed.Hosts) == 0 {
		return plan{}, fmt.Errorf("run %d has no host", claimed.Run)
	}
	d, err := a.cfg.driverOf(claimed.Hosts)
	if err != nil {
		return plan{}, err
	}
	m := claimed.Manifest
	fill := filler(claimed, work)
	var p plan
	if m.Fence {
		p.steps = append(p.steps, a.fence(d, claimed, fill)...)
	}
	if m.Kind == kindJob {
		p.script = withInterpreter(m.Script)
		p.steps = append(p.steps, a.jobStep(d, claimed, work, fill))
		return p, nil
	}
	task := taskOf[m.Kind]
	if task == "" {
		return plan{}, fmt.Errorf("this agent knows no %s, run %d", m.Kind, claimed.Run)
	}
	if args := d.Tasks[task]; len(args) > 0 {
		p.steps = append(p.steps, shim.Step{Name: task, Args: fill(args)})
	} else if d.Kind == driverAutoserv {
		p.steps = append(p.steps, shim.Step{Name: task, Args: autoservTask(d, claimed, work)})
	}
	return p, nil
}

// fence ends what a lost run left on the hosts: by the lab's own command, or else over ssh.
func (a *Agent) fence(d *Driver, claimed labapi.Claimed, fill func([]string) []string) (steps []shim.Step) {
	if args := d.Tasks[taskFence]; len(args) > 0 {
		return []shim.Step{{Name: taskFence, Args: fill(args)}}
	}
	if d.Kind != driverSSH {
		return nil
	}
	for _, h := range claimed.Hosts {
		steps = append(steps, shim.Step{Name: taskFence, Args: a.sshArgs(d, h, claimed.Run, "", millis(claimed.Manifest.GraceMillis)), Own: true})
	}
	return steps
}

// jobStep runs a job's script.
func (a *Agent) jobStep(d *Driver, claimed labapi.Claimed, work string, fill func([]string) []string) shim.Step {
	script := filepath.Join(work, scriptFile)
	step := shim.Step{Name: kindJob, Args: []string{script}}
	switch d.Kind {
	case driverSSH:
		// A script runs on the first host; it reaches the others of its run from there.
		step.Args, step.Own = a.sshArgs(d, claimed.Hosts[0], claimed.Run, script, millis(claimed.Manifest.GraceMillis)), true
	case driverAutoserv:
		step.Args = autoservJob(d, claimed, work)
	default:
		if len(d.Command) > 0 {
			step.Args = fill(d.Command)
		}
	}
	return step
}

// withInterpreter gives a script without first line that of the shell.
func withInterpreter(script string) string {
	if strings.HasPrefix(script, "#!") {
		return script
	}
	return "#!/bin/sh\n" + script
}

func namesOf(hosts []labapi.RunHost) []string {
	out := make([]string, len(hosts))
	for i := range hosts {
		out[i] = hosts[i].Hostname
	}
	return out
}

// filler replaces the places of a command.
func filler(claimed labapi.Claimed, work string) func([]string) []string {
	names := namesOf(claimed.Hosts)
	places := strings.NewReplacer(
		"{host}", names[0], "{hosts}", strings.Join(names, " "), "{epoch}", strconv.FormatInt(claimed.Hosts[0].Epoch, 10),
		"{run}", strconv.FormatInt(claimed.Run, 10), "{job}", strconv.FormatInt(claimed.Manifest.Job, 10),
		"{labels}", strings.Join(claimed.Hosts[0].Labels, ","), "{script}", filepath.Join(work, scriptFile), "{dir}", work)
	return func(args []string) []string {
		out := make([]string, len(args))
		for i := range args {
			out[i] = places.Replace(args[i])
		}
		return out
	}
}

// autoservJob is the command line by which monitor_db runs a job.
func autoservJob(d *Driver, claimed labapi.Claimed, work string) []string {
	m := claimed.Manifest
	return append(autoservCommon(d, claimed, work), "-u", m.Owner, "-l", m.Name, "-s", "-P", fmt.Sprintf("%d-%s", m.Job, m.Owner), "-n", filepath.Join(work, scriptFile))
}

func autoservCommon(d *Driver, claimed labapi.Claimed, work string) []string {
	return append(slices.Clone(d.Command), "-p", "-r", filepath.Join(work, "results"), "-m", strings.Join(namesOf(claimed.Hosts), ","))
}

// autoservTask is the command line by which monitor_db runs a special task.
func autoservTask(d *Driver, claimed labapi.Claimed, work string) []string {
	args := autoservCommon(d, claimed, work)
	switch claimed.Manifest.Kind {
	case "Verify":
		return append(args, "-v")
	case "Cleanup":
		return append(args, "--cleanup")
	case "Reset":
		return append(args, "--reset")
	case "Provision":
		return append(args, "--provision", "--job-labels", strings.Join(claimed.Hosts[0].Labels, ","))
	}
	return append(args, "-R", "--host-protection", "NO_PROTECTION")
}

// passedOn are the variables of the agent that runs have, too. Its other ones, and its token,
// are not theirs.
var passedOn = []string{"PATH", "LANG", "LC_ALL", "TZ"}

// environment is that of a run.
func environment(claimed labapi.Claimed, work string) []string {
	names := namesOf(claimed.Hosts)
	env := map[string]string{
		"HOME": work, "TMPDIR": work,
		"HOSTSCHED_HOST": names[0], "HOSTSCHED_HOSTS": strings.Join(names, " "),
		"HOSTSCHED_RUN": strconv.FormatInt(claimed.Run, 10), "HOSTSCHED_JOB": strconv.FormatInt(claimed.Manifest.Job, 10),
		"HOSTSCHED_EPOCH": labapi.EpochsText(claimed.Hosts), "HOSTSCHED_DIR": work,
		"HOSTSCHED_KIND": claimed.Manifest.Kind,
	}
	for _, name := range passedOn {
		if value, ok := os.LookupEnv(name); ok {
			env[name] = value
		}
	}
	for name, value := range claimed.Manifest.Env {
		if !strings.HasPrefix(name, "HOSTSCHED_") {
			env[name] = value
		}
	}
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// secretsOf are the values that the logs of a run do not show.
func (c *Config) secretsOf(m labapi.Manifest) []string {
	out := slices.Clone(c.masks)
	for _, name := range m.Secrets {
		if value := m.Env[name]; value != "" {
			out = append(out, value)
		}
	}
	return out
}
