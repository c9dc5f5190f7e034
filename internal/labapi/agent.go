package labapi

import (
	"strconv"
	"strings"
	"time"
)

// The protocol between agents and servers, under /agent/v1. A server speaks the present
// number and the one before.
const AgentProtocol = 1

// AgentPrefix begins the path of every call of the protocol.
const AgentPrefix = "/agent/v1"

// Names of problems that claimants tell apart. Whatever else is answered, they try again.
const (
	ProblemToken     = "token-not-valid"     // 401: nobody knows the token (any more)
	ProblemRevoked   = "agent-revoked"       // 403: stop everything now
	ProblemReplaced  = "session-replaced"    // 409: another process serves under this name
	ProblemOfferGone = "offer-gone"          // 409: the offer is none any more
	ProblemAutotest  = "runner-is-autotest"  // 409: monitor_db runs the jobs of this lab
	ProblemLogOffset = "log-offset"          // 409: the log goes on elsewhere, see LogProblem
	ProblemRunLost   = "run-lost"            // 410: the run is closed, or given to others
	ProblemLogFull   = "log-full"            // 413: the rest of the log is only counted
	ProblemProtocol  = "protocol-not-spoken" // 426: the agent is too old or too new
)

// LogProblem is the problem document of a log whose next bytes begin elsewhere.
type LogProblem struct {
	Type           string `json:"type"`
	Title          string `json:"title"`
	Status         int    `json:"status"`
	Detail         string `json:"detail"`
	ExpectedOffset int64  `json:"expected_offset"`
}

// LogEnd is how much of a log the servers have.
type LogEnd struct {
	End int64 `json:"end"`
	RunAnswer
}

// AgentJoin is a new agent's first call: it shows the token that an administrator made for
// its name, and gets its own.
type AgentJoin struct {
	JoinToken string    `json:"join_token"`
	Name      string    `json:"name" minLength:"1" maxLength:"190"`
	Version   string    `json:"version" maxLength:"190"`
	Protocols Protocols `json:"protocols"`
}

// Protocols are the numbers of the protocol that an agent speaks.
type Protocols struct {
	Least int `json:"least" minimum:"1"`
	Most  int `json:"most" minimum:"1"`
}

// AgentJoined is the answer to AgentJoin. The token is shown this once; if the answer was lost,
// the join token makes another one until the first call with the token.
type AgentJoined struct {
	Token    string `json:"token"`
	Protocol int    `json:"protocol"`
}

// AgentLeave asks for a drain, or ends a session.
type AgentLeave struct {
	Session string `json:"session" minLength:"1" maxLength:"64"`
	Reason  string `json:"reason,omitempty" maxLength:"500"`
}

// AgentSync tells the servers all about an agent, each time. The answer waits until there is
// something to do, at most WaitMillis.
type AgentSync struct {
	// Session is another one after each start of the agent's process, see NewSession.
	Session string `json:"session" minLength:"1" maxLength:"64" doc:"Another one after each start of the agent's process. What stands before a dot is that of its spool: the runs that a former process with the same spool had, and that this one does not name, are lost at once; those of another spool when their leases end, because a copy of the agent may work at them."`
	// Begin marks the calls of a session until the first answer: it takes the place of any
	// other session. A later call of a session that was replaced gets session-replaced.
	Begin     bool      `json:"begin,omitempty"`
	BootID    string    `json:"boot_id" maxLength:"64" doc:"Differs after the agent's machine was booted again: its runs are lost then."`
	Version   string    `json:"version" maxLength:"190"`
	Address   string    `json:"address,omitempty" maxLength:"190" doc:"The name of the agent's machine, for people."`
	Protocols Protocols `json:"protocols"`
	Capacity  int       `json:"capacity" minimum:"0" doc:"How many more runs it takes now."`
	Unfit     string    `json:"unfit,omitempty" maxLength:"500" doc:"Why it takes nothing now, as when its disk is full."`
	// Runs are all that the agent works at or has not reported the end of.
	Runs       []AgentRun `json:"runs,omitempty" maxItems:"10000"`
	WaitMillis int64      `json:"wait_ms,omitempty" minimum:"0" maximum:"20000"`
}

// NewSession names a start of an agent's process, which has a spool: whoever has the same one
// knows of every run that a former process has begun.
func NewSession(spool, start string) string { return spool + "." + start }

