package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// maxForm bounds what a form may send: the names of all hosts of a large lab.
const maxForm = 4 << 20

// pages are the templates, each with the frame that all have.
type pages struct {
	byName map[string]*template.Template
}

// newPages reads what is part of the binary: it can fail only where it was built wrongly.
func newPages() *pages {
	frame := template.Must(template.New("").Funcs(funcs).ParseFS(templateFiles, "templates/frame.html", "templates/parts.html"))
	p := &pages{byName: map[string]*template.Template{}}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		panic(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		p.byName[name] = template.Must(template.Must(frame.Clone()).ParseFS(templateFiles, file))
	}
	return p
}

// page is one answer to a browser.
type page struct {
	c      *Console
	w      http.ResponseWriter
	r      *http.Request
	caller labapi.Whoami
	may    rights
	// topics are what the page shows: when something happens to one of them, the browser asks
	// for the page again. Without topics it never does.
	topics []string
}

// view is what templates get.
type view struct {
	Title, Page string
	// Base leads from the page to the first one, and Static to what pages load.
	Base, Static string
	Caller       labapi.Whoami
	May          rights
	// Topics is what the page shows, for the stream of changes; empty if it does not change.
	Topics string
	// Here is the page itself, for forms that come back to it; Done says what was done.
	Here, Done      string
	Server, Version string
	Now             time.Time
	Data            any
}

// base leads from the page to the first one, without a name: links must work behind any path of a
// proxy.
func (p *page) base() string {
	depth := strings.Count(strings.TrimPrefix(p.r.URL.EscapedPath(), Prefix+"/"), "/")
	if depth == 0 {
		return "./"
	}
	return strings.Repeat("../", depth)
}

// render answers with a page.
func (p *page) render(status int, name, title string, data any) error {
	v := view{
		Title: title, Page: name, Base: p.base(), Static: p.base() + "static/" + staticVersion + "/", Caller: p.caller, May: p.may, Topics: url.Values{"topic": p.topics}.Encode(),
		Here: p.here(), Done: done(p.r), Server: p.c.cfg.Server, Version: p.c.cfg.Version, Now: time.Now().UTC(), Data: data,
	}
	var out bytes.Buffer
	if err := p.c.pages.byName[name].ExecuteTemplate(&out, "frame", v); err != nil {
		return err
	}
	h := p.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	return compressed(p.w, p.r, status, out.Bytes())
}

// compressed answers with bytes, which pages of many hosts have many of.
func compressed(w http.ResponseWriter, r *http.Request, status int, body []byte) error {
	w.Header().Add("Vary", "Accept-Encoding")
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") || len(body) < 1<<10 {
		w.WriteHeader(status)
		_, _ = w.Write(body) // the browser is gone if this fails
		return nil
	}
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	// The fastest level: a page is read once.
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	_, _ = z.Write(body)
	_ = z.Close()
	return nil
}

// staticVersion is part of the path of what pages load: it is kept for ever, and another one after
// an upgrade.
var staticVersion = hashStatic()

func hashStatic() string {
	sum := sha256.New()
	err := fs.WalkDir(staticFiles, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := staticFiles.ReadFile(name)
		sum.Write(text)
		return err
	})
	if err != nil {
		panic(err) // it is part of the binary
	}
	return hex.EncodeToString(sum.Sum(nil)[:6])
}

var contentTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

func serveStatic(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	text, err := staticFiles.ReadFile("static/" + name)
	if err != nil || strings.Contains(name, "/") {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", contentTypes[path.Ext(name)])
	if r.PathValue("version") == staticVersion {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_ = compressed(w, r, http.StatusOK, text) // the level of compression is one that there is
}
