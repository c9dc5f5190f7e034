package metrics_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/metrics"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
)

const rulesFile = "../../deploy/prometheus/rules.yaml"

// alert is a rule of the file, as far as these tests look at it.
type alert struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) (all []alert) {
	text, err := os.ReadFile(rulesFile)
	require.NoError(t, err)
	var file struct{ Groups []struct{ Rules []alert } }
	require.NoError(t, yaml.Unmarshal(text, &file))
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	require.NotEmpty(t, all)
	return all
}

// TestAlertsFire lets promtool try every alert.
func TestAlertsFire(t *testing.T) {
	promtool := testserver.Promtool(t)
	tests, err := filepath.Abs("../../deploy/prometheus/rules_test.yaml")
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", tests).CombinedOutput()
	require.NoError(t, err, "%s", out)
	text, err := os.ReadFile(tests)
	require.NoError(t, err)
	for _, a := range alerts(t) {
		require.Contains(t, string(text), "name: "+a.Alert+" fires\n")
		require.Contains(t, string(text), "name: "+a.Alert+" is quiet\n")
	}
}

// TestAlertsHaveRunbooks: each links to a chapter that is there, and no chapter is left over.
func TestAlertsHaveRunbooks(t *testing.T) {
	text, err := os.ReadFile("../../docs/runbooks.md")
	require.NoError(t, err)
	chapters := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(string(text), -1) {
		chapters[m[1]] = true
	}
	for _, a := range alerts(t) {
		require.True(t, chapters[a.Alert], "docs/runbooks.md has no chapter %s", a.Alert)
		delete(chapters, a.Alert)
		require.True(t, strings.HasSuffix(a.Annotations["runbook_url"], "docs/runbooks.md#"+strings.ToLower(a.Alert)), a.Alert) // as GitHub makes anchors
		require.Contains(t, []string{"warning", "critical"}, a.Labels["severity"])
		require.NotEmpty(t, a.Annotations["summary"])
	}
	require.Empty(t, chapters, "chapters without alert")
}

// watchedElsewhere are the metrics about which no alert asks, and why nobody need be called.
var watchedElsewhere = map[string][]string{
	"a figure to look at, without a value that is wrong everywhere": {
		"tick_duration_seconds", "snapshot_duration_seconds", "plan_duration_seconds", "lease_duration_seconds", "schedule_duration_seconds", "release_duration_seconds", "takeover_duration_seconds",
		"longest_transaction_seconds", "wake_seconds", "queued_seconds", "ticks_total", "assignments_total", "releases_total", "moves_total", "entries_without_host", "token", "hosts", "pool_waiting_entries", "waiting_entries",
		"api_request_seconds", "metadata_sent_total", "role",
	},
	"it belongs to faults that are mended by themselves, and whose repetition another alert tells": {
		"conflicts_total", "locked_rows_total", "fenced_writes_total", "replanned_ticks_total", "condemned_replicas_total", "failovers", "not_leading",
	},
}

// TestMetricsHaveAlerts: every metric is asked about by an alert, or is one about which nobody need
// be called.
func TestMetricsHaveAlerts(t *testing.T) {
	asked := map[string]bool{}
	for _, a := range alerts(t) {
		for _, name := range regexp.MustCompile(`hostsched_\w+`).FindAllString(a.Expr, -1) {
			asked[name] = true
		}
	}
	for why, names := range watchedElsewhere {
		for _, name := range names {
			require.False(t, asked["hostsched_"+name], "%s has an alert, and not %q", name, why)
			asked["hostsched_"+name] = true
		}
	}
	for name := range exportedNames(t) {
		require.True(t, asked[name], "%s has no alert: write one, or say in watchedElsewhere why nobody need be called", name)
		delete(asked, name)
	}
	require.Empty(t, asked, "no replica has these")
}

// TestExpressionsNameMetrics: alerts and dashboards ask for metrics that there are.
func TestExpressionsNameMetrics(t *testing.T) {
	exported := exportedNames(t)
	for _, a := range alerts(t) {
		requireExported(t, exported, a.Alert, a.Expr)
	}
	files, err := filepath.Glob("../../deploy/grafana/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var dashboard struct {
			Panels []struct {
				Type, Title string
				Targets     []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal(text, &dashboard))
		for _, p := range dashboard.Panels {
			require.True(t, p.Type == "row" || len(p.Targets) > 0, p.Title)
			for _, target := range p.Targets {
				requireExported(t, exported, p.Title, target.Expr)
			}
		}
	}
}

// TestAlertComparesAllRules: replicas that differ in any setting on which decisions depend are
// told apart, and others are not, whatever labels a scrape adds.
func TestAlertComparesAllRules(t *testing.T) {
	text, err := os.ReadFile(rulesFile)
	require.NoError(t, err)
	labels := []string{"only_shard"}
	for name := range new(config.Config).Rules() {
		labels = append(labels, strings.ReplaceAll(name, ".", "_"))
	}
	compared := regexp.MustCompile(`\(count by \(([^)]*)\) \(hostsched_rules_info\)\)`).FindSubmatch(text)
	require.NotNil(t, compared)
	require.ElementsMatch(t, labels, strings.Split(string(compared[1]), ", "))
}

func requireExported(t *testing.T, exported map[string]bool, where, expr string) {
	t.Helper()
	names := regexp.MustCompile(`hostsched_\w+`).FindAllString(expr, -1)
	for _, name := range names {
		require.True(t, exported[name] || exported[strings.TrimSuffix(name, "_bucket")], "%s asks for %s, which no replica has", where, name)
	}
	require.True(t, len(names) > 0 || strings.Contains(expr, `up{job="hostsched"}`), "%s: %s", where, expr)
}

