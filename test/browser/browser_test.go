//go:build e2e

package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/virtual-disk-array/vda/sandbox"
)

var update = flag.Bool("update", false, "write the screenshots into docs/images")

// axe is the accessibility checker, as published.
const axe = "axe-core@4.14.1"

// patience is how long anything that a page shall show may take, on a busy machine.
const patience = 2 * time.Minute

// needed is a program that the test cannot do without.
func needed(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is not installed", program)
	default:
		t.Skipf("%s is not installed", program)
	}
	return path
}

// window is a tab of a browser that shows a portal's pages.
type window struct {
	t   *testing.T
	ctx context.Context
	url string

	mu         sync.Mutex
	complaints []string // of the browser, such as what the policy forbade
}

func open(t *testing.T, url string, options ...chromedp.ExecAllocatorOption) *window {
	t.Helper()
	options = append(options, chromedp.NoSandbox, chromedp.ExecPath(needed(t, "chromium")), chromedp.WindowSize(1200, 900))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:], options...)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	w := &window{t: t, ctx: ctx, url: strings.TrimSuffix(url, "/")}
	w.do(chromedp.EmulateViewport(1200, 900))
	if err := chromedp.Listen(ctx, w.hear); err != nil {
		t.Fatal(err)
	}
	return w
}

// hear notes what the browser complains of.
func (w *window) hear(ev any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := ev.(type) {
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == "error" && !strings.Contains(e.Entry.Text, "status of 4") { // a form that is refused on purpose
			w.complaints = append(w.complaints, e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		w.complaints = append(w.complaints, e.ExceptionDetails.Text)
	}
}

func (w *window) do(steps ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	if err := chromedp.Do(w.ctx, steps...); err != nil {
		w.t.Fatal(err)
	}
}

// eval runs a script in the page and returns what it is.
func eval[T any](w *window, script string) T {
	w.t.Helper()
	v, err := chromedp.Run(w.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		w.t.Fatalf("%v in %.80s", err, script)
	}
	return v
}

// waitFor waits until a script says true.
func (w *window) waitFor(what, script string) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if ok, err := chromedp.Run(w.ctx, chromedp.Evaluate[bool](script)); err == nil && ok {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("the page does not show %s:\n%s", what, eval[string](w, "document.body.innerText"))
		}
	}
}

// shows waits until the page's text has the words.
func (w *window) shows(words string) {
	w.t.Helper()
	w.waitFor(fmt.Sprintf("%q", words), fmt.Sprintf("document.body.innerText.includes(%q)", words))
}

func (w *window) visit(path string) {
	w.t.Helper()
	w.do(chromedp.Navigate(w.url + path))
	w.waitFor("the page", "document.readyState === 'complete'")
}

// keys presses keys, one after the other.
func (w *window) keys(keys ...string) {
	w.t.Helper()
	for _, k := range keys {
		w.do(chromedp.KeyEvent(k))
	}
}

// tabTo presses Tab until the element with that text or label has the focus, as a
// person without a mouse does.
func (w *window) tabTo(name string) {
	w.t.Helper()
	for range 100 {
		w.keys(kb.Tab)
		got := eval[string](w, `(e => e === null ? "" : (e.labels && e.labels[0] ? e.labels[0].innerText
			: e.getAttribute("aria-label") || e.innerText || "").trim())(document.activeElement)`)
		if got == name {
			return
		}
	}
	w.t.Fatalf("no press of Tab leads to %q", name)
}

// fill types into the field that has the focus, in place of what is there.
func (w *window) fill(text string) {
	w.t.Helper()
	eval[bool](w, "document.activeElement.select(), true")
	w.keys(text)
}

// login logs in with keys alone.
func (w *window) login(token string) {
	w.t.Helper()
	w.visit("/")
	w.shows("Log in")
	w.tabTo("Token")
	w.fill(token)
	w.keys(kb.Enter)
	w.shows("Overview")
	w.shows("Capacity by location")
}