// OtherSpool tells whether two sessions have different spools, as far as both say.
func OtherSpool(one, other string) bool {
	a, _, said := strings.Cut(one, ".")
	b, _, too := strings.Cut(other, ".")
	return said && too && a != b
}

// AgentRun is a run as its agent sees it.
type AgentRun struct {
	Run     int64  `json:"run"`
	State   string `json:"state" enum:"claimed,running,finishing"`
	Spooled int64  `json:"spooled,omitempty" doc:"Bytes of logs that the servers do not have yet."`
}

// AgentSynced is what an agent is to do.
type AgentSynced struct {
	Protocol    int   `json:"protocol"`
	LeaseMillis int64 `json:"lease_ms" doc:"How long a claim lasts, from the sending of the call that renewed it."`
	NextMillis  int64 `json:"next_ms" doc:"When to call again."`
	// Desired is what an administrator wants: run, drain (take nothing new), stop.
	Desired string  `json:"desired" enum:"run,drain,stop"`
	Offers  []Offer `json:"offers,omitempty"`
	// Renewed are the runs whose leases this call renewed.
	Renewed []int64 `json:"renewed,omitempty"`
	Stop    []Stop  `json:"stop,omitempty"`
	// Forget are runs that the servers have closed: kill what is left of them.
	Forget   []int64  `json:"forget,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Token is to take the place of the agent's token: keep it before the next call.
	Token string `json:"token,omitempty"`
}

// Offer is something that an agent could take up. It is a hint: claiming decides.
type Offer struct {
	// Kind is job, or that of a special task.
	Kind string `json:"kind" enum:"job,Verify,Cleanup,Reset,Provision,Repair"`
	Task int64  `json:"task,omitempty"`
	Job  int64  `json:"job,omitempty"`
	// Entries are the queue entries that start together, the first one alone names them all.
	Entries []int64  `json:"entries,omitempty"`
	Hosts   []string `json:"hosts"`
}

// Stop asks for the end of a run.
type Stop struct {
	Run         int64  `json:"run"`
	Reason      string `json:"reason" enum:"aborted,timeout,agent-stop,lease-lost"`
	GraceMillis int64  `json:"grace_ms"`
}

// ClaimInput takes an offer up. The same key gets the same answer.
type ClaimInput struct {
	Session  string `json:"session" minLength:"1" maxLength:"64"`
	ClaimKey string `json:"claim_key" minLength:"16" maxLength:"64"`
	Offer    Offer  `json:"offer"`
}

// OwnClaimInput takes a job up that the caller submitted to run it himself. The answer waits
// until its hosts are there, at most WaitMillis.
type OwnClaimInput struct {
	ClaimKey   string `json:"claim_key" minLength:"16" maxLength:"64"`
	WaitMillis int64  `json:"wait_ms,omitempty" minimum:"0" maximum:"20000"`
}

// OwnClaimed has either a claim, or why there is none yet.
type OwnClaimed struct {
	Claimed *Claimed `json:"claimed,omitempty"`
	Waiting string   `json:"waiting,omitempty" doc:"Why the job waits, in one line for people."`
	// State is the job's: queued, running, or how it ended without a run.
	State    JobState `json:"state"`
	Deserted bool     `json:"deserted,omitempty" doc:"The job was ended because nobody had asked for it for a minute. Who still wants it submits it again."`
}

// Claimed is a run that was taken up.
type Claimed struct {
	Run         int64     `json:"run"`
	Token       string    `json:"token" doc:"For all calls of this run; ends with it."`
	LeaseMillis int64     `json:"lease_ms"`
	Hosts       []RunHost `json:"hosts"`
	Manifest    Manifest  `json:"manifest"`
}

// RunHost is a host of a run. The epoch is its fencing token: it is higher than any before.
type RunHost struct {
	Hostname string   `json:"hostname"`
	Epoch    int64    `json:"epoch"`
	Entry    int64    `json:"entry,omitempty"`
	Labels   []string `json:"labels,omitempty"`
}

// EpochsText are the epochs of the hosts of a run, in their order, as commands are told them.
func EpochsText(hosts []RunHost) string {
	texts := make([]string, len(hosts))
	for i := range hosts {
		texts[i] = strconv.FormatInt(hosts[i].Epoch, 10)
	}
	return strings.Join(texts, " ")
}

// Manifest is what to do.
type Manifest struct {
	Kind    string            `json:"kind"`
	Job     int64             `json:"job,omitempty"`
	Task    int64             `json:"task,omitempty"`
	Name    string            `json:"name,omitempty"`
	Owner   string            `json:"owner,omitempty"`
	Script  string            `json:"script,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	Keyvals map[string]string `json:"keyvals,omitempty"`
	// Secrets name variables of Env whose values are masked in logs.
	Secrets   []string `json:"secrets,omitempty"`
	Artifacts []string `json:"artifacts,omitempty" doc:"Patterns of files to keep, relative to the run's folder."`
	Results   string   `json:"results,omitempty" doc:"junit or tap."`
	// ResultFiles are patterns, too; without one the agent knows where to look.
	ResultFiles []string `json:"result_files,omitempty"`
	// Fence means that the hosts may still be in use by a run that was lost: end that first.
	Fence        bool  `json:"fence,omitempty"`
	HardMillis   int64 `json:"hard_ms,omitempty" doc:"How long the run may take, 0 for any time."`
	OutputMillis int64 `json:"output_ms,omitempty" doc:"How long it may say nothing, 0 for any time."`
	GraceMillis  int64 `json:"grace_ms" doc:"How long it has between being asked to end and being killed."`
	LogCap       int64 `json:"log_cap" doc:"Bytes of a stream that are kept."`
}

