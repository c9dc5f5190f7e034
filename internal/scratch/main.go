package main

import (
"strconv"
"os/exec"
"runtime/pprof"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"os"
	"time"
	"sort"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

func entriesN() int { if os.Getenv("N") != "" { n, _ := strconv.Atoi(os.Getenv("N")); return n }; return 20000 }
func must(err error) { if err != nil { panic(err) } }

func med(n int, f func()) time.Duration {
	var d []time.Duration
	for range n { t := time.Now(); f(); d = append(d, time.Since(t)) }
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	return d[len(d)/2]
}

func main() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "scratch")
	defer os.RemoveAll(dir)
	srv, err := testserver.StartMariaDB(dir)
	must(err)
	defer srv.Stop()
	dsn, err := srv.Create("x")
	must(err)
	db, err := store.Open(ctx, store.Config{DSN: dsn, TxTimeout: time.Minute})
	must(err)
	_, err = db.Migrate(ctx, store.MigrateOptions{})
	must(err)
	lb, err := lab.Create(ctx, db.SQL(), lab.Spec{Seed: 1, Hosts: 10000, Boards: 50, Suites: 100, Entries: entriesN(), MinimumShare: 0.1})
	must(err)
	_, err = db.SQL().ExecContext(ctx, "ANALYZE TABLE afe_hosts, afe_host_queue_entries, afe_jobs, afe_jobs_dependency_labels, afe_hosts_labels, afe_acl_groups_hosts, afe_special_tasks")
	must(err)
	l, err := db.TakeOver(ctx, store.Claim{Shard: shard.Master, Token: 1, Cluster: "bench", Holder: "bench"})
	must(err)
	run := func(title string) {
		fmt.Println("==", title)
		conn, err := db.SQL().Conn(ctx)
		must(err)
		defer conn.Close()
		for _, q := range queries {
			n := 0
			a := med(5, func() {
				n = 0
				rows, err := conn.QueryContext(ctx, q)
				must(err)
				cols, _ := rows.Columns()
				ptr := make([]any, len(cols)); vals := make([]sql.RawBytes, len(cols))
				for i := range ptr { ptr[i] = &vals[i] }
				for rows.Next() { must(rows.Scan(ptr...)); n++ }
				must(rows.Close())
			})
			b := med(5, func() {
				must(conn.Raw(func(dc any) error {
					rows, err := dc.(driver.QueryerContext).QueryContext(ctx, q, nil)
					if err != nil { return err }
					dest := make([]driver.Value, len(rows.Columns()))
					for {
						if err := rows.Next(dest); err == io.EOF { break } else if err != nil { return err }
					}
					return rows.Close()
				}))
			})
			c := med(5, func() {
				var x any
				must(conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM (" + q + ") t").Scan(&x))
			})
			fmt.Printf("%6d rows  scan %7.1f  raw %7.1f count %7.1f  %.150s\n", n, a.Seconds()*1e3, b.Seconds()*1e3, c.Seconds()*1e3, q)
		}
	}
	snaps := db.Snapshots(store.Scope{Shard: shard.Master})
	next := func(what string) *scheduler.Snapshot {
		t := time.Now()
		s, changed, err := snaps.Next(ctx)
		must(err)
		fmt.Printf("%-20s %7.1f ms changed %v entries %d\n", what, time.Since(t).Seconds()*1e3, changed, len(s.Entries))
		return s
	}
	next("cold")
	for range 3 { snaps = db.Snapshots(store.Scope{Shard: shard.Master}); next("cold again") }
	if len(os.Args) > 1 && os.Args[1] == "prof" {
		f, _ := os.Create("/tmp/snap.prof")
		pprof.StartCPUProfile(f)
		for range 40 { snaps = db.Snapshots(store.Scope{Shard: shard.Master}); next("cold again") }
		pprof.StopCPUProfile()
		f.Close()
		return
	}
	for range 4 { next("warm") }
	time.Sleep(3 * time.Second)
	for range 26 { next("settled") }
	s := next("")
	p := scheduler.MakePlan(s)
	fmt.Println("assigned", len(p.Assignments))
	if len(os.Args) > 1 && os.Args[1] == "x" { variants(ctx, db, p); return }
	if len(os.Args) > 1 && os.Args[1] == "s" {
		if len(os.Args) > 2 {
			switch os.Args[2] {
			case "nopurge":
				c, _ := db.SQL().Conn(ctx)
				defer c.Close()
				c.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
			case "fk":
				srv.Admin().Exec("SET GLOBAL foreign_key_checks=0")
				l.Close()
				l, err = db.TakeOver(ctx, store.Claim{Shard: shard.Master, Token: 2, Cluster: "bench", Holder: "bench"})
				must(err)
			default:
				for _, q := range os.Args[2:] {
				if q == "bare" { continue }
				_, err := srv.Admin().Exec(q)
				must(err)
				}
			}
		}
		if len(os.Args) > 2 && os.Args[2] == "bare" {
			bare(ctx, db, p)
			return
		}
		if os.Getenv("PERF") != "" {
			c := exec.Command("sh", "-c", "perf record -F 2000 -g -o /tmp/perf.data -p $(pidof mariadbd) -- sleep 0.6 2>/tmp/perf.err")
			must(c.Start())
			time.Sleep(100*time.Millisecond)
			defer c.Wait()
		}
		t := time.Now()
		res, err := l.Apply(ctx, p)
		must(err)
		fmt.Println("apply", time.Since(t), res.LongestTx, res.Transactions)
		for range 5 { next("after full") }
		if os.Getenv("PROF") != "" {
			f, _ := os.Create("/tmp/snap.prof")
			pprof.StartCPUProfile(f)
			for range 100 { must(lb.AddSuite(ctx, db.SQL(), 2)); s := next("busy"); t := time.Now(); scheduler.MakePlan(s); fmt.Println("plan", time.Since(t)) }
			pprof.StopCPUProfile()
			f.Close()
		}
		return
	}
	run("all free")
	res, err := l.Apply(ctx, p)
	must(err)
	fmt.Println(res.LongestTx, res.Transactions)
	run("after full")
}