// axeScript is the checker's source.
func axeScript(t *testing.T) string {
	t.Helper()
	npm, dir := needed(t, "npm"), t.TempDir()
	cmd := exec.CommandContext(t.Context(), npm, "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, axe)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm: %v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// accessible fails the test for each serious finding on the page.
func (w *window) accessible(what, script string) {
	w.t.Helper()
	eval[bool](w, script+"\n;true")
	findings := eval[[]string](w, `axe.run(document).then(r => r.violations.filter(v => v.impact === "serious" || v.impact === "critical")
		.map(v => v.id + ": " + v.help + ": " + v.nodes.map(n => n.html).join(" ")))`)
	for _, f := range findings {
		w.t.Errorf("%s: %s", what, f)
	}
}

// scheme has the browser prefer light or dark pages.
func (w *window) scheme(name string) {
	w.t.Helper()
	_, err := chromedp.Call(w.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// picture keeps a screenshot for the documents.
func (w *window) picture(name string) {
	w.t.Helper()
	b, err := chromedp.Run(w.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		w.t.Fatal(err)
	}
	if !bytes.HasPrefix(b, []byte("\x89PNG")) {
		w.t.Errorf("the screenshot %s is not a PNG", name)
	}
	if *update {
		if err := os.WriteFile(filepath.Join("../../docs/images", name+".png"), b, 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

// cluster starts a sandbox's cluster with its arrays.
func cluster(t *testing.T) *sandbox.Cluster {
	t.Helper()
	var story bytes.Buffer
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	c, err := sandbox.Start(t.Context(), sandbox.Config{BinDir: bin, Dir: t.TempDir(), Out: &story, Plain: true})
	if err == nil {
		t.Cleanup(func() {
			if err := c.Stop(); err != nil {
				t.Error(err)
			}
		})
		err = c.Populate(t.Context())
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, &story)
	}
	return c
}

// call asks the portal over REST.
func call(t *testing.T, c *sandbox.Cluster, path string, to any) {
	t.Helper()
	ask(t, c, http.MethodGet, path, "", to)
}

// ask makes any request of REST.
func ask(t *testing.T, c *sandbox.Cluster, method, path, body string, to any) {
	t.Helper()
	url, token := c.WebPage()
	r, err := http.NewRequestWithContext(t.Context(), method, url+"api/v1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v, %s", path, resp.StatusCode, err, b)
	}
}

// TestPages: every page, light and dark, on a phone, without scripts; a story from
// creation to deletion with keys alone; and a failover as it happens.
func TestPages(t *testing.T) {
	needed(t, "chromium")
	script := axeScript(t)
	c := cluster(t)
	at, token := c.WebPage()
	w := open(t, at)

	var nodes struct {
		DNs []struct {
			Name string `json:"dn_name"`
		} `json:"dn_msg_list"`
	}
	call(t, c, "/dn", &nodes)
	var cns struct {
		CNs []struct {
			Name string `json:"cn_name"`
		} `json:"cn_msg_list"`
	}
	call(t, c, "/cn", &cns)

	w.visit("/login")
	w.accessible("login", script)
	w.login(token)

	t.Run("story", func(t *testing.T) { w.t = t; story(w) })
	w.t = t

	pages := map[string]string{"overview": "/", "nodes": "/nodes", "dn": "/dn/" + url.PathEscape(nodes.DNs[0].Name),
		"cn": "/cn/" + url.PathEscape(cns.CNs[0].Name), "arrays": "/arrays", "array": "/arrays/da0", "snapshots": "/snapshots",
		"events": "/events", "alerts": "/alerts",
		"create-array": "/do/create-array", "failover": "/do/failover?da_name=da0", "delete-array": "/do/delete-array?da_name=da0",
		"not-found": "/nothing"}
	for name, path := range pages {
		for _, scheme := range []string{"light", "dark"} {
			w.scheme(scheme)
			w.visit(path)
			w.accessible(name+", "+scheme, script)
			switch {
			case scheme == "light" && (name == "array" || name == "nodes"):
				w.picture("web-" + name)
			case scheme == "dark" && name == "overview":
				w.picture("web-overview")
			}
		}
		w.scheme("light")
		w.do(chromedp.EmulateViewport(360, 740))
		w.visit(path)
		if wide := eval[int](w, "document.documentElement.scrollWidth"); wide > 360 {
			t.Errorf("%s is %d pixels wide on a phone of 360", name, wide)
		}
		if name == "array" {
			w.picture("web-array-phone")
		}
		w.do(chromedp.EmulateViewport(1200, 900))
	}

	t.Run("without scripts", func(t *testing.T) {
		w.t = t
		off := func(yes bool) {
			_, err := chromedp.Call(w.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: yes})
			if err != nil {
				t.Fatal(err)
			}
		}
		off(true)
		defer off(false)
		for name, path := range pages {
			w.do(chromedp.Navigate(w.url + path))
			text, err := chromedp.Run(w.ctx, chromedp.TextContent(chromedp.CSS("main h1")))
			if err != nil || text == "" {
				t.Errorf("%s says %q, %v", name, text, err)
			}
		}
	})
	w.t = t

	w.mu.Lock()
	for _, s := range w.complaints {
		t.Errorf("the browser complains: %s", s)
	}
	w.mu.Unlock()
	t.Run("rebuild", func(t *testing.T) { w.t = t; rebuild(w, c, script) })
	w.t = t
	t.Run("failover", func(t *testing.T) { w.t = t; failover(w, c) })
}

// story makes an array, exports it, takes a snapshot, and deletes it all, with keys
// alone.
func story(w *window) {
	act := func(button string, fields ...string) {
		w.t.Helper()
		for i := 0; i < len(fields); i += 2 {
			w.tabTo(fields[i])
			w.fill(fields[i+1])
		}
		w.tabTo(button)
		w.keys(kb.Enter)
	}
	w.visit("/arrays")
	w.tabTo("Create an array")
	w.keys(kb.Enter)
	w.shows("An array is made of slices")
	act("Create", "Name", "story", "Size", "8 bananas")
	w.shows("give a number and a unit")
	act("Create", "Size", "16 MiB", "Physical size (optional)", "48 MiB")
	w.shows("Array story")

	w.tabTo("Export to a host")
	w.keys(kb.Enter)
	w.shows("The host with this NQN")
	act("Export", "Name", "e0", "Host NQN", "nqn.2016-06.io.spdk:story")
	w.shows("nqn.2016-06.io.spdk:story")

	w.tabTo("Take a snapshot")
	w.keys(kb.Enter)
	w.shows("as after a power cut")
	act("Take the snapshot", "Name", "s0")
	w.waitFor("the snapshot", `document.querySelector("a[aria-label='Delete snapshot s0']") !== null`)

	for _, step := range [][4]string{{"Delete exporter e0", "e0", "Delete the exporter", "No host may connect yet"},
		{"Delete snapshot s0", "s0", "Delete the snapshot", "There is none."},
		{"Delete", "story", "Delete the array and all data on it", "Create an array"}} {
		w.tabTo(step[0])
		w.keys(kb.Enter)
		w.shows("Type " + step[1] + " to confirm")
		act(step[2], "Type "+step[1]+" to confirm", step[1])
		w.shows(step[3])
	}
	if eval[string](w, "document.body.innerText") == "" || strings.Contains(eval[string](w, "document.body.innerText"), "story") {
		w.t.Error("the array is listed still")
	}
}

// rebuild makes an array a mirrored one, slowly, and watches the page show how far it is.
func rebuild(w *window, c *sandbox.Cluster, axe string) {
	modify := func(body string) {
		w.t.Helper()
		var reply struct{}
		ask(w.t, c, http.MethodPatch, "/da/da0", body, &reply)
	}
	w.visit("/arrays/da0")
	eval[bool](w, "window.loadedOnce = true")
	modify(`{"rebuild_mbps": "1"}`)
	modify(`{"redundancy": "mirror:2"}`)
	w.waitFor("a rebuild that is under way", `(p => p && p.value > 0 && p.value < 100)(document.querySelector("progress"))`)
	w.accessible("a rebuild", axe)
	w.picture("web-rebuild")
	first := eval[float64](w, `(p => p ? p.value : 100)(document.querySelector("progress"))`)
	w.waitFor("that it goes on", fmt.Sprintf(`(p => p === null || p.value > %v)(document.querySelector("progress"))`, first))
	modify(`{"rebuild_mbps": "0"}`)
	w.waitFor("its end", `document.querySelector("progress") === null && document.body.innerText.includes("mirror:2, full")`)
	if !eval[bool](w, "window.loadedOnce === true") {
		w.t.Error("the page was loaded again")
	}
}

// failover kills the node of an array's primary and watches the page show it.
func failover(w *window, c *sandbox.Cluster) {
	w.visit("/arrays/da0")
	w.waitFor("two optimized ends", `document.querySelectorAll("g.box.primary").length === 1`)
	eval[bool](w, "window.loadedOnce = true")
	before := eval[string](w, `document.querySelector("g.box.primary text.name").textContent`)
	var cns struct {
		CNs []struct {
			Name     string `json:"cn_name"`
			Location string `json:"location"`
		} `json:"cn_msg_list"`
	}
	call(w.t, c, "/cn", &cns)
	for _, cn := range cns.CNs {
		if cn.Name == before {
			if err := c.Kill(cn.Location); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.waitFor("another primary", fmt.Sprintf(`(e => e && e.textContent !== %q)(document.querySelector("g.box.primary text.name"))`, before))
	w.waitFor("a broken path", `document.querySelectorAll("line.broken").length > 0`)
	if !eval[bool](w, "window.loadedOnce === true") {
		w.t.Error("the page was loaded again")
	}
	w.picture("web-failover")
}