// RunState tells how far a run is: its process begins, or ended. Repeating it changes nothing.
// An agent begins the process of a job only after the servers have answered that they know: a
// run that is lost before that is run again elsewhere.
type RunState struct {
	Phase    string `json:"phase" enum:"running,finishing"`
	ExitCode *int   `json:"exit_code,omitempty"`
	Signal   *int   `json:"signal,omitempty"`
}

// RunAnswer is the answer to every call of a run, which renews its lease.
type RunAnswer struct {
	LeaseMillis int64 `json:"lease_ms"`
	Stop        *Stop `json:"stop,omitempty"`
	// Unfinished answers a finish (202) that comes before all of its logs: send them, and
	// finish again.
	Unfinished bool `json:"unfinished,omitempty"`
}

// RunFinish ends a run.
type RunFinish struct {
	// Result is passed, failed, or unusable: the host needs repair. infra: the run could not
	// be made, which is not the job's fault.
	Result       string `json:"result" enum:"passed,failed,unusable,infra"`
	ExitCode     *int   `json:"exit_code,omitempty"`
	Signal       *int   `json:"signal,omitempty"`
	TestsFailed  int    `json:"tests_failed,omitempty" minimum:"0"`
	StopReason   string `json:"stop_reason,omitempty" enum:",aborted,timeout,timeout-output,agent-stop,lease-lost"`
	NotRunReason string `json:"not_run_reason,omitempty" maxLength:"32" doc:"Set if the command was never begun."`
	Detail       string `json:"detail,omitempty" maxLength:"500"`
	// Streams are the logs that the servers must have before the run is closed.
	Streams []StreamEnd `json:"streams,omitempty" maxItems:"16"`
	// Tests are the results of single tests, if the job has such.
	Tests []TestResult `json:"tests,omitempty" maxItems:"100000"`
}