const pend = "q.status = 'Queued' AND q.active = 0 AND q.complete = 0 AND q.aborted = 0 AND (q.host_id IS NOT NULL OR q.meta_host IS NOT NULL)"

var queries = []string{
	"SELECT id, hostname, status, locked, invalid, leased, dirty, protection, shard_id, CASE WHEN locked = 1 THEN lock_reason END, CASE WHEN locked = 1 THEN lock_time END FROM afe_hosts h",
	"SELECT id, hostname, status, locked, invalid, leased, dirty, protection, shard_id FROM afe_hosts h",
	"SELECT leased, locked, GROUP_CONCAT(id) FROM afe_hosts h GROUP BY leased, locked",
	"SELECT id, leased, locked FROM afe_hosts FORCE INDEX(afe_hosts_leased_hosts)",
	"SELECT shard_id, GROUP_CONCAT(id) FROM afe_hosts h GROUP BY shard_id",
	"SELECT host_id, label_id FROM afe_hosts_labels",
	"SELECT label_id, GROUP_CONCAT(host_id) FROM afe_hosts_labels GROUP BY label_id",
	"SELECT host_id, aclgroup_id FROM afe_acl_groups_hosts",
	"SELECT aclgroup_id, GROUP_CONCAT(host_id) FROM afe_acl_groups_hosts GROUP BY aclgroup_id",
	"SELECT host_id, id FROM afe_host_queue_entries WHERE active = 1",
	"SELECT GROUP_CONCAT(id) FROM afe_host_queue_entries WHERE active = 1",
	"SELECT host_id, queue_entry_id, is_active FROM afe_special_tasks WHERE is_complete = 0",
	"SELECT GROUP_CONCAT(id) FROM afe_special_tasks WHERE is_complete = 0 and is_active=0",
	"SELECT GROUP_CONCAT(id) FROM afe_special_tasks WHERE is_complete = 0 and is_active in (0,1)",
	"SELECT id FROM afe_host_queue_entries WHERE status='Queued'",
	"SELECT GROUP_CONCAT(id) FROM afe_host_queue_entries WHERE status='Queued'",
	"SELECT COUNT(*), SUM(id) FROM afe_host_queue_entries WHERE status='Queued'",
	"SELECT GROUP_CONCAT(id) FROM afe_host_queue_entries WHERE aborted=1 and complete=0",
	"SELECT q.id, q.job_id, q.host_id, q.meta_host FROM afe_host_queue_entries q WHERE " + pend,
	"SELECT q.id, q.job_id, q.host_id, q.meta_host, j.id jid, j.owner, j.priority, j.parent_job_id, j.synch_count, j.run_verify, j.run_reset, j.reboot_before, TIMESTAMPDIFF(SECOND, j.created_on, CURRENT_TIMESTAMP) FROM afe_host_queue_entries q LEFT JOIN afe_jobs j ON j.id = q.job_id WHERE " + pend,
	"SELECT d.job_id, d.label_id FROM (SELECT DISTINCT q.job_id FROM afe_host_queue_entries q WHERE " + pend + ") p JOIN afe_jobs_dependency_labels d ON d.job_id = p.job_id",
	"SELECT d.job_id, GROUP_CONCAT(d.label_id) FROM (SELECT DISTINCT q.job_id FROM afe_host_queue_entries q WHERE " + pend + ") p JOIN afe_jobs_dependency_labels d ON d.job_id = p.job_id GROUP BY d.job_id",
	"SELECT d.job_id, d.label_id FROM afe_host_queue_entries q JOIN afe_jobs_dependency_labels d ON d.job_id = q.job_id WHERE " + pend,
	"SELECT DISTINCT o.id, o.job_id, o.host_id, o.status, o.execution_subdir FROM afe_host_queue_entries q JOIN afe_host_queue_entries o ON o.job_id = q.job_id AND o.id <> q.id WHERE " + pend,
	"SELECT q.job_id FROM afe_host_queue_entries q WHERE " + pend + " GROUP BY q.job_id HAVING COUNT(*)>1",
	"SELECT job_id, label_id FROM afe_jobs_dependency_labels",
	"SELECT TABLE_NAME, UPDATE_TIME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'afe%'",
	"SELECT TABLE_NAME, UPDATE_TIME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('afe_hosts', 'afe_jobs','afe_host_queue_entries','afe_labels','afe_hosts_labels')",
	"SELECT TABLE_NAME, UPDATE_TIME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'afe_hosts'",
}

