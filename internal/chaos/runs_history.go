package main

import (
	"context"
	"fmt"
)

// runTexts record what happens to runs, hosts' epochs and entries:
//
//   - every host that a run takes, with its epoch and the run's kind, and when the run is closed;
//   - every change of a run that was closed, or whose host has another epoch by now;
//   - every change of an entry that was complete, and every one after which its flags do not
//     follow its status.
//
// Events are numbered under the locks of the rows that they are about, so those of a host are
// in order: whoever takes a host or gives it back has locked its epoch.
var runTexts = []string{
	"CREATE TABLE chaos_runs (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, event VARCHAR(8) NOT NULL, run_id BIGINT NOT NULL, host_id BIGINT NOT NULL, epoch BIGINT NOT NULL, kind VARCHAR(16) NOT NULL, state VARCHAR(16) NOT NULL, lease_until BIGINT NOT NULL, at BIGINT NOT NULL, KEY chaos_runs_host (host_id, id), KEY chaos_runs_run (run_id))",
	"CREATE TABLE chaos_wrong (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, what VARCHAR(32) NOT NULL, detail VARCHAR(500) NOT NULL, at BIGINT NOT NULL)",
	"CREATE TRIGGER chaos_run_takes AFTER INSERT ON hostsched_run_hosts FOR EACH ROW INSERT INTO chaos_runs (event, run_id, host_id, epoch, kind, state, lease_until, at) " +
		"SELECT 'take', NEW.run_id, NEW.host_id, NEW.epoch, r.kind, r.state, r.lease_until, " + micros + " FROM hostsched_runs r WHERE r.id = NEW.run_id",
	"CREATE TRIGGER chaos_run_closes AFTER UPDATE ON hostsched_runs FOR EACH ROW BEGIN " +
		"IF NEW.state IN ('done', 'lost') AND OLD.state NOT IN ('done', 'lost') THEN INSERT INTO chaos_runs (event, run_id, host_id, epoch, kind, state, lease_until, at) " +
		"SELECT 'give', NEW.id, h.host_id, h.epoch, NEW.kind, NEW.state, OLD.lease_until, " + micros + " FROM hostsched_run_hosts h WHERE h.run_id = NEW.id; END IF; " +
		"IF OLD.state IN ('done', 'lost') AND (NEW.state <> OLD.state OR NEW.lease_until <> OLD.lease_until OR COALESCE(NEW.exit_code, -1) <> COALESCE(OLD.exit_code, -1) OR NEW.result <> OLD.result) THEN " +
		"INSERT INTO chaos_wrong (what, detail, at) VALUES ('closed run changed', CONCAT('run ', OLD.id, ' was ', OLD.state, ' ', OLD.result, ' and becomes ', NEW.state, ' ', NEW.result), " + micros + "); END IF; " +
		"IF (NEW.state <> OLD.state OR NEW.lease_until <> OLD.lease_until) AND EXISTS (SELECT 1 FROM hostsched_run_hosts h JOIN hostsched_host_epochs e ON e.host_id = h.host_id WHERE h.run_id = NEW.id AND e.epoch <> h.epoch) THEN " +
		"INSERT INTO chaos_wrong (what, detail, at) VALUES ('former epoch', CONCAT('run ', OLD.id, ' was ', OLD.state, ' and becomes ', NEW.state), " + micros + "); END IF; END",
	"CREATE TRIGGER chaos_entry_changes AFTER UPDATE ON afe_host_queue_entries FOR EACH ROW BEGIN " +
		"IF OLD.complete = 1 AND (NEW.complete = 0 OR NEW.status <> OLD.status) THEN " +
		"INSERT INTO chaos_wrong (what, detail, at) VALUES ('ended twice', CONCAT('entry ', OLD.id, ' was ', OLD.status, ' and becomes ', NEW.status), " + micros + "); END IF; " +
		"IF NEW.complete <> (NEW.status IN ('Completed', 'Failed', 'Aborted', 'Stopped')) OR (NEW.status = 'Queued' AND NEW.active = 1 AND NEW.host_id IS NULL) OR (NEW.status <> 'Queued' " +
		"AND NEW.active <> (NEW.status IN ('Starting', 'Resetting', 'Verifying', 'Provisioning', 'Cleaning', 'Pending', 'Running', 'Gathering'))) THEN " +
		"INSERT INTO chaos_wrong (what, detail, at) VALUES ('flags', CONCAT('entry ', NEW.id, ' is ', NEW.status, ', active ', NEW.active, ', complete ', NEW.complete), " + micros + "); END IF; END",
}

