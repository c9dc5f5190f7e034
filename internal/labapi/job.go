package labapi

import "time"

// JobSpec is a job as it is submitted, in JSON or YAML. It has a schema of its own
// (internal/jobspec reads and checks it).
type JobSpec struct {
	Name     string `json:"name" yaml:"name" minLength:"1" maxLength:"255"`
	Owner    string `json:"owner,omitempty" yaml:"owner,omitempty" doc:"Who submits, if left out."`
	Priority int    `json:"priority,omitempty" yaml:"priority,omitempty" minimum:"-2000000000" maximum:"2000000000"`
	// Labels constrain the hosts: a host must carry all of them.
	Labels []string `json:"labels,omitempty" yaml:"labels,omitempty" maxItems:"100" doc:"A host must carry all of them."`
	// Hosts names hosts instead; each gets one entry.
	Hosts []string `json:"hosts,omitempty" yaml:"hosts,omitempty" maxItems:"10000" doc:"These very hosts, instead of count hosts with the labels."`
	Count int      `json:"count,omitempty" yaml:"count,omitempty" minimum:"1" maximum:"10000" doc:"Hosts wanted; 1 if left out."`
	Synch int      `json:"synch,omitempty" yaml:"synch,omitempty" minimum:"1" maximum:"10000" doc:"How many hosts run together; 1 if left out."`
	// Timeout and MaxRuntime are durations like 90m or 24h.
	Timeout    string            `json:"timeout,omitempty" yaml:"timeout,omitempty" doc:"Abort the job so long after it was submitted, like 24h."`
	MaxRuntime string            `json:"max_runtime,omitempty" yaml:"max_runtime,omitempty" doc:"Abort a run so long after it began."`
	Reset      *bool             `json:"reset,omitempty" yaml:"reset,omitempty"`
	Verify     *bool             `json:"verify,omitempty" yaml:"verify,omitempty"`
	Cleanup    *bool             `json:"cleanup,omitempty" yaml:"cleanup,omitempty" doc:"Clean the host before, instead of a reset (true), or never (false)."`
	Reboot     *RebootSpec       `json:"reboot,omitempty" yaml:"reboot,omitempty"`
	Keyvals    map[string]string `json:"keyvals,omitempty" yaml:"keyvals,omitempty"`
	Script     string            `json:"script,omitempty" yaml:"script,omitempty" maxLength:"65000" doc:"What runs on the host."`
	// OutputTimeout is a duration, too.
	OutputTimeout string            `json:"output_timeout,omitempty" yaml:"output_timeout,omitempty" doc:"End a run that says nothing for so long, like 15m."`
	Env           map[string]string `json:"env,omitempty" yaml:"env,omitempty" doc:"Variables of the script's environment."`
	Secrets       map[string]string `json:"secrets,omitempty" yaml:"secrets,omitempty" doc:"Variables whose values nobody is shown: they are masked in logs."`
	Artifacts     []string          `json:"artifacts,omitempty" yaml:"artifacts,omitempty" maxItems:"100" doc:"Patterns of files to keep, relative to the run's folder: * and ? stand for characters, ** for folders."`
	Results       string            `json:"results,omitempty" yaml:"results,omitempty" enum:"junit,tap" doc:"The form of results of single tests."`
	ResultFiles   []string          `json:"result_files,omitempty" yaml:"result_files,omitempty" maxItems:"100" doc:"Patterns of the files with results, which are kept, too. If left out: **/*.xml (junit), or **/*.tap and what the script says (tap)."`
	Retry         *RetrySpec        `json:"retry,omitempty" yaml:"retry,omitempty"`
	Own           string            `json:"own,omitempty" yaml:"own,omitempty" enum:"run,reserve" doc:"Whoever submits the job runs it himself, on all its hosts together (run), or reserves them for max_runtime (reserve): no agent gets it."`
	// Suite is the id of the suite that the job belongs to.
	Suite            int64  `json:"suite,omitempty" yaml:"suite,omitempty" minimum:"1"`
	AllowUnplaceable bool   `json:"allow_unplaceable,omitempty" yaml:"allow_unplaceable,omitempty" doc:"Queue the job although no host can ever run it today."`
	Notify           string `json:"notify,omitempty" yaml:"notify,omitempty" maxLength:"250" doc:"Mail address."`
}

// Values of JobSpec.Own.
const (
	OwnRun     = "run"
	OwnReserve = "reserve"
)

// RetrySpec says what is tried again. A job that failed by itself never is.
type RetrySpec struct {
	Infra int `json:"infra,omitempty" yaml:"infra,omitempty" minimum:"0" maximum:"1" doc:"How often to try again if the lab failed, and not the job."`
}

