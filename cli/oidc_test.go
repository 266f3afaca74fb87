package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/oidc"
	"github.com/virtual-disk-array/vda/portal/oidc/oidctest"
	"github.com/virtual-disk-array/vda/program"
)

// TestLoginAtAnIssuer: login --oidc shows where a browser logs in, takes one answer to that, and
// keeps the session as login does; an answer that is of another login ends nothing, and one that
// nobody was logged in is said.
func TestLoginAtAnIssuer(t *testing.T) {
	i := oidctest.New(t)
	cfg := oidc.Config{Issuer: i.URL, ClientID: oidctest.ClientID, Secret: oidctest.Secret, UserClaim: "sub", RoleClaim: "groups",
		Roles: map[string]string{"storage-operators": "operator"}, Order: []string{"operator"}, CA: x509.NewCertPool()}
	cfg.CA.AddCert(i.Certificate())
	o, err := oidc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	addr, _, ca := secured(t, func(c *portal.Config) { c.OIDC = o })
	without, _, otherCA := secured(t)
	h := newHome(t)
	h.refused("login --oidc --user ann --addr-port "+addr, "are not for --oidc")
	h.refused("login --user ann --callback-port 1 --addr-port "+addr, "is for --oidc alone")
	h.refused("login --oidc --callback-port 70000 --addr-port "+addr, "must be a port")
	if _, errs, exit := h.run(strings.Fields("login --oidc --addr-port " + without + " --ca-file " + otherCA)...); exit == 0 ||
		!strings.Contains(errs, "knows no issuer") {
		t.Errorf("exit %d, %s", exit, errs)
	}
	h.refused("login --user ann --device --addr-port "+addr, "--device is for --oidc alone")
	h.refused("login --oidc --device --callback-port 8250 --addr-port "+addr, "--callback-port is not for --device")
	loginBy := func(how string, browser func(at string)) (stdout, stderr string, exit int) {
		t.Helper()
		r, w := io.Pipe()
		var out bytes.Buffer
		ended := make(chan int, 1)
		go func() {
			line := "login --oidc " + how + " --addr-port " + addr + " --ca-file " + ca
			code := Program().Run(context.Background(), program.Process{Args: strings.Fields(line),
				Stdout: &out, Stderr: w, Getenv: func(name string) (string, bool) { v, is := h.env[name]; return v, is }})
			w.Close()
			ended <- code
		}()
		lines := bufio.NewScanner(r)
		said := ""
		for lines.Scan() {
			said += lines.Text() + "\n"
			if strings.HasPrefix(lines.Text(), "https://") {
				browser(lines.Text())
			}
		}
		return out.String(), said, <-ended
	}
	login := func(browser func(at string)) (stdout, stderr string, exit int) {
		t.Helper()
		return loginBy("", browser)
	}
	get := func(at string) int {
		t.Helper()
		resp, err := http.Get(at)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	out, errs, exit := login(func(at string) {
		back := i.Browse(t, at)
		forged := *back
		q := forged.Query()
		q.Set("state", "another login's")
		forged.RawQuery = q.Encode()
		if code := get(forged.String()); code != http.StatusForbidden {
			t.Errorf("another login's answer: %d", code)
		}
		if code := get(back.String()); code != http.StatusOK {
			t.Errorf("the answer: %d", code)
		}
	})
	if exit != 0 || !strings.Contains(out, "oidc:ann is logged in with the role operator until ") {
		t.Fatalf("exit %d, %s%s", exit, out, errs)
	}
	if out := h.ok("session list -o json"); !strings.Contains(out, `"user_name": "oidc:ann"`) {
		t.Error(out)
	}
	h.ok("logout")
	i.Deny = true
	out, errs, exit = login(func(at string) { get(i.Browse(t, at).String()) })
	if exit == 0 || !strings.Contains(errs, "the issuer has logged nobody in: access_denied not <today>") {
		t.Errorf("exit %d, %s%s", exit, out, errs)
	}
	i.Deny = false

	// With a browser elsewhere.
	i.Polls = []string{"authorization_pending"}
	enter := func(at string) {
		if _, code, there := strings.Cut(at, "?user_code="); there {
			i.Confirm(t, code)
		}
	}
	out, errs, exit = loginBy("--device", enter)
	if exit != 0 || !strings.Contains(out, "oidc:ann is logged in with the role operator until ") ||
		!strings.Contains(errs, i.URL+"/enter\nand enter the code ") || !strings.Contains(errs, " there within 10m0s. Enter no code that") {
		t.Fatalf("exit %d, %s%s", exit, out, errs)
	}
	if out := h.ok("session list -o json"); !strings.Contains(out, `"user_name": "oidc:ann"`) {
		t.Error(out)
	}
	h.ok("logout")
	for problem, words := range map[string]string{
		"access_denied": "who was asked in the browser has declined", "expired_token": "its code has expired",
	} {
		i.Polls = []string{problem}
		if out, errs, exit = loginBy("--device", func(string) {}); exit == 0 || !strings.Contains(errs, words) ||
			strings.Contains(errs, "<in its words>") {
			t.Errorf("%s: exit %d, %s%s", problem, exit, out, errs)
		}
	}
}