func variants(ctx context.Context, db *store.DB, p scheduler.Plan) {
	conn, err := db.SQL().Conn(ctx)
	must(err)
	conn.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
	for _, opt := range []string{"SET SESSION foreign_key_checks=1", "SET SESSION foreign_key_checks=0", "SET GLOBAL innodb_change_buffering=none", "SET GLOBAL innodb_adaptive_hash_index=ON", "SET GLOBAL innodb_purge_threads=1", "drop"} {
	  size := 2000
	  fmt.Println(opt)
	  if opt == "drop" {
	  	_, err = conn.ExecContext(ctx, "DROP INDEX hostsched_one_active_entry_per_host ON afe_host_queue_entries")
		must(err)
	  } else {
	  	_, err = conn.ExecContext(ctx, opt)
		must(err)
	  }
	  for range 2 {
		sums := map[string]time.Duration{}
		exec := func(name, q string) {
			t := time.Now()
			_, err := conn.ExecContext(ctx, q)
			if err != nil { fmt.Println(name, err) }
			sums[name] += time.Since(t)
		}
		as := p.Assignments
		exec("tmp", "CREATE TEMPORARY TABLE IF NOT EXISTS dec_t (entry INT PRIMARY KEY, host INT, job INT) ENGINE=MEMORY")
		for begin := 0; begin < len(as); begin += size {
			part := as[begin:min(len(as), begin+size)]
			sort.Slice(part, func(i, j int) bool { return part[i].Entry < part[j].Entry })
			var hosts, entries, inel, tasks, tmp, union, vals []byte
			for i, a := range part {
				if i > 0 { hosts = append(hosts, ','); entries = append(entries, ','); inel = append(inel, ','); tasks = append(tasks, ','); tmp = append(tmp, ','); union = append(union, " UNION ALL "...); vals = append(vals, ',') }
				hosts = fmt.Appendf(hosts, "%d", a.Host)
				entries = fmt.Appendf(entries, "%d", a.Entry)
				inel = fmt.Appendf(inel, "(%d,%d)", a.Job, a.Host)
				tmp = fmt.Appendf(tmp, "(%d,%d,%d)", a.Entry, a.Host, a.Job)
				union = fmt.Appendf(union, "SELECT %d e, %d h", a.Entry, a.Host)
				vals = fmt.Appendf(vals, "(%d,%d)", a.Entry, a.Host)
				tasks = fmt.Appendf(tasks, "(%d,'Reset',%d,1,0,0,0,0,NOW())", a.Host, a.Entry)
			}
			queued := " AND status = 'Queued' AND active = 0 AND complete = 0 AND aborted = 0"
			exec("begin", "START TRANSACTION")
			exec("hosts", "UPDATE afe_hosts FORCE INDEX (PRIMARY) SET leased = 1 WHERE leased = 0 AND locked = 0 AND id IN ("+string(hosts)+")")
			exec("rollback", "ROLLBACK")
			exec("begin", "START TRANSACTION")
			exec("entries case", "UPDATE afe_host_queue_entries FORCE INDEX (PRIMARY) SET active=1, host_id = "+caseOf(part)+" WHERE host_id IS NULL "+queued+" AND id IN ("+string(entries)+")")
			exec("rollback", "ROLLBACK")
			if false { exec("begin", "START TRANSACTION")
			exec("entries const", "UPDATE afe_host_queue_entries FORCE INDEX (PRIMARY) SET active=1, host_id = id % 10000 +1 WHERE host_id IS NULL "+queued+" AND id IN ("+string(entries)+")")
			exec("rollback", "ROLLBACK")
			exec("begin", "START TRANSACTION")
			}
			exec("begin", "START TRANSACTION")
			exec("ins tmp", "INSERT INTO dec_t VALUES "+string(tmp))
			exec("entries tmp", "UPDATE dec_t d STRAIGHT_JOIN afe_host_queue_entries q ON q.id = d.entry SET q.active=1, q.host_id = d.host WHERE q.host_id IS NULL AND q.status = 'Queued' AND q.active = 0 AND q.complete = 0 AND q.aborted = 0")
			exec("rollback", "ROLLBACK")
			exec("deltmp", "DELETE FROM dec_t")
			exec("begin", "START TRANSACTION")
			exec("entries json", "UPDATE JSON_TABLE('"+jsonOf(part)+"', '$[*]' COLUMNS(e INT PATH '$[0]', h INT PATH '$[1]')) d STRAIGHT_JOIN afe_host_queue_entries q ON q.id = d.e SET q.active=1, q.host_id = d.h WHERE q.host_id IS NULL AND q.status = 'Queued' AND q.active = 0 AND q.complete = 0 AND q.aborted = 0")
			exec("rollback", "ROLLBACK")
			exec("begin", "START TRANSACTION")
			exec("entries values", "UPDATE (WITH v(e,h) AS (VALUES "+string(vals)+") SELECT e, h FROM v) d STRAIGHT_JOIN afe_host_queue_entries q ON q.id = d.e SET q.active=1, q.host_id = d.h WHERE q.host_id IS NULL AND q.status = 'Queued' AND q.active = 0 AND q.complete = 0 AND q.aborted = 0")
			exec("rollback", "ROLLBACK")
			exec("begin", "START TRANSACTION")
			exec("ineligible", "INSERT IGNORE INTO afe_ineligible_host_queues (job_id, host_id) VALUES "+string(inel))
			exec("rollback", "ROLLBACK")
			exec("begin", "START TRANSACTION")
			exec("tasks", "INSERT INTO afe_special_tasks (host_id, task, queue_entry_id, requested_by_id, is_active, is_complete, success, is_aborted, time_requested) VALUES "+string(tasks))
			exec("rollback", "ROLLBACK")
		}
		fmt.Println(size)
		names := []string{}
		for n := range sums { names = append(names, n) }
		sort.Strings(names)
		for _, n := range names { fmt.Printf("   %-16s %7.1f\n", n, sums[n].Seconds()*1e3) }
	  }
	}
}

