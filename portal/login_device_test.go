package portal_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/oidc"
	"github.com/virtual-disk-array/vda/portal/oidc/oidctest"
)

// TestDeviceLogin: who has no browser logs in with a code that he confirms elsewhere, at any portal, once; what
// the issuer says in between is said in our words; logins are in the audit, and codes nowhere.
func TestDeviceLogin(t *testing.T) {
	t.Parallel()
	i, ctx := oidctest.New(t), context.Background()
	var log lockedBuffer
	f := secured(t, at(t, i))
	root := f.user("root", "admin")
	fresh := func(change ...func(*oidc.Config)) apiv1.SecurityClient { // a portal of its own, as wrong ones are slowed down
		f.addr = f.Portal(at(t, i, change...), func(c *portal.Config) {
			c.Identity, c.Log = f.id, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		return apiv1.NewSecurityClient(f.nobody())
	}
	begin := func(c apiv1.SecurityClient) *apiv1.BeginDeviceLoginReply {
		t.Helper()
		r, err := c.BeginDeviceLogin(ctx, &apiv1.BeginDeviceLoginRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	poll := func(c apiv1.SecurityClient, code string) (*apiv1.PollDeviceLoginReply, error) {
		return c.PollDeviceLogin(ctx, &apiv1.PollDeviceLoginRequest{DeviceCode: code})
	}
	a := fresh()
	r := begin(a)
	if r.VerificationUri != i.URL+"/enter" || r.VerificationUriComplete != i.URL+"/enter?user_code="+r.UserCode || r.IntervalS != 1 ||
		r.ExpiresS != 600 || r.UserCode == "" || r.DeviceCode == "" {
		t.Errorf("begun: %v", r)
	}
	i.Polls = []string{"authorization_pending", "slow_down"}
	for n, slow := range []bool{false, true, false} {
		if p, err := poll(a, r.DeviceCode); err != nil || p.Session != nil || p.SlowDown != slow {
			t.Errorf("poll %d: %v, %v", n, p, err)
		}
	}
	i.Confirm(t, r.UserCode)
	other := fresh() // keeps nothing of it
	p, err := poll(other, r.DeviceCode)
	if err != nil || p.Session.GetUserName() != "oidc:ann" || p.Session.Role != "operator" {
		t.Fatalf("confirmed: %v, %v", p, err)
	}
	tok, err := pki.ParseUserToken(p.Session.Token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.with(tok).ListDa(ctx, &apiv1.ListDaRequest{}); err != nil {
		t.Error(err)
	}
	_, err = poll(other, r.DeviceCode)
	refusedWith(t, err, apiv1.CodeUnauthenticated, "the issuer does not know the login (invalid_grant)")

	for problem, words := range map[string]string{
		"access_denied":  "the issuer has logged nobody in: who was asked in the browser has declined, or may not log in here (access_denied)",
		"expired_token":  "nobody has confirmed the login in time, and its code has expired (expired_token); log in again",
		"something_else": "the issuer does not know the login (something_else)",
	} {
		c := fresh()
		r := begin(c)
		i.Polls = []string{problem}
		_, err := poll(c, r.DeviceCode)
		refusedWith(t, err, apiv1.CodeUnauthenticated, words)
		if strings.Contains(err.Error(), "<in its words>") {
			t.Errorf("%s: %v", problem, err)
		}
	}
	for what, claims := range map[string]func(map[string]any){
		"it is for another client":          func(c map[string]any) { c["aud"] = "another-client" },
		"it is of another login (nonce)":    func(c map[string]any) { c["nonce"] = rand.Text() },
		"has expired":                       func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() },
		"oidc:ann has no role in this clus": func(c map[string]any) { c["groups"] = nil },
	} {
		c := fresh()
		r := begin(c)
		i.Confirm(t, r.UserCode)
		i.Claims = claims
		if _, err := poll(c, r.DeviceCode); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	i.Claims = nil

	c := fresh()
	i.InForm = true // an issuer that takes the client's secret in forms alone
	r = begin(c)
	i.Confirm(t, r.UserCode)
	if p, err := poll(c, r.DeviceCode); err != nil || p.Session == nil {
		t.Errorf("%v, %v", p, err)
	}
	i.InForm = false
	_, err = fresh(func(c *oidc.Config) { c.Secret = "wrong" }).BeginDeviceLogin(ctx, &apiv1.BeginDeviceLoginRequest{})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "refuses the portal itself (invalid_client)")
	i.NoDevices = true
	_, err = fresh().BeginDeviceLogin(ctx, &apiv1.BeginDeviceLoginRequest{})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "has no logins by a browser elsewhere (it names no device_authorization_endpoint)")
	i.NoDevices = false
	_, err = poll(fresh(), "")
	refusedWith(t, err, apiv1.CodeInvalid, "device_code has 0 characters")

	// Neither invented codes nor beginnings are all taken to the issuer.
	c = fresh()
	guessed, begun := false, false
	for range 20 {
		_, err := poll(c, "invented")
		guessed = guessed || client.CodeOf(err) == apiv1.CodeBusy
		_, err = c.BeginDeviceLogin(ctx, &apiv1.BeginDeviceLoginRequest{})
		begun = begun || client.CodeOf(err) == apiv1.CodeBusy
	}
	if !guessed || !begun {
		t.Errorf("20 at once were all taken to the issuer: codes %t, beginnings %t", !guessed, !begun)
	}
	events, err := root.ListEvent(ctx, &apiv1.ListEventRequest{Filter: &apiv1.EventFilter{Audit: true}})
	if err != nil {
		t.Fatal(err)
	}
	in, out := 0, 0
	for _, e := range events.EventMsgList {
		switch {
		case e.Method == "PollDeviceLogin" && e.Kind == "change" && e.User == "oidc:ann" && e.Peer != "":
			in++
		case e.Method == "PollDeviceLogin" && e.Kind == "change_refused" && e.Code == uint32(apiv1.CodeUnauthenticated):
			out++
		}
	}
	if in != 2 || out < 4 {
		t.Errorf("the audit has %d logins and %d that failed, want 2 and 4 or more: %v", in, out, events.EventMsgList)
	}
	if text := log.String(); strings.Contains(text, r.DeviceCode) || !strings.Contains(text, "PollDeviceLogin") {
		t.Error("the log has a device code, or nothing at all")
	}
}
