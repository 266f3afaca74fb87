package web_test

import (
	"context"
	"encoding/json"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

const (
	token = "a token of a test"
	host  = "nqn.2016-06.io.spdk:host0"
)

// site is a portal's web pages over a cluster of two dns and two cns.
type site struct {
	t      *testing.T
	url    string
	grpc   apiv1.PortalClient
	client *http.Client
	change func(func(store.Tx) error) // of the database
	agent  func(addr string)          // starts one
}

func newSite(t *testing.T) *site {
	t.Helper()
	c := portaltest.New(t)
	addr := c.Portal(func(cfg *portal.Config) { cfg.WebToken = token })
	s := &site{t: t, url: "http://" + addr, grpc: c.Dial(addr), change: c.Change, agent: func(addr string) { c.Agent(addr) }}
	c.Populate(s.grpc, 2, 2)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.client = &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s
}

// send makes a request and returns the status, the header and the body.
func (s *site) send(method, path, body string, header ...string) (int, http.Header, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// call is one of a program, with the token.
func (s *site) call(method, path, body string) (int, map[string]any) {
	s.t.Helper()
	code, _, text := s.send(method, path, body, "Authorization", "Bearer "+token)
	var reply map[string]any
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		s.t.Fatalf("%s %s: %d, %q: %v", method, path, code, text, err)
	}
	return code, reply
}

// info is the reply_info of a reply.
func info(reply map[string]any) (code float64, msg string) {
	i, _ := reply["reply_info"].(map[string]any)
	code, _ = i["reply_code"].(float64)
	msg, _ = i["reply_msg"].(string)
	return code, msg
}

// post sends a form, as a browser of this site does.
func (s *site) post(path string, form url.Values) (int, http.Header, string) {
	s.t.Helper()
	return s.send("POST", path, form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Origin", s.url)
}

func (s *site) login() {
	s.t.Helper()
	if code, _, body := s.post("/login", url.Values{"token": {token}}); code != http.StatusSeeOther {
		s.t.Fatalf("login: %d, %s", code, body)
	}
}

// get is a page that must be there.
func (s *site) get(path string) string {
	s.t.Helper()
	code, _, body := s.send("GET", path, "")
	if code != http.StatusOK {
		s.t.Fatalf("%s: %d, %s", path, code, body)
	}
	return body
}

func has(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s lacks %q:\n%s", what, w, text)
		}
	}
}

// TestREST: the same replies and codes as gRPC's.
func TestREST(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	code, reply := s.call("POST", "/api/v1/da", `{"da_name": "da0", "da_size": 8388608, "cntlr_cnt": 2}`)
	if c, msg := info(reply); code != http.StatusOK || c != 0 || msg != "success" {
		t.Fatalf("create: %d, %v", code, reply)
	}
	da := reply["da_msg"].(map[string]any)
	got, err := s.grpc.GetDa(context.Background(), &apiv1.GetDaRequest{DaName: "da0"})
	if err != nil || da["da_id"] != got.DaMsg.DaId || da["da_size"] != "8388608" || da["error"] != false {
		t.Errorf("created %v, which is %v (%v)", da, got, err)
	}
	if code, reply := s.call("GET", "/api/v1/da/da0", ""); code != http.StatusOK ||
		len(reply["da_msg"].(map[string]any)["cntlr_msg_list"].([]any)) != 2 {
		t.Errorf("get: %d, %v", code, reply)
	}
	// A name with a colon, in a path.
	dns, err := s.grpc.ListDn(context.Background(), &apiv1.ListDnRequest{})
	if err != nil {
		t.Fatal(err)
	}
	dn := dns.DnMsgList[0].DnName
	if code, reply := s.call("PATCH", "/api/v1/dn/"+dn, `{"new_location": "rack7"}`); code != http.StatusOK ||
		reply["dn_msg"].(map[string]any)["location"] != "rack7" {
		t.Errorf("modify: %d, %v", code, reply)
	}
	if code, reply := s.call("GET", "/api/v1/dn/"+url.QueryEscape(dn), ""); code != http.StatusOK {
		t.Errorf("get with an escaped name: %d, %v", code, reply)
	}
	if code, reply := s.call("GET", "/api/v1/dn?location=rack7&online=true", ""); code != http.StatusOK ||
		len(reply["dn_msg_list"].([]any)) != 1 {
		t.Errorf("list: %d, %v", code, reply)
	}
	if code, reply := s.call("POST", "/api/v1/da/da0/snap", `{"snap_name": "s0"}`); code != http.StatusOK {
		t.Errorf("snapshot: %d, %v", code, reply)
	}
	if code, reply := s.call("DELETE", "/api/v1/da/da0/snap/s0", ""); code != http.StatusOK {
		t.Errorf("delete snapshot: %d, %v", code, reply)
	}
	if code, reply := s.call("DELETE", "/api/v1/da/da0", ""); code != http.StatusOK {
		t.Errorf("delete: %d, %v", code, reply)
	}
}

