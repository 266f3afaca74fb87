package portal_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
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

// at has a portal take logins of an issuer.
func at(t *testing.T, i *oidctest.Issuer, change ...func(*oidc.Config)) func(*portal.Config) {
	t.Helper()
	cfg := oidc.Config{Issuer: i.URL, ClientID: oidctest.ClientID, Secret: oidctest.Secret, UserClaim: "sub", RoleClaim: "groups",
		Roles: map[string]string{"storage-operators": "operator", "storage-admins": "admin", "auditors": "viewer"},
		Order: []string{"admin", "operator", "csi", "viewer"}, CA: x509.NewCertPool()}
	cfg.CA.AddCert(i.Certificate())
	for _, c := range change {
		c(&cfg)
	}
	o, err := oidc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return func(c *portal.Config) { c.OIDC = o }
}

// attempt is a login at an issuer, as vda_cli and the pages make one.
type attempt struct {
	verifier, nonce, state, redirect string
}

func newAttempt() attempt {
	return attempt{rand.Text() + rand.Text(), rand.Text(), rand.Text(), "http://127.0.0.1:1/callback"}
}

// begin returns where a browser logs in.
func (a attempt) begin(c *client.Client) (string, error) {
	sum := sha256.Sum256([]byte(a.verifier))
	reply, err := apiv1.NewSecurityClient(c).GetLoginUrl(context.Background(), &apiv1.GetLoginUrlRequest{RedirectUri: a.redirect,
		State: a.state, Nonce: a.nonce, CodeChallenge: base64.RawURLEncoding.EncodeToString(sum[:])})
	return reply.GetUrl(), err
}

func (a attempt) end(c *client.Client, code string) (*apiv1.LoginReply, error) {
	return apiv1.NewSecurityClient(c).LoginOidc(context.Background(), &apiv1.LoginOidcRequest{Code: code, CodeVerifier: a.verifier,
		Nonce: a.nonce, RedirectUri: a.redirect})
}

// logIn is a whole one.
func logIn(t *testing.T, f *fortress, i *oidctest.Issuer) (*apiv1.LoginReply, error) {
	t.Helper()
	a, c := newAttempt(), f.nobody()
	at, err := a.begin(c)
	if err != nil {
		return nil, err
	}
	return a.end(c, i.Browse(t, at).Query().Get("code"))
}

// TestLoginAtAnIssuer: a user of the issuer gets a session with the role that a claim stands for,
// which is in the list of sessions, ends as others do, and is in the audit, and has nothing in
// common with a user of the cluster of the same name.
func TestLoginAtAnIssuer(t *testing.T) {
	t.Parallel()
	i := oidctest.New(t)
	f, ctx := secured(t, at(t, i)), context.Background()
	root := f.user("root", "admin")
	if _, err := root.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: "ann", Role: "viewer", Password: word}); err != nil {
		t.Fatal(err)
	}
	reply, err := logIn(t, f, i)
	if err != nil {
		t.Fatal(err)
	}
	if reply.UserName != "oidc:ann" || reply.Role != "operator" || time.Until(time.UnixMicro(reply.UntilUs)) < 11*time.Hour {
		t.Errorf("the session: %v %v %v", reply.UserName, reply.Role, reply.UntilUs)
	}
	tok, err := pki.ParseUserToken(reply.Token)
	if err != nil {
		t.Fatal(err)
	}
	ann := f.with(tok)
	if _, err := ann.ListDa(ctx, &apiv1.ListDaRequest{}); err != nil {
		t.Error(err)
	}
	_, err = ann.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: "eve", Role: "admin", Password: word})
	refusedWith(t, err, apiv1.CodePermissionDenied, "operator")
	_, err = root.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: "oidc:ann", Role: "viewer", Password: word})
	refusedWith(t, err, apiv1.CodeInvalid, "user_name")
	own, err := ann.ListSession(ctx, &apiv1.ListSessionRequest{})
	if err != nil || len(own.SessionMsgList) != 1 || own.SessionMsgList[0].UserName != "oidc:ann" || !own.SessionMsgList[0].Own {
		t.Errorf("sessions: %v, %v", own, err)
	}
	if _, err := root.DeleteUser(ctx, &apiv1.DeleteUserRequest{UserName: "oidc:ann"}); err != nil {
		t.Error(err)
	}
	if _, err := ann.ListDa(ctx, &apiv1.ListDaRequest{}); client.CodeOf(err) != apiv1.CodeUnauthenticated {
		t.Errorf("after the user's end: %v", err)
	}
	i.Claims = func(c map[string]any) { c["groups"] = []string{"auditors", "storage-admins"} }
	if reply, err := logIn(t, f, i); err != nil || reply.Role != "admin" {
		t.Errorf("with two roles: %v, %v", reply, err)
	}
	i.Claims = func(c map[string]any) { c["groups"] = nil }
	_, err = logIn(t, f, i)
	refusedWith(t, err, apiv1.CodePermissionDenied, "oidc:ann has no role in this cluster: none of --oidc-role is in the claim groups")
	events, err := root.ListEvent(ctx, &apiv1.ListEventRequest{Filter: &apiv1.EventFilter{Audit: true}})
	if err != nil {
		t.Fatal(err)
	}
	in, out := 0, 0
	for _, e := range events.EventMsgList {
		switch {
		case e.Method == "LoginOidc" && e.Kind == "change" && e.User == "oidc:ann" && e.Peer != "":
			in++
		case e.Method == "LoginOidc" && e.Kind == "change_refused" && e.Code == uint32(apiv1.CodePermissionDenied):
			out++
		}
	}
	if in != 2 || out != 1 {
		t.Errorf("the audit has %d logins and %d that failed, want 2 and 1: %v", in, out, events.EventMsgList)
	}
}

