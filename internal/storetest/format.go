package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

const format = "autotest-host-scheduler-golden/1"

// Scenario is one file.
type Scenario struct {
	Format  string `json:"format"`
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Shows   string `json:"shows"`
	Config  Config `json:"config"`
	Verdict struct {
		StaleCacheLines bool `json:"stale_cache_lines"`
		Crash           bool `json:"crash"`
	} `json:"verdict"`
	Input    Rows       `json:"input"`
	Steps    []Step     `json:"steps"`
	Expected []Expected `json:"expected"`
}

// Config holds the switches of the original.
type Config struct {
	RespectStaticLabels bool   `json:"respect_static_labels"`
	ShardHostname       string `json:"shard_hostname"`
}

// Rows are database rows that refer to each other by name.
type Rows struct {
	Users          []User   `json:"users"`
	ACLGroups      []ACL    `json:"acl_groups"`
	Labels         []Label  `json:"labels"`
	StaticLabels   []Label  `json:"static_labels"`
	ReplacedLabels []string `json:"replaced_labels"`
	Shards         []Shard  `json:"shards"`
	Hosts          []Host   `json:"hosts"`
	Jobs           []Job    `json:"jobs"`
	HQEs           []HQE    `json:"hqes"`
	SpecialTasks   []Task   `json:"special_tasks"`
}

// User is a row of afe_users.
type User struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

// ACL is a row of afe_acl_groups with its users.
type ACL struct {
	ID    int64    `json:"id"`
	Name  string   `json:"name"`
	Users []string `json:"users"`
}

// Label is a row of afe_labels or afe_static_labels.
type Label struct {
	ID       int64  `json:"id"`
	Name     string `json:"name"`
	Platform bool   `json:"platform"`
	Invalid  bool   `json:"invalid"`
}

// Shard is a row of afe_shards with its labels.
type Shard struct {
	ID       int64    `json:"id"`
	Hostname string   `json:"hostname"`
	Labels   []string `json:"labels"`
}

// Host is a row of afe_hosts with its labels and ACL groups.
type Host struct {
	ID           int64    `json:"id"`
	Hostname     string   `json:"hostname"`
	Labels       []string `json:"labels"`
	StaticLabels []string `json:"static_labels"`
	ACLs         []string `json:"acls"`
	Locked       bool     `json:"locked"`
	Invalid      bool     `json:"invalid"`
	Status       *string  `json:"status"`
	Leased       bool     `json:"leased"`
	Protection   string   `json:"protection"`
	Dirty        bool     `json:"dirty"`
	Shard        *string  `json:"shard"`
}

// UnmarshalJSON fills in the defaults of fields that are left out. A status that
// is given as null stays null.
func (h *Host) UnmarshalJSON(data []byte) error {
	type plain Host
	ready := "Ready"
	v := plain{Status: &ready, Protection: "No protection"}
	err := strict(data, &v)
	*h = Host(v)
	return err
}

// Job is a row of afe_jobs with its dependencies and keyvals.
type Job struct {
	ID           int64             `json:"id"`
	Owner        string            `json:"owner"`
	Name         string            `json:"name"`
	Priority     *int64            `json:"priority"`
	Parent       *int64            `json:"parent_job_id"`
	Dependencies []string          `json:"dependencies"`
	Keyvals      map[string]string `json:"keyvals"`
	SynchCount   int               `json:"synch_count"`
	RunVerify    bool              `json:"run_verify"`
	RunReset     bool              `json:"run_reset"`
	RebootBefore string            `json:"reboot_before"`
	Shard        *string           `json:"shard"`
}

// UnmarshalJSON fills in the defaults of fields that are left out.
func (j *Job) UnmarshalJSON(data []byte) error {
	type plain Job
	v := plain{SynchCount: 1, RunReset: true, RebootBefore: "Never"}
	err := strict(data, &v)
	*j = Job(v)
	return err
}

// HQE is a row of afe_host_queue_entries.
type HQE struct {
	ID       int64   `json:"id"`
	Job      int64   `json:"job_id"`
	Host     *string `json:"host"`
	MetaHost *string `json:"meta_host"`
	Status   string  `json:"status"`
	Active   bool    `json:"active"`
	Complete bool    `json:"complete"`
	Aborted  bool    `json:"aborted"`
}