// runJudge counts what must not be in the history of runs, in a figure of the report.
type runJudge struct {
	what, query string
	figure      func(*RunsReport) *int64
}

// fenceKinds are runs that end what is left of a lost one, or that find out.
const fenceKinds = "'Reset', 'Repair', 'Provision', 'Verify', 'Cleanup'"

// served holds for events of hosts that an agent serves: on others special tasks count as done
// without a run.
const served = "host_id IN (SELECT a.host_id FROM hostsched_agent_hosts a)"

var runJudges = []runJudge{
	{"hosts with two runs at once", `SELECT COUNT(*) FROM (SELECT event, LAG(event) OVER (PARTITION BY host_id ORDER BY id) AS former FROM chaos_runs) w
	   WHERE event = 'take' AND former = 'take'`, func(r *RunsReport) *int64 { return &r.HostsUsedTwice }},
	{"epochs that did not rise", `SELECT COUNT(*) FROM (SELECT epoch, LAG(epoch) OVER (PARTITION BY host_id ORDER BY id) AS former FROM chaos_runs WHERE event = 'take') w
	   WHERE former IS NOT NULL AND epoch <= former`, underFormerEpoch},
	{"jobs that ran directly after a lost run", `SELECT COUNT(*) FROM (SELECT host_id, event, kind, LAG(state) OVER (PARTITION BY host_id ORDER BY id) AS former FROM chaos_runs) w
	   WHERE event = 'take' AND former = 'lost' AND kind NOT IN (` + fenceKinds + `) AND ` + served, func(r *RunsReport) *int64 { return &r.RunsNotFenced }},
	{"closed runs that changed", "SELECT COUNT(*) FROM chaos_wrong WHERE what = 'closed run changed'", underFormerEpoch},
	{"runs that changed under a former epoch", "SELECT COUNT(*) FROM chaos_wrong WHERE what = 'former epoch'", underFormerEpoch},
	{"entries that ended twice", "SELECT COUNT(*) FROM chaos_wrong WHERE what = 'ended twice'", func(r *RunsReport) *int64 { return &r.EntriesEndedTwice }},
	{"entries whose flags do not follow their status", "SELECT COUNT(*) FROM chaos_wrong WHERE what = 'flags'", func(r *RunsReport) *int64 { return &r.EntriesInconsistent }},
}

func underFormerEpoch(r *RunsReport) *int64 { return &r.RunsUnderFormerEpoch }

// judgeRuns adds what is wrong in the history of runs to the report, and says what it is.
func (c *chaos) judgeRuns(ctx context.Context, r *RunsReport) (wrong []string, err error) {
	for _, j := range runJudges {
		n, err := c.number(ctx, j.query)
		if err != nil {
			return nil, err
		}
		if *j.figure(r) += n; n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d %s", n, j.what))
		}
	}
	return wrong, nil
}

// lostAfterOutage counts runs that were given up because of their leases, although no server had been
// there to renew them until a moment, and one lease later not yet.
const lostAfterOutage = "SELECT COUNT(*) FROM chaos_runs e JOIN hostsched_runs r ON r.id = e.run_id WHERE e.event = 'give' AND e.state = 'lost' AND r.detail LIKE 'its lease ended%' AND e.at BETWEEN ? AND ?"

// restJudge counts what must be nothing when a lab of runs is at rest.
type restJudge struct {
	what, query string
	// hosts means that hosts are left behind, otherwise entries, tasks or runs are.
	hosts bool
}

var runsAtRest = []restJudge{
	{"entries are open", openEntries, false},
	{"tasks are open", openTasks, false},
	{"runs are open", "SELECT COUNT(*) FROM hostsched_runs WHERE state NOT IN ('done', 'lost')", false},
	{"hosts are neither ready nor broken", "SELECT COUNT(*) FROM afe_hosts WHERE invalid = 0 AND status NOT IN ('Ready', 'Repair Failed')", true},
	{"hosts are leased for nobody", "SELECT COUNT(*) FROM afe_hosts WHERE invalid = 0 AND leased = 1 AND status = 'Ready'", true},
}

// notAtRest tells what is still left, and how many hosts and others that are.
func (c *chaos) notAtRest(ctx context.Context) (left []string, hosts, others int64, err error) {
	for _, j := range runsAtRest {
		n, err := c.number(ctx, j.query)
		if err != nil {
			return nil, 0, 0, err
		}
		if n == 0 {
			continue
		}
		left = append(left, fmt.Sprintf("%d %s", n, j.what))
		if j.hosts {
			hosts += n
		} else {
			others += n
		}
	}
	return left, hosts, others, nil
}
