package console

import (
	"net/http"
	"net/url"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/ops"
)

// clusterView is who leads what, and what happened to the shards lately.
type clusterView struct {
	ops.ClusterStatus
	Events []labapi.Event
}

func (p *page) cluster() error {
	p.topics = []string{"shard"}
	v := clusterView{}
	if err := p.ask(&v.ClusterStatus, "/cluster", nil); err != nil {
		return err
	}
	var events labapi.Page[labapi.Event]
	if err := p.ask(&events, "/events", url.Values{"kind": {"shard."}, "newest": {"true"}, "limit": {"50"}}); err != nil {
		return err
	}
	v.Events = events.Items
	return p.render(http.StatusOK, "cluster", "Cluster", v)
}

// changeShard pauses, resumes or hands over a shard.
func (p *page) changeShard() error {
	p.r.Body = http.MaxBytesReader(p.w, p.r.Body, maxForm)
	action, why := p.r.FormValue("action"), labapi.ShardChange{Reason: p.r.FormValue("reason")}
	var change any = why
	switch action {
	case "pause", "resume":
	case "switchover":
		change = labapi.Switchover{ShardChange: why, To: p.r.FormValue("to")}
	default:
		return &refusal{Status: http.StatusUnprocessableEntity, Detail: "A shard can be paused, resumed or handed over."}
	}
	var handover labapi.Handover
	var out any
	if action == "switchover" {
		out = &handover
	}
	if err := p.do(out, "/shards/"+url.PathEscape(p.r.FormValue("shard"))+"/"+action, change); err != nil {
		return err
	}
	switch {
	case handover.Unchanged:
		action = "unchanged"
	case handover.To != "" && handover.From == handover.To:
		action = "keep"
	}
	p.comeBack(action, 1)
	return nil
}

func (p *page) agents() error {
	p.topics = []string{"agent", "run"}
	var list labapi.Page[labapi.Agent]
	query := chosenOf(p.r.URL.Query(), "after")
	query.Set("limit", "200")
	if err := p.ask(&list, "/agents", query); err != nil {
		return err
	}
	return p.render(http.StatusOK, "agents", "Agents", list)
}

// changeAgent says what is wanted of an agent.
func (p *page) changeAgent() error {
	p.r.Body = http.MaxBytesReader(p.w, p.r.Body, maxForm)
	action := p.r.FormValue("action")
	if action != "drain" && action != "resume" && action != "stop" {
		return &refusal{Status: http.StatusUnprocessableEntity, Detail: "An agent can be drained, resumed or stopped."}
	}
	path := "/agents/" + url.PathEscape(p.r.FormValue("agent")) + "/" + action
	if err := p.do(nil, path, labapi.AgentWish{Reason: p.r.FormValue("reason")}); err != nil {
		return err
	}
	p.comeBack("agent-"+action, 1)
	return nil
}

// auditView is a page of the journal.
type auditView struct {
	Events []labapi.Event
	Filter struct{ Kind, Who, Host, Job string }
	Nouns  []option
	Next   string
}

// nouns are what the journal is about.
var nouns = []option{{"", "everything"}, {"host.", "hosts"}, {"job.", "jobs"}, {"suite.", "suites"}, {"entry.", "queue entries"}, {"run.", "runs"}, {"task.", "special tasks"}, {"agent.", "agents"}, {"shard.", "shards"}, {"label.", "labels"}, {"acl.", "ACL groups"}, {"user.", "users"}, {"role.", "roles"}, {"token.", "tokens"}}

func (p *page) audit() error {
	form := p.r.URL.Query()
	v := auditView{Nouns: nouns}
	v.Filter.Kind, v.Filter.Who, v.Filter.Host, v.Filter.Job = form.Get("kind"), form.Get("who"), form.Get("host"), form.Get("job")
	query := chosenOf(form, "kind", "who", "host", "job", "after")
	query.Set("limit", "100")
	query.Set("newest", "true")
	if form.Get("after") == "" {
		p.topics = []string{"*"}
	}
	var list labapi.Page[labapi.Event]
	if err := p.ask(&list, "/events", query); err != nil {
		return err
	}
	v.Events = list.Items
	if list.After != "" {
		v.Next = with(form, "after", list.After)
	}
	return p.render(http.StatusOK, "audit", "Audit", v)
}
