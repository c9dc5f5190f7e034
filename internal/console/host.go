package console

import (
	"net/http"
	"net/url"

	"github.com/hostsched/hostsched/internal/labapi"
)

// hostView is all about one host.
type hostView struct {
	Host    labapi.Host
	Explain labapi.HostExplanation
	Health  labapi.HostHealth
	Days    []heatDay
	Runs    []labapi.Run
	Events  []labapi.Event
	// More is the query of older events.
	More    string
	Results []labapi.HoldResult
	Form    holdForm
}

func (p *page) host() error {
	v, err := p.readHost()
	if err != nil {
		return err
	}
	return p.render(http.StatusOK, "host", v.Host.Hostname, v)
}

func (p *page) readHost() (v hostView, err error) {
	path := "/hosts/" + url.PathEscape(p.r.PathValue("name"))
	if err := p.ask(&v.Host, path, nil); err != nil {
		return v, err
	}
	p.topics = []string{"host:" + v.Host.Hostname}
	v.Form.Hosts = []string{v.Host.Hostname}
	if err := p.ask(&v.Explain, path+"/explain", nil); err != nil {
		return v, err
	}
	if err := p.ask(&v.Health, path+"/health", nil); err != nil {
		return v, err
	}
	v.Days = heatmap(v.Health)
	var runs labapi.Page[labapi.Run]
	if err := p.ask(&runs, "/runs", url.Values{"host": {v.Host.Hostname}, "limit": {"10"}}); err != nil {
		return v, err
	}
	v.Runs = runs.Items
	var events labapi.Page[labapi.Event]
	query := url.Values{"limit": {"50"}}
	if after := p.r.URL.Query().Get("after"); after != "" {
		query.Set("after", after)
	}
	if err := p.ask(&events, path+"/history", query); err != nil {
		return v, err
	}
	v.Events = events.Items
	if events.After != "" {
		v.More = "?" + url.Values{"after": {events.After}}.Encode() + "#timeline"
	}
	return v, nil
}
