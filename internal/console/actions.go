package console

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/durations"
	"github.com/hostsched/hostsched/internal/labapi"
)

// holdForm is the form by which hosts are locked and drained, as it was sent.
type holdForm struct {
	Action, Reason, For string
	Steal               bool
	Hosts               []string
}

// holdHosts changes the holds of hosts. If all went well the browser goes back to the list, and
// otherwise it is told what was refused, with the form as it was.
func (p *page) holdHosts() error {
	p.r.Body = http.MaxBytesReader(p.w, p.r.Body, maxForm)
	if err := p.r.ParseForm(); err != nil {
		return &refusal{Status: http.StatusBadRequest, Detail: "The form cannot be read: " + err.Error()}
	}
	f := holdForm{Action: p.r.PostForm.Get("action"), Reason: p.r.PostForm.Get("reason"), For: p.r.PostForm.Get("for"), Steal: p.r.PostForm.Get("steal") != "", Hosts: p.r.PostForm["host"]}
	if len(f.Hosts) == 0 {
		return &refusal{Status: http.StatusUnprocessableEntity, Detail: "No host is marked: mark some in the first column, and try again."}
	}
	in := labapi.HoldsInput{Action: f.Action, Hosts: f.Hosts, Reason: f.Reason, Steal: f.Steal}
	if f.For != "" && (f.Action == labapi.ActionLock || f.Action == labapi.ActionDrain) {
		d, ok := durations.Parse(f.For)
		if !ok {
			return &refusal{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf("%q is no time like 90m, 24h or 2d.", f.For)}
		}
		at := time.Now().Add(d)
		in.Until = &at
		if f.Action == labapi.ActionDrain {
			in.Until, in.Deadline = nil, &at
		}
	}
	var out labapi.Holds
	if err := p.do(&out, "/hosts/holds", in); err != nil {
		return err
	}
	refused := slices.DeleteFunc(slices.Clone(out.Results), func(r labapi.HoldResult) bool { return r.Done })
	if len(refused) > 0 {
		return p.showRefused(f, refused)
	}
	p.comeBack(f.Action, len(out.Results))
	return nil
}

// showRefused shows the page once more, with what was refused.
func (p *page) showRefused(f holdForm, refused []labapi.HoldResult) error {
	if p.r.PathValue("name") != "" {
		v, err := p.readHost()
		if err != nil {
			return err
		}
		v.Results, v.Form = refused, f
		return p.render(http.StatusConflict, "host", v.Host.Hostname, v)
	}
	v, err := p.readHosts()
	if err != nil {
		return err
	}
	v.Results, v.Form = refused, f
	return p.render(http.StatusConflict, "hosts", "Hosts", v)
}

// comeBack sends the browser to the page with the form, which says what was done.
func (p *page) comeBack(did string, n int) {
	form := p.r.URL.Query()
	form.Set("done", did)
	form.Set("n", strconv.Itoa(n))
	path := p.r.URL.EscapedPath()
	seeOther(p.w, "./"+path[strings.LastIndex(path, "/")+1:]+"?"+form.Encode())
}

// deeds are what was done, for one and for many, by the word in the address. Only these words are
// ever shown.
var deeds = map[string][2]string{
	labapi.ActionLock: {"1 host is locked.", "%d hosts are locked."}, labapi.ActionUnlock: {"1 host is unlocked.", "%d hosts are unlocked."},
	labapi.ActionDrain: {"1 host is being drained.", "%d hosts are being drained."}, labapi.ActionUndrain: {"1 host is not drained any more.", "%d hosts are not drained any more."},
	"abort": {"Its end was asked for.", ""}, "requeue": {"This is the job once more.", ""},
	"pause": {"Nothing is scheduled in the shard until it is resumed.", ""}, "resume": {"The shard is scheduled again.", ""}, "switchover": {"Another server leads the shard.", ""},
	"unchanged": {"That was so already; nothing was changed.", ""}, "keep": {"The server led already, and keeps the shard from now on.", ""},
	"agent-drain": {"The agent takes nothing new.", ""}, "agent-resume": {"The agent takes work again.", ""}, "agent-stop": {"The agent is asked to stop its runs, and to end.", ""},
}

func done(r *http.Request) string {
	query := r.URL.Query()
	deed, known := deeds[query.Get("done")]
	n, err := strconv.Atoi(query.Get("n"))
	if !known || err != nil {
		return ""
	}
	if n == 1 {
		return deed[0]
	}
	return strings.Replace(deed[1], "%d", strconv.Itoa(n), 1)
}