// RebootSpec says when a host is cleaned: never, if_dirty, always; and after:
// never, if_all_tests_passed, always.
type RebootSpec struct {
	Before string `json:"before,omitempty" yaml:"before,omitempty" enum:"never,if_dirty,always"`
	After  string `json:"after,omitempty" yaml:"after,omitempty" enum:"never,if_all_tests_passed,always"`
}

// Job is a job with what became of it.
type Job struct {
	ID       int64    `json:"id"`
	Name     string   `json:"name"`
	Owner    string   `json:"owner"`
	Priority int      `json:"priority"`
	State    JobState `json:"state"`
	Suite    int64    `json:"suite,omitempty"`
	CloneOf  int64    `json:"clone_of,omitempty"`
	// Labels are the dependency labels.
	Labels  []string          `json:"labels"`
	Synch   int               `json:"synch"`
	Created time.Time         `json:"created"`
	Started *time.Time        `json:"started,omitempty"`
	Ended   *time.Time        `json:"ended,omitempty"`
	Keyvals map[string]string `json:"keyvals,omitempty"`
	Entries []Entry           `json:"entries,omitempty"`
	Spec    *JobSpec          `json:"spec,omitempty"`
}

// JobState is derived from the states of a job's entries, in this order: running if any
// entry is active, queued if any waits, aborted, failed, passed.
type JobState string

// The states of a job.
const (
	JobQueued  JobState = "queued"
	JobRunning JobState = "running"
	JobPassed  JobState = "passed"
	JobFailed  JobState = "failed"
	JobAborted JobState = "aborted"
)

// Entry is a queue entry: one run of a job on one host.
type Entry struct {
	ID       int64      `json:"id"`
	Status   string     `json:"status" doc:"As Autotest has it: Queued, Starting, Running, Completed and so on."`
	Host     string     `json:"host,omitempty"`
	Aborted  bool       `json:"aborted,omitempty"`
	Active   bool       `json:"active"`
	Complete bool       `json:"complete"`
	Started  *time.Time `json:"started,omitempty"`
	Ended    *time.Time `json:"ended,omitempty"`
}

// Submitted is the answer to a submitted job. With dry_run nothing was written, and ID is 0.
type Submitted struct {
	ID      int64   `json:"id,omitempty"`
	Entries []int64 `json:"entries,omitempty"`
	// Explain says what the planner would do with the job now.
	Explain *Explanation `json:"explain,omitempty"`
}

// Explanation says why entries wait, or which hosts they would get.
type Explanation struct {
	Text    string             `json:"text" doc:"One line for people."`
	Entries []EntryExplanation `json:"entries,omitempty"`
}

// EntryExplanation is what the planner says of one entry.
type EntryExplanation struct {
	Job     string   `json:"job,omitempty" doc:"The name of its job, in a suite that was only tried."`
	Entry   int64    `json:"entry,omitempty"`
	Host    string   `json:"host,omitempty" doc:"The host it would get, or has."`
	Reasons []Reason `json:"reasons,omitempty" doc:"Why it gets none."`
}

// Reason is one reason with the number of hosts for which it holds.
type Reason struct {
	Reason string `json:"reason"`
	Hosts  int    `json:"hosts,omitempty"`
	// Entries are the first of those that have the hosts or get them, as far as they are known.
	Entries []int64 `json:"entries,omitempty"`
}

// SuiteInput is a new suite: a parent of jobs with a guaranteed minimum of hosts.
type SuiteInput struct {
	Name     string `json:"name" minLength:"1" maxLength:"255"`
	Owner    string `json:"owner,omitempty"`
	Priority int    `json:"priority,omitempty"`
	Minimum  int    `json:"minimum,omitempty" minimum:"0" maximum:"1000000" doc:"Hosts that the suite's jobs hold at least, while jobs wait."`
	// Jobs are submitted together with the suite, in one transaction.
	Jobs []JobSpec `json:"jobs,omitempty" maxItems:"20000"`
}

// Suite is a suite with its balance.
type Suite struct {
	ID       int64     `json:"id,omitempty" doc:"Left out where it was only tried."`
	Name     string    `json:"name"`
	Owner    string    `json:"owner"`
	Priority int       `json:"priority"`
	Created  time.Time `json:"created"`
	Minimum  int       `json:"minimum"`
	Holds    int       `json:"holds" doc:"Hosts that its jobs have now."`
	Waiting  int       `json:"waiting"`
	Passed   int       `json:"passed"`
	Failed   int       `json:"failed"`
	Aborted  int       `json:"aborted"`
	Jobs     []int64   `json:"jobs,omitempty"`
	// Explain says what the planner would do with the jobs now. With dry_run nothing was
	// written, and there is no id.
	Explain *Explanation `json:"explain,omitempty"`
}

// AbortInput is the body of abort calls.
type AbortInput struct {
	Reason string `json:"reason,omitempty" maxLength:"500"`
}