// TestRESTRefuses: what cannot be done is said in the portal's words, and nothing is
// done.
func TestRESTRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               apiv1.ReplyCode
		words              string
	}{
		{"GET", "/api/v1/da/none", "", 404, apiv1.CodeNotFound, `there is no da "none"`},
		{"POST", "/api/v1/da", `{"da_name": "d", "da_size": 5}`, 400, apiv1.CodeInvalid, "da_size is 5 bytes"},
		{"POST", "/api/v1/da", `{"da_nam": "d"}`, 400, apiv1.CodeInvalid, `line 1, column 2: unknown field "da_nam"`},
		{"POST", "/api/v1/da", `{"da_size": "big"}`, 400, apiv1.CodeInvalid, `invalid value for uint64 field da_size: "big"`},
		{"POST", "/api/v1/da", `{"da_name": `, 400, apiv1.CodeInvalid, "the body is not this request as JSON"},
		{"POST", "/api/v1/da", `"` + strings.Repeat("x", 300<<10), 400, apiv1.CodeInvalid, "the body has more than 262144 bytes"},
		{"GET", "/api/v1/dn?nline=true", "", 400, apiv1.CodeInvalid, `there is no "nline" in this request; there is limit, token, location, online, error`},
		{"GET", "/api/v1/dn?online=maybe", "", 400, apiv1.CodeInvalid, `online is "maybe"; it must be true or false`},
		{"GET", "/api/v1/event?filter.severity=loud", "", 400, apiv1.CodeInvalid, "severity"},
		{"GET", "/api/v1/event?filter.loud=1", "", 400, apiv1.CodeInvalid, `there is no "filter.loud"`},
		{"GET", "/api/v1/dn?limit=-1", "", 400, apiv1.CodeInvalid, `limit is "-1"; it must be one whole number from 0 on`},
		{"GET", "/api/v1/dn?limit=1&limit=2", "", 400, apiv1.CodeInvalid, `limit is "1, 2"`},
		{"PATCH", "/api/v1/da/d", `{"da_name": "e", "new_description": "x"}`, 400, apiv1.CodeInvalid,
			`da_name is "d" in the path and "e" in the body; give it in the path alone`},
		{"POST", "/api/v1/da/d/exp", `{"daName": "e", "exp_name": "x"}`, 400, apiv1.CodeInvalid, `da_name is "d" in the path and "e" in the body`},
		{"DELETE", "/api/v1/da/d/exp/x?exp_name=y", "", 400, apiv1.CodeInvalid, `exp_name is "x" in the path and "y" in the query`},
		{"PATCH", "/api/v1/da/d", `{"da_name": "d", "new_description": "x"}`, 404, apiv1.CodeNotFound, `there is no da "d"`},
		{"PATCH", "/api/v1/da/d", `{"da_name": ["e"]}`, 400, apiv1.CodeInvalid, "the body is not this request as JSON"},
		{"POST", "/api/v1/da/d/exp", `"` + strings.Repeat("x", 300<<10), 400, apiv1.CodeInvalid, "the body has more than 262144 bytes"},
		{"GET", "/api/v1/nothing", "", 404, apiv1.CodeNotFound, "there is no /api/v1/nothing"},
		{"GET", "/api/v1/da/d%2Fexp%2Fe", "", 400, apiv1.CodeInvalid, `"d/exp/e" contains "/"`},
		{"PUT", "/api/v1/da/d", "", 405, apiv1.CodeInvalid, "/api/v1/da/d takes no PUT"},
	} {
		code, reply := s.call(c.method, c.path, c.body)
		if rc, msg := info(reply); code != c.status || rc != float64(c.code) || !strings.Contains(msg, c.words) {
			t.Errorf("%s %s: %d, %v; want %d, %d, %s", c.method, c.path, code, reply, c.status, c.code, c.words)
		}
	}
	das, err := s.grpc.ListDa(context.Background(), &apiv1.ListDaRequest{})
	if err != nil || len(das.DaMsgList) != 0 {
		t.Errorf("there is %v, %v", das, err)
	}
}