func jsonOf(as []scheduler.Assignment) string {
	b := []byte("[")
	for i, a := range as {
		if i > 0 { b = append(b, ',') }
		b = fmt.Appendf(b, "[%d,%d]", a.Entry, a.Host)
	}
	return string(append(b, ']'))
}

func caseOf(as []scheduler.Assignment) string {
	if len(as) > 4 {
		half := len(as)/2
		return fmt.Sprintf("CASE WHEN id < %d THEN %s ELSE %s END", as[half].Entry, caseOf(as[:half]), caseOf(as[half:]))
	}
	b := []byte("CASE id")
	for _, a := range as { b = fmt.Appendf(b, " WHEN %d THEN %d", a.Entry, a.Host) }
	return string(append(b, " END"...))
}

func bare(ctx context.Context, db *store.DB, p scheduler.Plan) {
	switch os.Getenv("SORT") {
	case "host": sort.Slice(p.Assignments, func(i, j int) bool { return p.Assignments[i].Host < p.Assignments[j].Host })
	case "entry": sort.Slice(p.Assignments, func(i, j int) bool { return p.Assignments[i].Entry < p.Assignments[j].Entry })
	}
	if os.Getenv("FK") != "" { db.SQL().SetMaxOpenConns(1); db.SQL().Exec("SET foreign_key_checks=0") }
	var hosts, entries, tasks, inel []byte
	for i, a := range p.Assignments {
		if i > 0 { hosts = append(hosts, ','); entries = append(entries, ','); inel = append(inel, ',') }
		hosts = fmt.Appendf(hosts, "%d", a.Host)
		entries = fmt.Appendf(entries, "(%d,%d)", a.Entry, a.Host)
		inel = fmt.Appendf(inel, "(%d,%d)", a.Job, a.Host)
		for _, n := range a.Tasks.Names() {
			if len(tasks) > 0 { tasks = append(tasks, ',') }
			tasks = fmt.Appendf(tasks, "(%d,'%s',%d,%d,NOW())", a.Host, n, a.Entry, a.RequestedBy)
		}
	}
	exec := func(q string) {
		t := time.Now()
		_, err := db.SQL().ExecContext(ctx, q)
		must(err)
		fmt.Printf("%.50s %.1f\n", q, time.Since(t).Seconds()*1e3)
	}
	exec("CREATE TABLE decisions (entry INT PRIMARY KEY, host INT)")
	exec("INSERT INTO decisions VALUES "+string(entries))
	exec("UPDATE afe_hosts SET leased = 1 WHERE id IN (" + string(hosts)+ ")")
	exec("UPDATE afe_host_queue_entries q JOIN decisions d ON d.entry = q.id SET q.host_id = d.host, q.active = 1")
	exec("INSERT INTO afe_special_tasks (host_id, task, queue_entry_id, requested_by_id, time_requested) VALUES " + string(tasks))
	exec("INSERT IGNORE INTO afe_ineligible_host_queues (job_id, host_id) VALUES " + string(inel))
}
