package console

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/hostsched/hostsched/internal/labapi"
)

func id(n int64) string { return strconv.FormatInt(n, 10) }

// hostsView is a list of hosts, as a grid or a table.
type hostsView struct {
	Hosts []labapi.Host
	// States counts those hosts of the grid.
	States map[string]int
	Filter hostsFilter
	Grid   bool
	// Next is the query of the next page, and Other that of the other form.
	Next, Other string
	Results     []labapi.HoldResult
	Form        holdForm
}

// hostsFilter is what the form above the hosts has.
type hostsFilter struct{ Text, Label, State, Status string }

const (
	// tablePage is how many hosts one page of the table has, and gridPage how many a grid has:
	// as many as the API gives at once.
	tablePage = 200
	gridPage  = 10_000
)

func (p *page) hosts() error {
	v, err := p.readHosts()
	if err != nil {
		return err
	}
	return p.render(http.StatusOK, "hosts", "Hosts", v)
}

func (p *page) readHosts() (hostsView, error) {
	p.topics = []string{"host", "run", "entry"}
	form := p.r.URL.Query()
	v := hostsView{Filter: hostsFilter{form.Get("q"), form.Get("label"), form.Get("state"), form.Get("status")}, States: map[string]int{}}
	v.Grid = form.Get("view") == "grid"
	query := url.Values{"limit": {strconv.Itoa(tablePage)}}
	if v.Grid {
		query.Set("limit", strconv.Itoa(gridPage))
	}
	for _, name := range []string{"q", "label", "state", "status", "after"} {
		if value := form.Get(name); value != "" {
			query.Set(name, value)
		}
	}
	var list labapi.Page[labapi.Host]
	if err := p.ask(&list, "/hosts", query); err != nil {
		return v, err
	}
	v.Hosts = list.Items
	for i := range v.Hosts {
		v.States[v.Hosts[i].State()]++
	}
	if list.After != "" {
		v.Next = with(form, "after", list.After)
	}
	form.Del("after")
	v.Other = with(form, "view", "grid")
	if v.Grid {
		v.Other = with(form, "view", "table")
	}
	return v, nil
}

// with is a query with another value.
func with(form url.Values, name, value string) string {
	out := url.Values{}
	for key, values := range form {
		if len(values) > 0 && values[0] != "" && key != "done" && key != "n" {
			out[key] = values
		}
	}
	out.Set(name, value)
	return "?" + out.Encode()
}

// busiest are the pools for which most wait, and then those with most hosts.
func busiest(pools []labapi.Pool, n int) []labapi.Pool {
	slices.SortStableFunc(pools, func(a, b labapi.Pool) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(b.Have, a.Have))
	})
	return pools[:min(n, len(pools))]
}