// TestDoors: nobody gets anything without the token or a session, and no other
// site can use a session.
func TestDoors(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, path := range []string{"/api/v1/status", "/api/v1/da/x", "/api/nothing"} {
		for _, auth := range []string{"", "Bearer ", "Bearer " + token + "x", "Basic " + token} {
			code, h, body := s.send("GET", path, "", "Authorization", auth)
			if code != 401 || h.Get("WWW-Authenticate") != "Bearer" || !strings.Contains(body, "docs/rest.md") ||
				!strings.Contains(body, `"reply_code":17,`) {
				t.Errorf("%s with %q: %d, %s", path, auth, code, body)
			}
		}
	}
	for _, path := range []string{"/", "/nodes", "/arrays/x", "/do/create-array", "/nothing"} {
		if code, h, _ := s.send("GET", path, ""); code != 303 || h.Get("Location") != "/login?to="+url.QueryEscape(path) {
			t.Errorf("%s: %d, %v", path, code, h)
		}
	}
	form := url.Values{"da_name": {"d"}, "da_size": {"8 MiB"}}
	if code, h, _ := s.post("/do/create-array", form); code != 303 || h.Get("Location") != "/login" {
		t.Errorf("an action without a session: %d, %v", code, h)
	}
	if code, _, body := s.post("/login", url.Values{"token": {"wrong"}}); code != 403 ||
		!strings.Contains(body, "not a token that the portal knows") {
		t.Errorf("a wrong token: %d, %s", code, body)
	}
	for to, want := range map[string]string{"/nodes": "/nodes", "//evil.example/": "/", "https://evil.example/": "/",
		`/\evil.example`: "/", "": "/"} {
		code, h, _ := s.post("/login", url.Values{"token": {token}, "to": {to}})
		if code != 303 || h.Get("Location") != want {
			t.Errorf("login to %q leads to %q (%d)", to, h.Get("Location"), code)
		}
		c := h.Get("Set-Cookie")
		has(t, "the cookie", c, "HttpOnly", "SameSite=Strict", "Path=/")
	}
	has(t, "the page", s.get("/nodes"), "Disk nodes")
	for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		code, _, body := s.send("POST", "/do/create-array", "da_name=d&da_size=8+MiB&cntlr_cnt=1&stripe_count=1",
			append(header, "Content-Type", "application/x-www-form-urlencoded")...)
		if code != http.StatusForbidden || !strings.Contains(body, `"reply_code":18,"reply_msg":"another site's page`) {
			t.Errorf("a request of another site is answered with %d, %s", code, body)
		}
	}
	// A header that says who asks counts for more than a session.
	if code, _, _ := s.send("GET", "/api/v1/status", "", "Authorization", "Bearer another"); code != 401 {
		t.Errorf("a wrong token with a session: %d", code)
	}
	for _, auth := range []string{"", "Bearer " + token, "bearer " + token} {
		if code, _, body := s.send("GET", "/api/v1/status", "", "Authorization", auth); code != 200 {
			t.Errorf("the API with a session and %q: %d, %s", auth, code, body)
		}
	}
	if code, _, body := s.send("GET", "/static/", ""); code == 200 {
		t.Errorf("the folder is listed: %s", body)
	}
	_, h, _ := s.send("GET", "/", "")
	has(t, "the policy", h.Get("Content-Security-Policy"), "default-src 'none'", "frame-ancestors 'none'", "script-src 'self'")
	if strings.Contains(h.Get("Content-Security-Policy"), "unsafe") {
		t.Errorf("the policy is %s", h.Get("Content-Security-Policy"))
	}
	// A cookie that is not the portal's.
	for _, v := range []string{"", "AAAA", strings.Repeat("A", 54)} {
		r, _ := http.NewRequest("GET", s.url+"/", nil)
		r.AddCookie(&http.Cookie{Name: "vda_session", Value: v})
		resp, err := (&http.Client{CheckRedirect: s.client.CheckRedirect}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 303 {
			t.Errorf("the cookie %q opens the page: %d", v, resp.StatusCode)
		}
	}
	if code, _, _ := s.post("/logout", nil); code != 303 {
		t.Errorf("logout: %d", code)
	}
	if code, _, _ := s.send("GET", "/", ""); code != 303 {
		t.Errorf("after the logout: %d", code)
	}
	das, err := s.grpc.ListDa(context.Background(), &apiv1.ListDaRequest{})
	if err != nil || len(das.DaMsgList) != 0 {
		t.Errorf("a refused request made %v, %v", das, err)
	}
}