// TestForgedLogins: what is not an ID token of the issuer, for this client and this login, now, lets
// nobody in, whatever it says of itself; nor does a code that is another's.
func TestForgedLogins(t *testing.T) {
	t.Parallel()
	i := oidctest.New(t)
	f := secured(t, at(t, i))
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rs256 := map[string]any{"alg": "RS256", "kid": "k1"}
	public := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(i.Key())})
	for name, tt := range map[string]struct {
		claims func(map[string]any)
		sign   func(map[string]any) string
		words  string
	}{
		"another audience": {claims: func(c map[string]any) { c["aud"] = "another-client" }, words: "it is for another client"},
		"two audiences":    {claims: func(c map[string]any) { c["aud"] = []string{"x", oidctest.ClientID} }, words: "another client (azp)"},
		"another party":    {claims: func(c map[string]any) { c["azp"] = "x" }, words: "another client (azp)"},
		"another nonce":    {claims: func(c map[string]any) { c["nonce"] = rand.Text() }, words: "another login (nonce)"},
		"no nonce":         {claims: func(c map[string]any) { delete(c, "nonce") }, words: "another login (nonce)"},
		"expired":          {claims: func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() }, words: "has expired"},
		"no expiry":        {claims: func(c map[string]any) { delete(c, "exp") }, words: "has expired"},
		"of the future":    {claims: func(c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() }, words: "it is not valid yet"},
		"another issuer":   {claims: func(c map[string]any) { c["iss"] = "https://login.example.com" }, words: "it is of another issuer"},
		"an evil name":     {claims: func(c map[string]any) { c["sub"] = "ann\nroot" }, words: "the claim sub, which names the user"},
		"no name":          {claims: func(c map[string]any) { delete(c, "sub") }, words: "the claim sub, which names the user, has nothing"},
		"another's key": {sign: func(c map[string]any) string {
			return oidctest.Signed(rs256, c, func(b []byte) []byte { return oidctest.Sign(foreign, b) })
		}, words: "no key of the issuer has signed it"},
		"no algorithm": {sign: func(c map[string]any) string {
			return oidctest.Signed(map[string]any{"alg": "none"}, c, func([]byte) []byte { return nil })
		}, words: "it is not signed, or in a way that is not taken"},
		"the key as a secret": {sign: func(c map[string]any) string {
			return oidctest.Signed(map[string]any{"alg": "HS256", "kid": "k1"}, c, func(b []byte) []byte {
				h := hmac.New(sha256.New, public)
				h.Write(b)
				return h.Sum(nil)
			})
		}, words: "it is not signed, or in a way that is not taken"},
		"changed behind the signature": {sign: func(c map[string]any) string {
			parts := strings.Split(i.RS256(c), ".")
			c["groups"] = "storage-admins"
			parts[1] = strings.Split(i.RS256(c), ".")[1]
			return strings.Join(parts, ".")
		}, words: "no key of the issuer has signed it"},
		"no token": {sign: func(map[string]any) string { return "nothing" }, words: "it cannot be read"},
	} {
		i.Claims, i.Sign = tt.claims, tt.sign
		// Each comes from a portal of its own, as wrong ones are slowed down.
		f.addr = f.Portal(at(t, i), func(cfg *portal.Config) { cfg.Identity = f.id })
		reply, err := logIn(t, f, i)
		if err == nil || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "oidc: ") {
			t.Errorf("%s: %v, %v; want %q", name, reply, err, tt.words)
		}
	}
	i.Claims, i.Sign = nil, nil
	f.addr = f.Portal(at(t, i), func(cfg *portal.Config) { cfg.Identity = f.id })
	c := f.nobody()
	code := func(a attempt) string {
		t.Helper()
		at, err := a.begin(c)
		if err != nil {
			t.Fatal(err)
		}
		return i.Browse(t, at).Query().Get("code")
	}
	mine, thief := newAttempt(), newAttempt()
	_, err = thief.end(c, code(mine)) // without the verifier
	refusedWith(t, err, apiv1.CodeUnauthenticated, "the issuer does not take the code")
	other := mine
	other.redirect = "http://127.0.0.1:2/callback"
	_, err = other.end(c, code(mine))
	refusedWith(t, err, apiv1.CodeUnauthenticated, "the issuer does not take the code")
	once := code(mine)
	if _, err := mine.end(c, once); err != nil {
		t.Error(err)
	}
	_, err = mine.end(c, once)
	refusedWith(t, err, apiv1.CodeUnauthenticated, "the issuer does not take the code")
	busy := false
	for range 20 {
		_, err := mine.end(c, "invented")
		busy = busy || client.CodeOf(err) == apiv1.CodeBusy
	}
	if !busy {
		t.Error("20 invented codes were all shown to the issuer")
	}
	for _, bad := range []string{"http://elsewhere.example/", "javascript:alert(1)", "", "https://"} {
		a := newAttempt()
		a.redirect = bad
		_, err := a.begin(c)
		refusedWith(t, err, apiv1.CodeInvalid, "redirect_uri")
	}
	short := newAttempt()
	short.nonce = "1"
	_, err = short.begin(c)
	refusedWith(t, err, apiv1.CodeInvalid, "nonce has 1 characters")
}