// exportedNames are the names of all metrics that a replica can have.
func exportedNames(t *testing.T) map[string]bool {
	r := prometheus.NewRegistry()
	m := metrics.New(r)
	m.Build("1")
	m.Rules("", map[string]string{"scheduler.policy": "exact"})
	m.Background("sweeps")
	m.Lab(func() *metrics.Lab { return nil })
	m.Replica(func() metrics.Replica { return metrics.Replica{} })
	m.Metadata(func() int64 { return 0 }, func() int64 { return 0 })
	m.NotLeading(func() map[shard.Name]replica.NotLeading { return nil })
	m.NotServed(func() int { return 0 })
	m.Unheard(func() int { return 0 })
	m.Certificate(func() *certs.State { return &certs.State{} })
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		r.Describe(descriptions)
	}()
	names := map[string]bool{}
	for d := range descriptions {
		name := regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())
		require.NotNil(t, name, d.String())
		names[name[1]] = true
	}
	return names
}

// TestNamesOfMetrics: what counts up ends in _total, times are in seconds, nothing is
// abbreviated.
func TestNamesOfMetrics(t *testing.T) {
	for name := range exportedNames(t) {
		require.Regexp(t, `^hostsched_[a-z]+(_[a-z]+)*$`, name)
		require.NotRegexp(t, `_(ms|millis|minutes|hours|count|ns)$`, name)
	}
}

// TestLab: each pool is there once, whatever its name; the largest are there if they are too
// many; nothing is there where another replica tells it.
func TestLab(t *testing.T) {
	var now *metrics.Lab
	m := metrics.New(prometheus.NewRegistry())
	m.Lab(func() *metrics.Lab { return now })
	require.NotContains(t, text(m), "hostsched_hosts{")
	now = &metrics.Lab{
		Hosts: map[string]int{"idle": 3}, Bad: 2, Unfit: 1, Agents: map[string]int{"online": 4}, Guard: true,
		Waiting: map[metrics.Waiting]int{{Priority: "40-59", Age: "1m-10m"}: 5}, Holds: map[metrics.Hold]int{{Kind: "lock", Overdue: true}: 6}, Failovers: map[shard.Name]int{"\xff": 7},
	}
	for _, name := range []string{"a", "b\n", `b\n`, "\xff", "pool:\"x\""} {
		now.Pools = append(now.Pools, metrics.Pool{Label: name, Hosts: map[string]int{"idle": 1000}, Waiting: 7, OldestWait: 1.5})
	}
	for n := range 500 {
		now.Pools = append(now.Pools, metrics.Pool{Label: fmt.Sprintf("small%d", n), Hosts: map[string]int{"idle": n}})
	}
	page := text(m)
	require.Contains(t, page, `hostsched_hosts{state="idle"} 3`)
	require.Contains(t, page, "hostsched_bad_hosts 2")
	require.Contains(t, page, `hostsched_agents{state="online"} 4`)
	require.Contains(t, page, "hostsched_agents_unfit 1")
	require.Contains(t, page, `hostsched_waiting_entries{age="1m-10m",priority="40-59"} 5`)
	require.Contains(t, page, `hostsched_holds{kind="lock",overdue="true"} 6`)
	require.Contains(t, page, `hostsched_failovers{shard=`)
	require.Contains(t, page, "hostsched_guard_present 1")
	require.Contains(t, page, `hostsched_pool_hosts{pool="a",state="idle"} 1000`)
	require.Contains(t, page, `hostsched_pool_oldest_wait_seconds{pool="a"} 1.5`)
	require.Contains(t, page, `pool="small499"`)
	require.NotContains(t, page, `pool="small1"`)
	require.LessOrEqual(t, strings.Count(page, "hostsched_pool_waiting_entries{"), 200)
}

// TestReplica: of the roles one is 1, and shards that are gone have no series.
func TestReplica(t *testing.T) {
	now := metrics.Replica{Role: "backup", Etcd: true, Shards: []replica.Status{{Shard: "master"}, {Shard: "east", Paused: "power work"}}}
	m := metrics.New(prometheus.NewRegistry())
	m.Replica(func() metrics.Replica { return now })
	page := text(m)
	for _, line := range []string{`hostsched_role{role="primary"} 0`, `hostsched_role{role="backup"} 1`, `hostsched_role{role="none"} 0`,
		"hostsched_etcd_up 1", "hostsched_database_up 0", `hostsched_paused{shard="master"} 0`, `hostsched_paused{shard="east"} 1`} {
		require.Contains(t, page, line)
	}
	now.Shards = now.Shards[:1]
	require.NotContains(t, text(m), `shard="east"`)
}

// TestLastTick is when the leader's latest tick ended, and nothing once it does not lead.
func TestLastTick(t *testing.T) {
	m := metrics.New(prometheus.NewRegistry())
	m.Serves("s")
	require.Contains(t, text(m), `hostsched_last_tick_timestamp_seconds{shard="s"} 0`)
	m.Leading("s", 1, time.Second)
	m.Ticked("s", replica.Report{})
	require.NotContains(t, text(m), `hostsched_last_tick_timestamp_seconds{shard="s"} 0`)
	m.Ended("s", nil)
	require.Contains(t, text(m), `hostsched_last_tick_timestamp_seconds{shard="s"} 0`)
}