// TestManyWrongTokens: after some, even the right one waits, if it comes from there.
func TestManyWrongTokens(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	busy := false
	for range 100 {
		code, h, _ := s.send("GET", "/api/v1/status", "", "Authorization", "Bearer wrong")
		if busy = code == http.StatusTooManyRequests && h.Get("Retry-After") != ""; busy {
			break
		}
	}
	if !busy {
		t.Error("a hundred wrong tokens were all looked at")
	}
	// Those who come from elsewhere are let in all the same.
	other := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	s.client.Transport = &http.Transport{DialContext: other.DialContext}
	if code, reply := s.call("GET", "/api/v1/status", ""); code != http.StatusOK {
		t.Errorf("from another address: %d, %v", code, reply)
	}
}

// TestPages goes through an array's life with forms, and looks at every page.
func TestPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.login()
	has(t, "the overview", s.get("/"), "2 of 2 up", "Capacity by location", "There is none yet")
	has(t, "the form", s.get("/do/create-array"), `name="da_size"`, "mirror:2")

	form := url.Values{"da_name": {"da0"}, "da_size": {"8 MB?"}, "cntlr_cnt": {"2"}, "redundancy": {"none"}, "stripe_count": {"1"}}
	code, _, body := s.post("/do/create-array", form)
	if code != http.StatusBadRequest {
		t.Errorf("a bad size: %d", code)
	}
	has(t, "the form again", body, "Size &#34;8 MB?&#34;: give a number and a unit", `value="da0"`, `value="8 MB?"`)
	form.Set("da_size", "8M") // as vda_cli has it
	code, h, body := s.post("/do/create-array", form)
	if code != http.StatusSeeOther || h.Get("Location") != "/arrays/da0" {
		t.Fatalf("create: %d, %s", code, body)
	}
	code, _, body = s.post("/do/create-array", form)
	if code != http.StatusConflict {
		t.Errorf("created twice: %d", code)
	}
	has(t, "the form of what is there", body, "already exists")
	has(t, "the arrays", s.get("/arrays"), `href="/arrays/da0"`, "8.0 MiB")

	for action, form := range map[string]url.Values{
		"create-exporter": {"da_name": {"da0"}, "exp_name": {"e0"}, "initiator_nqn": {host}},
		"create-snapshot": {"da_name": {"da0"}, "snap_name": {"s0"}},
	} {
		if code, h, body := s.post("/do/"+action, form); code != 303 || h.Get("Location") != "/arrays/da0" {
			t.Fatalf("%s: %d, %s", action, code, body)
		}
	}
	page := s.get("/arrays/da0")
	has(t, "the array", page, "<svg", `class="optimized"`, `class="non-optimized"`, `class="data"`, host, "s0", "primary, optimized")
	has(t, "the snapshots", s.get("/snapshots"), "s0", `href="/arrays/da0"`)

	got, err := s.grpc.GetDa(context.Background(), &apiv1.GetDaRequest{DaName: "da0"})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(got.DaMsg.CntlrMsgList, func(c *apiv1.CntlrMsg) bool { return !c.Primary })
	secondary := got.DaMsg.CntlrMsgList[i].CnName
	has(t, "the failover's form", s.get("/do/failover?da_name=da0"), `<option value="`+secondary+`"`)
	if code, _, body := s.post("/do/failover", url.Values{"da_name": {"da0"}, "to_cn": {secondary}}); code != 303 {
		t.Fatalf("failover: %d, %s", code, body)
	}
	after, err := s.grpc.GetDa(context.Background(), &apiv1.GetDaRequest{DaName: "da0"})
	if err != nil || !after.DaMsg.CntlrMsgList[i].Primary {
		t.Errorf("after the failover: %v, %v", after, err)
	}
	has(t, "a cn", s.get("/cn/"+url.PathEscape(secondary)), "of which 1 primary", "Drain")
	for _, step := range []struct{ action, shows string }{{"drain-cn", "1 controller to go"}, {"undrain-cn", `href="/do/drain-cn`}} {
		if code, _, body := s.post("/do/"+step.action, url.Values{"cn_name": {secondary}}); code != http.StatusSeeOther {
			t.Fatalf("%s: %d, %s", step.action, code, body)
		}
		has(t, step.action, s.get("/cn/"+url.PathEscape(secondary)), step.shows)
	}
	dn := got.DaMsg.GrpMsgList[0].VdMsgList[0].DnName
	has(t, "a dn", s.get("/dn/"+url.PathEscape(dn)), "Disks", "Drain")
	has(t, "the nodes", s.get("/nodes"), dn, secondary)

	has(t, "the events", s.get("/events"), "change", "array da0", "127.0.0.1:")
	has(t, "warnings", s.get("/events?least=warning"), `aria-current="true">Warnings`)
	s.change(func(tx store.Tx) error {
		_, err := tx.UpsertAlert(vda.Alert{Code: vda.AlertDADegraded, Object: "da", Name: "da0", Text: "it is single",
			Since: time.Now().Add(-90 * time.Minute)})
		return err
	})
	has(t, "the alerts", s.get("/alerts"), "Alerts", "da_degraded", `href="/arrays/da0"`, "it is single", `<time datetime="2`)
	has(t, "the overview", s.get("/"), "2 alerts", "monitor_missing", `<a href="/alerts">da_degraded</a> of array da0, since <time datetime="2`)
	s.change(func(tx store.Tx) error {
		_, err := tx.DeleteAlert(vda.Alert{Code: vda.AlertDADegraded, Object: "da", Name: "da0"})
		return err
	})
	if code, _, body := s.post("/do/grow", url.Values{"da_name": {"da0"}, "da_size": {"4 MiB"}}); code != http.StatusConflict {
		t.Errorf("smaller: %d, %s", code, body)
	}
	code, _, body = s.post("/do/rollback", url.Values{"da_name": {"da0"}, "snap_name": {"s0"}, "confirm": {"s0"}})
	if code != http.StatusConflict {
		t.Errorf("rolled back under an exporter: %d", code)
	}
	has(t, "the form", body, "e0")

	// What loses data asks for the name again.
	code, _, body = s.post("/do/delete-snapshot", url.Values{"da_name": {"da0"}, "snap_name": {"s0"}, "confirm": {"da0"}})
	if code != http.StatusBadRequest {
		t.Errorf("deleted without the name: %d", code)
	}
	has(t, "the form", body, "Type s0 to confirm; nothing was done")
	for _, step := range []struct {
		action string
		form   url.Values
	}{
		{"delete-snapshot", url.Values{"da_name": {"da0"}, "snap_name": {"s0"}, "confirm": {"s0"}}},
		{"delete-exporter", url.Values{"da_name": {"da0"}, "exp_name": {"e0"}, "confirm": {"e0"}}},
		{"delete-array", url.Values{"da_name": {"da0"}, "confirm": {"da0"}}},
	} {
		if code, _, body := s.post("/do/"+step.action, step.form); code != 303 {
			t.Fatalf("%s: %d, %s", step.action, code, body)
		}
	}
	for path, words := range map[string]string{"/arrays/da0": "there is no da", "/nothing": "There is no page",
		"/do/nothing": "There is no action"} {
		code, _, body := s.send("GET", path, "")
		if code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
		has(t, path, body, words)
	}
}