// StreamEnd is how much of a log there is. Cut counts what was over the cap.
type StreamEnd struct {
	Stream string `json:"stream" pattern:"^[a-z]{1,32}$"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	Cut    int64  `json:"cut,omitempty"`
}

// TestResult is the result of one test of a run.
type TestResult struct {
	Name    string `json:"name"`
	Status  string `json:"status" enum:"passed,failed,skipped,error"`
	Millis  int64  `json:"ms,omitempty"`
	Message string `json:"message,omitempty"`
}

// Run is a run with what became of it, for people.
type Run struct {
	ID           int64      `json:"id"`
	Kind         string     `json:"kind"`
	State        string     `json:"state" enum:"claimed,running,finishing,done,lost"`
	Job          int64      `json:"job,omitempty"`
	Task         int64      `json:"task,omitempty"`
	Agent        string     `json:"agent,omitempty"`
	Login        string     `json:"login,omitempty"`
	Hosts        []RunHost  `json:"hosts"`
	LeaseUntil   time.Time  `json:"lease_until"`
	Claimed      time.Time  `json:"claimed"`
	Started      *time.Time `json:"started,omitempty"`
	Ended        *time.Time `json:"ended,omitempty" doc:"When its process ended."`
	Closed       *time.Time `json:"closed,omitempty" doc:"When all about it was known."`
	ExitCode     *int       `json:"exit_code,omitempty"`
	Signal       *int       `json:"signal,omitempty"`
	Result       string     `json:"result,omitempty"`
	Tests        int        `json:"tests,omitempty" doc:"How many results of single tests there are."`
	TestsFailed  int        `json:"tests_failed,omitempty"`
	StopReason   string     `json:"stop_reason,omitempty"`
	NotRunReason string     `json:"not_run_reason,omitempty"`
	Detail       string     `json:"detail,omitempty"`
}

// ExtendInput lets a reservation end later.
type ExtendInput struct {
	For string `json:"for" maxLength:"40" doc:"By how long, like 1h."`
}

// Agent is an agent as administrators see it: what they want of it, and what it does.
type Agent struct {
	Name          string     `json:"name"`
	Hosts         []string   `json:"hosts"`
	Desired       string     `json:"desired" enum:"run,drain,stop"`
	DesiredBy     string     `json:"desired_by,omitempty"`
	DesiredReason string     `json:"desired_reason,omitempty"`
	State         string     `json:"state" enum:"new,online,unreachable,draining,drained,stopped,revoked" doc:"Derived: what is wanted, when it was seen, and its runs."`
	Seen          *time.Time `json:"seen,omitempty"`
	Version       string     `json:"version,omitempty"`
	Protocol      int        `json:"protocol,omitempty"`
	Address       string     `json:"address,omitempty"`
	Capacity      int        `json:"capacity" doc:"How many more runs it takes."`
	Unfit         string     `json:"unfit,omitempty" doc:"Why it takes nothing now."`
	Runs          []int64    `json:"runs,omitempty" doc:"Runs that are not closed."`
	Created       time.Time  `json:"created"`
	CreatedBy     string     `json:"created_by"`
}

// States of agents.
const (
	AgentNew         = "new"
	AgentOnline      = "online"
	AgentUnreachable = "unreachable"
	AgentDraining    = "draining"
	AgentDrained     = "drained"
	AgentStopped     = "stopped"
	AgentRevoked     = "revoked"
)

// AgentStates are all of them.
var AgentStates = []string{AgentNew, AgentOnline, AgentUnreachable, AgentDraining, AgentDrained, AgentStopped, AgentRevoked}

// What an administrator wants of an agent. One that is to stop ends its runs, and itself.
const (
	DesiredRun   = "run"
	DesiredDrain = "drain"
	DesiredStop  = "stop"
)

// AgentInput is a new agent.
type AgentInput struct {
	Name  string   `json:"name" minLength:"1" maxLength:"63" pattern:"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$" patternDescription:"lower case letters, digits, dots, hyphens and underscores"`
	Hosts []string `json:"hosts,omitempty" maxItems:"100000" doc:"The hosts that it serves; a host has one agent."`
}

// AgentAdded is a new agent with the token by which its machine becomes it.
type AgentAdded struct {
	Agent Agent     `json:"agent"`
	Join  JoinToken `json:"join"`
}

// AgentPatch changes which hosts an agent serves.
type AgentPatch struct {
	AddHosts    []string `json:"add_hosts,omitempty" maxItems:"100000"`
	RemoveHosts []string `json:"remove_hosts,omitempty" maxItems:"100000"`
	Take        bool     `json:"take,omitempty" doc:"Also take hosts from other agents."`
}

// AgentWish says why somebody wants something of an agent.
type AgentWish struct {
	Reason string `json:"reason,omitempty" maxLength:"500"`
}

// JoinToken is what a new agent shows to become the one of this name, once.
type JoinToken struct {
	Agent   string    `json:"agent"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// The results of a run.
const (
	ResultPassed   = "passed"
	ResultFailed   = "failed"
	ResultUnusable = "unusable"
	ResultInfra    = "infra"
)

// The exit codes by which a job's command says more than that it failed.
const (
	exitUnusable = 69 // EX_UNAVAILABLE: the host needs repair
	exitInfra    = 75 // EX_TEMPFAIL: the lab failed, not the job
)

// ResultOf is the result of a run whose command ended with an exit code.
func ResultOf(code int) string {
	switch code {
	case 0:
		return ResultPassed
	case exitUnusable:
		return ResultUnusable
	case exitInfra:
		return ResultInfra
	}
	return ResultFailed
}