// UnmarshalJSON fills in the defaults of fields that are left out.
func (q *HQE) UnmarshalJSON(data []byte) error {
	type plain HQE
	v := plain{Status: "Queued"}
	err := strict(data, &v)
	*q = HQE(v)
	return err
}

// Task is a row of afe_special_tasks.
type Task struct {
	Host        string `json:"host"`
	Task        string `json:"task"`
	HQE         *int64 `json:"hqe"`
	RequestedBy string `json:"requested_by"`
	IsActive    bool   `json:"is_active"`
	IsComplete  bool   `json:"is_complete"`
}

// Step is one thing that happens.
type Step struct {
	Op string `json:"op"`
	Rows
	EntryIDs   []int64        `json:"-"`
	Status     string         `json:"status"`
	HostStatus string         `json:"host_status"`
	HQE        int64          `json:"hqe"`
	Host       string         `json:"host"`
	Task       string         `json:"task"`
	Set        map[string]any `json:"set"`
}

// UnmarshalJSON reads a step: "hqes" are rows in "add" and ids elsewhere.
func (s *Step) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	var op string
	if err := json.Unmarshal(raw["op"], &op); err != nil {
		return err
	}
	if ids, ok := raw["hqes"]; ok && op != "add" {
		if err := json.Unmarshal(ids, &s.EntryIDs); err != nil {
			return err
		}
		delete(raw, "hqes")
	}
	rest, err := json.Marshal(raw)
	if err != nil {
		return err
	}
	type plain Step
	v := plain{EntryIDs: s.EntryIDs, HostStatus: "Ready", Status: "Completed"}
	err = json.Unmarshal(rest, &v)
	*s = Step(v)
	return err
}

// Expected is what the original did in one tick.
type Expected struct {
	Step          int            `json:"step"`
	Exception     *string        `json:"exception"`
	Acquired      []int64        `json:"acquired"`
	AcquiredByJob map[string]int `json:"acquired_by_job"`
	Groups        []Group        `json:"groups"`
	SuiteHostNum  map[string]int `json:"suite_host_num"`
	LeasedCount   int            `json:"leased_count"`
	State         struct {
		HQEs         map[string][]any `json:"hqes"`
		Hosts        map[string][]any `json:"hosts"`
		SpecialTasks [][]any          `json:"special_tasks"`
	} `json:"state"`
	Strict struct {
		Preferred  bool `json:"preferred"`
		TasksByJob bool `json:"tasks_by_job"`
	} `json:"strict"`
	Varies struct {
		HQEHost   keys `json:"hqe_host"`
		HQEState  keys `json:"hqe_state"`
		HostState keys `json:"host_state"`
	} `json:"varies"`
}

// Group is a distinct request and how it was served.
type Group struct {
	Request struct {
		Deps      []string `json:"deps"`
		Preferred []string `json:"preferred_deps"`
		Priority  *int64   `json:"priority"`
		Parent    *int64   `json:"parent_job_id"`
	} `json:"request"`
	HQEs          []int64 `json:"hqes"`
	Acquired      int     `json:"acquired"`
	PreferredHits []int   `json:"preferred_hits"`
}

// keys is a set written as a list or as the keys of an object.
type keys map[string]bool

func (k *keys) UnmarshalJSON(data []byte) error {
	*k = keys{}
	var m map[string]json.RawMessage
	if json.Unmarshal(data, &m) == nil {
		for key := range m {
			(*k)[key] = true
		}
		return nil
	}
	var list []any
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	for _, v := range list {
		(*k)[fmt.Sprint(v)] = true
	}
	return nil
}

func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// ReadFolder reads all scenarios of a folder, in order of their names.
func ReadFolder(dir string) ([]Scenario, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no golden scenarios (*.json) in %s", dir)
	}
	var out []Scenario
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var s Scenario
		if err := json.Unmarshal(data, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if s.Format != format {
			return nil, fmt.Errorf("%s: format %q, want %q", file, s.Format, format)
		}
		out = append(out, s)
	}
	return out, nil
}