// TestWords: pages say the address of a node beside its name, what is on it, what programs are called,
// and when all that was so.
func TestWords(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := context.Background()
	s.agent("192.0.2.5:9720")
	s.agent("192.0.2.6:9820")
	_, err := s.grpc.CreateDn(ctx, &apiv1.CreateDnRequest{DnName: "dn5", DnAddr: "192.0.2.5:9720",
		DnListenerConf: `{"trtype":"tcp","traddr":"192.0.2.5","adrfam":"ipv4","trsvcid":"4420"}`})
	if err == nil {
		_, err = s.grpc.CreateCn(ctx, &apiv1.CreateCnRequest{CnName: "cn6", CnAddr: "192.0.2.6:9820",
			CnListenerConf:        `{"trtype":"tcp","traddr":"192.0.2.6","adrfam":"ipv4","trsvcid":"4430"}`,
			CnBackendListenerConf: `{"trtype":"tcp","traddr":"198.51.100.6","adrfam":"ipv4","trsvcid":"4430"}`})
	}
	if err == nil {
		_, err = s.grpc.CreateDa(ctx, &apiv1.CreateDaRequest{DaName: "da0", DaSize: 8 << 20, CntlrCnt: 2})
	}
	if err == nil {
		_, err = s.grpc.CreateExp(ctx, &apiv1.CreateExpRequest{DaName: "da0", ExpName: "e0", InitiatorNqn: host})
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.grpc.GetDa(ctx, &apiv1.GetDaRequest{DaName: "da0"})
	if err != nil {
		t.Fatal(err)
	}
	s.login()
	has(t, "the nodes", s.get("/nodes"), `dn5</a></th><td>192.0.2.5:9720</td>`, `cn6</a></th><td>192.0.2.6:9820</td>`)
	has(t, "the dn", s.get("/dn/dn5"), `Disk node dn5`, `<dt>Agent</dt><dd>192.0.2.5:9720</dd>`)
	has(t, "the cn", s.get("/cn/cn6"), `Controller node cn6`, `<dt>Agent</dt><dd>192.0.2.6:9820</dd>`, "It has no controller.",
		`<dt>Listener</dt><dd>192.0.2.6:4430</dd><dt>Listener for controllers</dt><dd>198.51.100.6:4430</dd>`)
	vd := got.DaMsg.GrpMsgList[0].VdMsgList[0]
	has(t, "the dn of the array", s.get("/dn/"+url.PathEscape(vd.DnName)),
		`<td>`+vd.PdName+`</td><th scope="row"><a href="/arrays/da0">da0</a></th><td>0.0</td>`)
	for _, c := range got.DaMsg.CntlrMsgList {
		role := `<td>primary</td>`
		if !c.Primary {
			role = `<td>secondary, primary on <a href="/cn/` + url.PathEscape(got.DaMsg.PrimaryCn) + `">`
		}
		has(t, "the cn of the array", s.get("/cn/"+url.PathEscape(c.CnName)), `<a href="/arrays/da0">da0</a></th>`+role, `<div>e0 <span class="good">ok`)
	}
	// What a link leads to is about the node, whatever its name has in it.
	for _, name := range []string{"dn0:9720", "cn0:9820"} {
		kind := name[:2]
		_, link, _ := strings.Cut(s.get("/"+kind+"/"+url.PathEscape(name)), `class="button" href="`)
		link, _, _ = strings.Cut(link, `"`)
		has(t, link, s.get(html.UnescapeString(link)), `value="`+name+`"`)
	}
	before := time.Now().UTC().Truncate(time.Second)
	page := s.get("/")
	after := time.Now().UTC()
	has(t, "the overview", page, "<li>1 portal: ", "<li>3 disk node agents: ", "<li>3 controller node agents: ", " data planes: ")
	if strings.Contains(page, "dn_agent") || strings.Contains(page, "data_plane") {
		t.Errorf("the overview has the API's words:\n%s", page)
	}
	_, foot, _ := strings.Cut(page, `<p id="freshness">As of <time datetime="`)
	text, foot, _ := strings.Cut(foot, `">`)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Before(before) || at.After(after) || !strings.HasPrefix(foot, at.Format("2006-01-02 15:04:05")+"</time> UTC.") {
		t.Errorf("the page is as of %q (%v), between %v and %v: %s", text, err, before, after, foot)
	}
	has(t, "the events", s.get("/events"), "<td>array da0</td>", "<td>disk node dn5</td>", "<td>controller node cn6</td>", "<td>exporter ")
}

// TestCurl runs the commands of docs/rest.md.
func TestCurl(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("curl is not installed")
		}
		t.Skip("curl is not installed")
	}
	s := newSite(t)
	b, err := os.ReadFile("../../docs/rest.md")
	if err != nil {
		t.Fatal(err)
	}
	script := "set -e\n"
	for _, block := range strings.Split(string(b), "```sh\n")[1:] {
		commands, _, _ := strings.Cut(block, "```")
		script += commands
	}
	file := filepath.Join(t.TempDir(), "web-token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	script = strings.NewReplacer("http://192.168.0.11:9520", s.url, "/etc/vda/web-token", file).Replace(script)
	out, err := exec.CommandContext(t.Context(), "bash", "-c", script).CombinedOutput()
	if err != nil || strings.Count(string(out), `"reply_msg":"success"`) != 9 {
		t.Errorf("%v:\n%s\nof\n%s", err, out, script)
	}
}

// TestOpenAPI: docs/openapi.swagger.json is valid, and has every method once.
func TestOpenAPI(t *testing.T) {
	b, err := os.ReadFile("../../docs/openapi.swagger.json")
	if err != nil {
		t.Fatal(err)
	}
	var v2 openapi2.T
	if err := json.Unmarshal(b, &v2); err != nil {
		t.Fatal(err)
	}
	v3, err := openapi2conv.ToV3(&v2)
	if err != nil {
		t.Fatal(err)
	}
	if err := v3.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	placed := map[string]int{}
	for _, path := range v2.Paths {
		for _, op := range path.Operations() {
			placed[strings.TrimPrefix(op.OperationID, "Portal_")]++
		}
	}
	methods := apiv1.File_v1_portal_proto.Services().ByName("Portal").Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		if m.IsStreamingServer() || m.IsStreamingClient() {
			continue // over gRPC only
		}
		if placed[string(m.Name())] != 1 {
			t.Errorf("%s has %d places in api/v1/portal.http.yaml; it must have one", m.Name(), placed[string(m.Name())])
		}
	}
}