// TestIssuerAway: while the issuer is away, or is not what the portal was told, a login says so in
// words, and passwords go on.
func TestIssuerAway(t *testing.T) {
	t.Parallel()
	i, ctx := oidctest.New(t), context.Background()
	f := secured(t, at(t, i))
	user := &apiv1.CreateUserRequest{UserName: "ann", Role: "viewer", Password: word}
	if _, err := f.user("root", "admin").CreateUser(ctx, user); err != nil {
		t.Fatal(err)
	}
	for words, change := range map[string]func(*oidc.Config){
		"has a certificate that the portal does not trust: --oidc-ca-file": func(c *oidc.Config) { c.CA = x509.NewCertPool() },
		"the issuer calls itself":                    func(c *oidc.Config) { c.Issuer += "/" },
		"has no answer that makes sense: 404":        func(c *oidc.Config) { c.Issuer += "/realm" },
		"refuses the portal itself (invalid_client)": func(c *oidc.Config) { c.Secret = "wrong" },
	} {
		f.addr = f.Portal(at(t, i, change), func(cfg *portal.Config) { cfg.Identity = f.id })
		_, err := logIn(t, f, i)
		refusedWith(t, err, apiv1.CodeFailedPrecondition, words)
	}
	f.addr = f.Portal(at(t, i), func(cfg *portal.Config) { cfg.Identity = f.id })
	a, c := newAttempt(), f.nobody()
	url, err := a.begin(c)
	if err != nil {
		t.Fatal(err)
	}
	code := i.Browse(t, url).Query().Get("code")
	i.Close()
	_, err = a.end(c, code)
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "the issuer "+i.URL+" does not answer: ")
	f.addr = f.Portal(at(t, i), func(cfg *portal.Config) {
		cfg.Identity, cfg.PasswordCost = f.id, pki.PasswordCost{Passes: 1, KiB: 64, Threads: 1}
	})
	_, err = newAttempt().begin(f.nobody())
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "the issuer "+i.URL+" does not answer: ")
	if _, err := f.login("ann", word); err != nil {
		t.Errorf("a password while the issuer is away: %v", err)
	}
	f.addr = f.Portal(func(cfg *portal.Config) { cfg.Identity = f.id })
	_, err = newAttempt().begin(f.nobody())
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "knows no issuer")
}

