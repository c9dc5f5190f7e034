package console

import (
	"net/http"
	"net/url"

	"github.com/hostsched/hostsched/internal/labapi"
)

// overviewView is the lab at a glance.
type overviewView struct {
	Summary   labapi.Summary
	Total     int
	Attention []attentionItem
	// More says how many of each kind are not shown.
	More  []moreItems
	Pools []labapi.Pool
	// Mine are the last jobs of Owner.
	Owner string
	Mine  []labapi.Job
}

// attentionItem also has the page that shows what it is about.
type attentionItem struct {
	labapi.Attention
	Link, Name, Class string
}

// moreItems are those of a kind that the overview leaves out.
type moreItems struct {
	N    int
	Name string
}

const (
	// shownOfKind and shownPools keep the first page one that can be taken in.
	shownOfKind = 4
	shownPools  = 12
)

func (p *page) overview() error {
	p.topics = []string{"*"}
	v := overviewView{Owner: p.owner()}
	if err := p.ask(&v.Summary, "/summary", nil); err != nil {
		return err
	}
	for _, n := range v.Summary.Hosts {
		v.Total += n
	}
	var attention labapi.Page[labapi.Attention]
	if err := p.ask(&attention, "/attention", nil); err != nil {
		return err
	}
	v.Attention, v.More = chosen(attention.Items, p.r.FormValue("all") != "")
	var pools labapi.Page[labapi.Pool]
	if err := p.ask(&pools, "/pools", nil); err != nil {
		return err
	}
	v.Pools = busiest(pools.Items, shownPools)
	var mine labapi.Page[labapi.Job]
	if err := p.ask(&mine, "/jobs", url.Values{"owner": {v.Owner}, "limit": {"8"}}); err != nil {
		return err
	}
	v.Mine = mine.Items
	return p.render(http.StatusOK, "overview", "Overview", v)
}

// chosen are the first of each kind, or all, and how many are left.
func chosen(items []labapi.Attention, all bool) (out []attentionItem, more []moreItems) {
	seen := map[string]int{}
	var order []string
	for _, a := range items {
		if seen[a.Kind] == 0 {
			order = append(order, a.Kind)
		}
		if seen[a.Kind]++; all || seen[a.Kind] <= shownOfKind {
			out = append(out, itemOf(a))
		}
	}
	for _, kind := range order {
		if left := seen[kind] - shownOfKind; left > 0 && !all {
			more = append(more, moreItems{left, kindNames[kind][0]})
		}
	}
	return out, more
}

// kindNames are what kinds of attention are called, with their classes.
var kindNames = map[string][2]string{
	labapi.AttentionBad: {"bad host", "bad"}, labapi.AttentionBroken: {"broken host", "bad"}, labapi.AttentionOverdue: {"overdue hold", "held"},
	labapi.AttentionUnreachable: {"agent unreachable", "bad"}, labapi.AttentionNever: {"can never run", "held"}, labapi.AttentionNoLeader: {"no leader", "bad"},
	labapi.AttentionFence: {"fence refused", "held"}, labapi.AttentionNotReached: {"not reached", "bad"}, labapi.AttentionWarning: {"warning", "held"},
}

func itemOf(a labapi.Attention) attentionItem {
	out := attentionItem{Attention: a, Name: kindNames[a.Kind][0], Class: kindNames[a.Kind][1]}
	switch {
	case a.Host != "":
		out.Link = "hosts/" + url.PathEscape(a.Host)
	case a.Job != 0:
		out.Link = "jobs/" + id(a.Job)
	case a.Agent != "":
		out.Link = "agents"
	case a.Shard != "" || a.Server != "":
		out.Link = "cluster"
	}
	return out
}
