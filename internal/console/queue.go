package console

import (
	"net/http"
	"net/url"

	"github.com/hostsched/hostsched/internal/labapi"
)

// queueView is the queue by what is asked for.
type queueView struct {
	Groups []labapi.RequestGroup
	// Entries counts all, Never those that wait in vain, and Left the groups that are not shown.
	Entries, Never, Left int
	Only                 string
}

// shownGroups keeps the page of a large queue one that can be read.
const shownGroups = 200

func (p *page) queue() error {
	p.topics = []string{"job", "entry", "host", "suite"}
	var list labapi.Page[labapi.RequestGroup]
	if err := p.ask(&list, "/queue", nil); err != nil {
		return err
	}
	v := queueView{Only: p.r.URL.Query().Get("only")}
	for i := range list.Items {
		g := &list.Items[i]
		v.Entries += g.Entries
		if g.Never {
			v.Never += g.Entries
		}
		if v.Only == "never" && !g.Never {
			continue
		}
		if len(v.Groups) == shownGroups {
			v.Left++
			continue
		}
		v.Groups = append(v.Groups, *g)
	}
	return p.render(http.StatusOK, "queue", "Queue", v)
}

// suitesView is a list of suites, or one with its jobs.
type suitesView struct {
	Suites []labapi.Suite
	Next   string
	Jobs   []labapi.Job
}

func (p *page) suites() error {
	p.topics = []string{"suite", "job", "entry", "host"}
	query := chosenOf(p.r.URL.Query(), "after")
	query.Set("limit", "50")
	var list labapi.Page[labapi.Suite]
	if err := p.ask(&list, "/suites", query); err != nil {
		return err
	}
	v := suitesView{Suites: list.Items}
	if list.After != "" {
		v.Next = with(url.Values{}, "after", list.After)
	}
	return p.render(http.StatusOK, "suites", "Suites", v)
}

func (p *page) suite() error {
	p.topics = []string{"suite", "job", "entry", "host"}
	var s labapi.Suite
	if err := p.ask(&s, "/suites/"+url.PathEscape(p.r.PathValue("id")), nil); err != nil {
		return err
	}
	var jobs labapi.Page[labapi.Job]
	if err := p.ask(&jobs, "/jobs", url.Values{"suite": {id(s.ID)}, "limit": {"100"}}); err != nil {
		return err
	}
	v := suitesView{Suites: []labapi.Suite{s}, Jobs: jobs.Items}
	if jobs.After != "" {
		v.Next = with(url.Values{"suite": {id(s.ID)}}, "after", jobs.After)
	}
	return p.render(http.StatusOK, "suite", s.Name, v)
}

func (p *page) abortSuite() error {
	p.r.Body = http.MaxBytesReader(p.w, p.r.Body, maxForm)
	if err := p.do(nil, "/suites/"+url.PathEscape(p.r.PathValue("id"))+"/abort", labapi.AbortInput{Reason: p.r.FormValue("reason")}); err != nil {
		return err
	}
	p.comeBack("abort", 1)
	return nil
}

func (p *page) pools() error {
	p.topics = []string{"host", "entry", "job", "label"}
	var list labapi.Page[labapi.Pool]
	if err := p.ask(&list, "/pools", nil); err != nil {
		return err
	}
	return p.render(http.StatusOK, "pools", "Pools", list.Items)
}