// TestIssuerOnThePage: a browser logs in at the issuer, and nowhere with another's answer, or with one
// that it has used; what the issuer says is shown as text.
func TestIssuerOnThePage(t *testing.T) {
	t.Parallel()
	i := oidctest.New(t)
	f := secured(t, at(t, i))
	tok, err := pki.NewUserToken(f.id.Name().Cluster, f.id.CA())
	if err != nil {
		t.Fatal(err)
	}
	cfg := tok.TLS()
	cfg.NextProtos = []string{"http/1.1"}
	browser := func() *http.Client {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: cfg},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	get := func(c *http.Client, at string) (*http.Response, string) {
		t.Helper()
		resp, err := c.Get(at)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	base := "https://" + f.addr
	ann, eve := browser(), browser()
	if _, body := get(ann, base+"/login?to=/nodes"); !strings.Contains(body, `href="/login/oidc?to=%2fnodes"`) {
		t.Error(body)
	}
	begin := func(c *http.Client) string {
		t.Helper()
		resp, body := get(c, base+"/login/oidc?to=/nodes")
		if resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("%d, %s", resp.StatusCode, body)
		}
		return i.Browse(t, resp.Header.Get("Location")).String()
	}
	back := begin(ann)
	// Another browser gets nowhere with it, with a login of its own or without, nor does one that is told
	// the answer of an attacker's login.
	for what, who := range map[string]*http.Client{"without a login": browser(), "with another login": eve} {
		if who == eve {
			begin(eve)
		}
		if resp, body := get(who, back); resp.StatusCode != http.StatusForbidden || strings.Contains(body, "Go on") {
			t.Errorf("%s: %d, %s", what, resp.StatusCode, body)
		}
	}
	begin(eve)
	u, _ := url.Parse(back)
	if resp, body := get(ann, back); resp.StatusCode != 200 || !strings.Contains(body, `content="0;url=/nodes"`) {
		t.Fatalf("%d, %s", resp.StatusCode, body)
	}
	if resp, body := get(ann, base+"/nodes"); resp.StatusCode != 200 {
		t.Errorf("the nodes: %d, %s", resp.StatusCode, body)
	}
	if resp, _ := get(ann, back); resp.StatusCode != http.StatusForbidden {
		t.Errorf("the same answer again: %d", resp.StatusCode)
	}
	// The cookie of a login is no session.
	resp, _ := get(eve, base+"/login/oidc")
	for _, c := range resp.Cookies() {
		if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/login/oidc" {
			t.Errorf("the cookie of a login: %v", c)
		}
		c.Name, c.Path = "vda_session", "/"
		eve.Jar.SetCookies(&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}, []*http.Cookie{c})
	}
	if resp, _ := get(eve, base+"/nodes"); resp.StatusCode == 200 {
		t.Error("the cookie of a login lets in")
	}
	i.Deny = true
	if resp, body := get(eve, begin(eve)); resp.StatusCode != http.StatusForbidden ||
		!strings.Contains(body, "The issuer has logged nobody in: access_denied not &lt;today&gt;") {
		t.Errorf("%d, %s", resp.StatusCode, body)
	}
}
