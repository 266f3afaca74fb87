package portal_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/client"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/portal/portaltest"
	"github.com/virtual-disk-array/vda/store"
)

// fortress is a portal of a secured cluster, whose admin is root.
type fortress struct {
	*portaltest.Cluster
	t    *testing.T
	addr string
	id   *pki.Identity
}

func secured(t *testing.T, options ...func(*portal.Config)) *fortress {
	t.Helper()
	c := portaltest.New(t)
	id, err := pki.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cluster := ""
	c.Change(func(tx store.Tx) (err error) { cluster, err = tx.Unlocked().ClusterID(); return err })
	ca, err := pki.NewCA(cluster, time.Now())
	if err == nil {
		err = id.IssueOwn(ca, pki.Name{Cluster: cluster, Kind: pki.Portal, Name: "portal.test:9520"})
	}
	if err == nil {
		err = id.Secure()
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &fortress{Cluster: c, t: t, id: id}
	f.addr = c.Portal(append(options, func(cfg *portal.Config) {
		cfg.Identity, cfg.CA, cfg.WebToken = id, ca, "the portal's own token"
		cfg.PasswordCost = pki.PasswordCost{Passes: 1, KiB: 64, Threads: 1}
	})...)
	return f
}

// user is a client with a new token of a user.
func (f *fortress) user(name, role string) *client.Client {
	f.t.Helper()
	tok, err := pki.NewUserToken(f.id.Name().Cluster, f.id.CA())
	if err != nil {
		f.t.Fatal(err)
	}
	f.Change(func(tx store.Tx) error {
		return tx.InsertToken(&store.Token{Hash: pki.HashSecret(tok.Secret), Kind: pki.User, Name: name, Role: role,
			Expires: time.Now().Add(time.Hour)})
	})
	return f.with(tok)
}

// with is a client that shows a token.
func (f *fortress) with(tok pki.UserToken) *client.Client {
	f.t.Helper()
	cfg := client.Config{Portals: []string{f.addr}}
	cfg.Secure(tok)
	if tok.Secret == "" {
		cfg.Dial.Credentials = nil
	}
	c, err := client.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

// nobody is a client that trusts the portal and shows nothing.
func (f *fortress) nobody() *client.Client {
	f.t.Helper()
	tok, err := pki.NewUserToken(f.id.Name().Cluster, f.id.CA())
	if err != nil {
		f.t.Fatal(err)
	}
	tok.Secret = ""
	return f.with(tok)
}

const word = "correct horse battery"

// login begins a session.
func (f *fortress) login(name, password string) (*client.Client, error) {
	reply, err := apiv1.NewSecurityClient(f.nobody()).Login(context.Background(), &apiv1.LoginRequest{UserName: name, Password: password})
	if err != nil {
		return nil, err
	}
	tok, err := pki.ParseUserToken(reply.Token)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.with(tok), nil
}

// TestUsersLogIn: a user with a password gets a session with the user's role, which ends by
// logging out, by another password, and with the user; the audit has who logged in and who
// failed, and no password.
func TestUsersLogIn(t *testing.T) {
	t.Parallel()
	f, ctx := secured(t), context.Background()
	root := f.user("root", "admin")
	if _, err := root.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: "ann", Role: "viewer", Password: word}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		req   *apiv1.CreateUserRequest
		code  apiv1.ReplyCode
		words string
	}{
		{&apiv1.CreateUserRequest{UserName: "ann", Role: "admin", Password: word}, apiv1.CodeNameTaken, "ann"},
		{&apiv1.CreateUserRequest{UserName: "b b", Role: "viewer", Password: word}, apiv1.CodeInvalid, "user_name"},
		{&apiv1.CreateUserRequest{UserName: "bob", Role: "king", Password: word}, apiv1.CodeInvalid, "role"},
		{&apiv1.CreateUserRequest{UserName: "bob", Role: "viewer", Password: "short"}, apiv1.CodeInvalid, "12 to 256"},
	} {
		_, err := root.CreateUser(ctx, r.req)
		refusedWith(t, err, r.code, r.words)
	}
	for _, bad := range [][2]string{{"ann", word + "!"}, {"nobody", word}} {
		if _, err := f.login(bad[0], bad[1]); err == nil || !strings.Contains(err.Error(), "the user's name or the password is not right") {
			t.Errorf("%v: %v", bad, err)
		}
	}
	ann, err := f.login("ann", word)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ann.ListDa(ctx, &apiv1.ListDaRequest{}); err != nil {
		t.Errorf("a viewer's session: %v", err)
	}
	_, err = ann.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: "eve", Role: "admin", Password: word})
	refusedWith(t, err, apiv1.CodePermissionDenied, "viewer")
	list, err := root.ListUser(ctx, &apiv1.ListUserRequest{})
	if err != nil || len(list.UserMsgList) != 2 || list.UserMsgList[0].SessionCnt != 1 || !list.UserMsgList[0].Password ||
		list.UserMsgList[1].UserName != "root" || list.UserMsgList[1].TokenCnt != 1 {
		t.Errorf("users: %v, %v", list, err)
	}

	ended := func(what string, c *client.Client) {
		t.Helper()
		_, err := c.ListDa(ctx, &apiv1.ListDaRequest{})
		if client.CodeOf(err) != apiv1.CodeUnauthenticated {
			t.Errorf("after %s: %v", what, err)
		}
	}
	if _, err := apiv1.NewSecurityClient(ann).Logout(ctx, &apiv1.LogoutRequest{}); err != nil {
		t.Error(err)
	}
	ended("logging out", ann)
	if ann, err = f.login("ann", word); err != nil {
		t.Fatal(err)
	}
	role := "operator"
	if _, err := root.ModifyUser(ctx, &apiv1.ModifyUserRequest{UserName: "ann", NewRole: &role}); err != nil {
		t.Error(err)
	}
	ended("another role", ann)
	if ann, err = f.login("ann", word); err != nil {
		t.Fatal(err)
	}
	if _, err := root.DeleteUser(ctx, &apiv1.DeleteUserRequest{UserName: "ann"}); err != nil {
		t.Error(err)
	}
	ended("the user's end", ann)
	_, err = root.DeleteUser(ctx, &apiv1.DeleteUserRequest{UserName: "root"})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "no admin would be left")
	_, err = root.DeleteUser(ctx, &apiv1.DeleteUserRequest{UserName: "ann"})
	refusedWith(t, err, apiv1.CodeNotFound, "ann")

	events, err := root.ListEvent(ctx, &apiv1.ListEventRequest{Filter: &apiv1.EventFilter{Audit: true}})
	if err != nil {
		t.Fatal(err)
	}
	in, out := 0, 0
	for _, e := range events.EventMsgList {
		if strings.Contains(e.Text, "horse") {
			t.Errorf("the audit has a password: %v", e)
		}
		if e.Method == "Login" && e.Kind == "change" && e.User == "ann" && e.Peer != "" {
			in++
		}
		if e.Method == "Login" && e.Kind == "change_refused" && e.Code == uint32(apiv1.CodeUnauthenticated) {
			out++
		}
	}
	if in != 3 || out != 2 {
		t.Errorf("the audit has %d logins and %d that failed, want 3 and 2: %v", in, out, events.EventMsgList)
	}
}

// TestOwnPassword: whatever the role, a user changes his own password, and nobody else's, with the
// present one: all his sessions end, others' go on. A wrong one counts as a guess.
func TestOwnPassword(t *testing.T) {
	t.Parallel()
	f, ctx := secured(t), context.Background()
	root := f.user("root", "admin")
	for _, name := range []string{"ann", "bob"} {
		if _, err := root.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: name, Role: "viewer", Password: word}); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name, password string) *client.Client {
		t.Helper()
		c, err := f.login(name, password)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ann, other, bob := in("ann", word), in("ann", word), in("bob", word)
	const fresh = "battery staple horse"
	for _, r := range []struct {
		by    *client.Client
		req   *apiv1.SetPasswordRequest
		code  apiv1.ReplyCode
		words string
	}{
		{ann, &apiv1.SetPasswordRequest{Password: word, NewPassword: "short"}, apiv1.CodeInvalid, "new_password: "},
		{ann, &apiv1.SetPasswordRequest{Password: word, NewPassword: word}, apiv1.CodeInvalid, "the same"},
		{ann, &apiv1.SetPasswordRequest{Password: word + "!", NewPassword: fresh}, apiv1.CodeUnauthenticated, "not right"},
		{root, &apiv1.SetPasswordRequest{Password: word, NewPassword: fresh}, apiv1.CodeUnauthenticated, "not right"}, // has none
		{f.nobody(), &apiv1.SetPasswordRequest{Password: word, NewPassword: fresh}, apiv1.CodeUnauthenticated, "says not who"},
	} {
		_, err := r.by.SetPassword(ctx, r.req)
		refusedWith(t, err, r.code, r.words)
	}
	if _, err := ann.SetPassword(ctx, &apiv1.SetPasswordRequest{Password: word, NewPassword: fresh}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*client.Client{"that changed it": ann, "elsewhere": other} {
		if _, err := c.ListDa(ctx, &apiv1.ListDaRequest{}); client.CodeOf(err) != apiv1.CodeUnauthenticated {
			t.Errorf("the session %s: %v", name, err)
		}
	}
	if _, err := bob.ListDa(ctx, &apiv1.ListDaRequest{}); err != nil {
		t.Errorf("another user's session: %v", err)
	}
	if _, err := f.login("ann", word); err == nil {
		t.Error("the old password is good still")
	}
	in("ann", fresh)
	for range 20 {
		_, err := bob.SetPassword(ctx, &apiv1.SetPasswordRequest{Password: word + "?", NewPassword: fresh})
		if client.CodeOf(err) == apiv1.CodeBusy {
			return
		}
	}
	t.Error("20 wrong passwords were looked at, one after the other")
}

// TestSessions: a user sees and ends his own sessions, an admin everybody's; one that has ended is
// refused at once. Their ids are of no use as tokens.
func TestSessions(t *testing.T) {
	t.Parallel()
	f, ctx := secured(t), context.Background()
	root := f.user("root", "admin")
	sessions := map[string]*client.Client{}
	for _, name := range []string{"ann", "bob"} {
		if _, err := root.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: name, Role: "csi", Password: word}); err != nil {
			t.Fatal(err)
		}
		for _, which := range []string{"", "2"} {
			c, err := f.login(name, word)
			if err != nil {
				t.Fatal(err)
			}
			sessions[name+which] = c
		}
	}
	list := func(c *client.Client, want ...string) []*apiv1.SessionMsg {
		t.Helper()
		reply, err := c.ListSession(ctx, &apiv1.ListSessionRequest{})
		var got []string
		for _, m := range reply.GetSessionMsgList() {
			got = append(got, m.UserName)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("sessions of %v, %v; want %v", got, err, want)
		}
		return reply.SessionMsgList
	}
	all := list(root, "ann", "ann", "bob", "bob")
	for _, m := range all {
		begun, err := time.Parse(time.RFC3339, m.Begun)
		until, err2 := time.Parse(time.RFC3339, m.Until)
		if err != nil || err2 != nil || until.Sub(begun) != 12*time.Hour || m.Role != "csi" || m.Own || len(m.SessionId) != 16 {
			t.Errorf("%v: %v, %v", m, err, err2)
		}
	}
	own := ""
	for _, m := range list(sessions["ann"], "ann", "ann") {
		if m.Own {
			own = m.SessionId
		}
	}
	if own == "" {
		t.Fatal("a session does not know itself")
	}
	end := func(c *client.Client, id string) error {
		_, err := c.DeleteSession(ctx, &apiv1.DeleteSessionRequest{SessionId: id})
		return err
	}
	refusedWith(t, end(sessions["bob"], own), apiv1.CodeNotFound, "session "+own)
	refusedWith(t, end(sessions["ann"], all[2].SessionId), apiv1.CodeNotFound, "does not exist, or has ended")
	refusedWith(t, end(root, ""), apiv1.CodeNotFound, "does not exist, or has ended")
	list(root, "ann", "ann", "bob", "bob")
	if err := end(sessions["ann2"], own); err != nil {
		t.Error(err)
	}
	if _, err := sessions["ann"].ListDa(ctx, &apiv1.ListDaRequest{}); client.CodeOf(err) != apiv1.CodeUnauthenticated {
		t.Errorf("a session that was ended: %v", err)
	}
	if err := end(root, all[2].SessionId); err != nil {
		t.Error(err)
	}
	list(root, "ann", "bob")
	list(sessions["ann2"], "ann")
}

// TestPasswordsAreGuessedSlowly: who tries one password after the other is held up soon, also
// with the right one, and the log has each.
func TestPasswordsAreGuessedSlowly(t *testing.T) {
	t.Parallel()
	f := secured(t)
	busy := 0
	for range 20 { // of nobody, whose password is looked at all the same
		_, err := f.login("mallory", word)
		switch {
		case client.CodeOf(err) == apiv1.CodeBusy && strings.Contains(err.Error(), "too many wrong passwords"):
			busy++
		case client.CodeOf(err) != apiv1.CodeUnauthenticated:
			t.Fatal(err)
		}
		if busy > 0 {
			return
		}
	}
	t.Error("twenty wrong passwords were all looked at")
}

// TestUsersNeedAdmins: before the cluster is secured, who shows no token makes no user, and no
// password is taken in the clear.
func TestUsersNeedAdmins(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	plain := portaltest.New(t).Client()
	for _, err := range []error{
		func() error {
			_, err := plain.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: "eve", Role: "admin", Password: word})
			return err
		}(),
		func() error {
			_, err := apiv1.NewSecurityClient(plain).Login(ctx, &apiv1.LoginRequest{UserName: "eve", Password: word})
			return err
		}(),
	} {
		refusedWith(t, err, apiv1.CodeFailedPrecondition, "the cluster is plain")
	}
	f := &fortress{}
	c := portaltest.New(t)
	id, err := pki.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewCA("c", time.Now())
	if err == nil {
		err = id.IssueOwn(ca, pki.Name{Cluster: "c", Kind: pki.Portal, Name: "portal.test:9520"})
	}
	if err != nil {
		t.Fatal(err)
	}
	f.addr = c.Portal(func(cfg *portal.Config) { cfg.Identity, cfg.CA = id, ca })
	half := c.Dial(f.addr)
	_, err = half.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: "eve", Role: "admin", Password: word})
	refusedWith(t, err, apiv1.CodePermissionDenied, "an admin with a token")
	_, err = apiv1.NewSecurityClient(half).Login(ctx, &apiv1.LoginRequest{UserName: "eve", Password: word})
	refusedWith(t, err, apiv1.CodeFailedPrecondition, "over TLS alone")
}

// TestPasswordOnThePage: a name and a password log in to the pages; logging out ends the
// session itself, so that a copy of its cookie is of no use. Another site's page logs nobody
// in or out.
func TestPasswordOnThePage(t *testing.T) {
	t.Parallel()
	f, ctx := secured(t), context.Background()
	ann := &apiv1.CreateUserRequest{UserName: "ann", Role: "viewer", Password: word}
	if _, err := f.user("root", "admin").CreateUser(ctx, ann); err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := pki.NewUserToken(f.id.Name().Cluster, f.id.CA())
	if err != nil {
		t.Fatal(err)
	}
	cfg := tok.TLS()
	cfg.NextProtos = []string{"http/1.1"}
	browser := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: cfg},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer browser.CloseIdleConnections()
	send := func(method, path string, form url.Values, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, "https://"+f.addr+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if code, body := send("GET", "/login", nil); code != 200 || !strings.Contains(body, `name="user"`) {
		t.Errorf("the login: %d, %s", code, body)
	}
	right := url.Values{"user": {"ann"}, "token": {word}}
	if code, body := send("POST", "/login", right, "Sec-Fetch-Site", "cross-site"); code != http.StatusForbidden ||
		len(jar.Cookies(f.url())) > 0 {
		t.Errorf("another site's page logs in: %d, %s", code, body)
	}
	if code, body := send("POST", "/login", url.Values{"user": {"ann"}, "token": {"wrong"}}); code != http.StatusUnauthorized ||
		!strings.Contains(body, "the password is not right") {
		t.Errorf("a wrong password: %d, %s", code, body)
	}
	if code, body := send("POST", "/login", right); code != http.StatusSeeOther {
		t.Fatalf("login: %d, %s", code, body)
	}
	if code, _ := send("GET", "/", nil); code != 200 {
		t.Errorf("the overview: %d", code)
	}
	// His own password is changed there, too: it is not shown again, and his sessions end.
	const another = "quite another long password"
	if code, body := send("GET", "/do/password?new_password=leaks", nil); code != 200 || !strings.Contains(body, `href="/do/password"`) ||
		strings.Count(body, `type="password"`) != 3 || strings.Contains(body, "leaks") {
		t.Errorf("the form of the password: %d, %s", code, body)
	}
	before := jar.Cookies(f.url())[0]
	for says, form := range map[string]url.Values{
		"typed in two ways":         {"password": {word}, "new_password": {another}, "again": {another + "x"}},
		"the password is not right": {"password": {"wrong"}, "new_password": {another}, "again": {another}},
		"12":                        {"password": {word}, "new_password": {"short"}, "again": {"short"}},
	} {
		if code, body := send("POST", "/do/password", form); code < 400 || code >= 500 || !strings.Contains(body, says) ||
			strings.Contains(body, another) || strings.Contains(body, word) {
			t.Errorf("a change that %s: %d, %s", says, code, body)
		}
	}
	if code, body := send("POST", "/do/password", url.Values{"password": {word}, "new_password": {another}, "again": {another}}); code !=
		http.StatusSeeOther || len(jar.Cookies(f.url())) > 0 {
		t.Errorf("the change: %d, %s", code, body)
	}
	if code, _ := send("GET", "/", nil, "Cookie", before.Name+"="+before.Value); code != http.StatusUnauthorized {
		t.Errorf("with the session of before: %d", code)
	}
	right.Set("token", another)
	if code, body := send("POST", "/login", right); code != http.StatusSeeOther {
		t.Fatalf("login with the new password: %d, %s", code, body)
	}
	copied := jar.Cookies(f.url())[0]
	if code, _ := send("POST", "/logout", nil, "Origin", "https://elsewhere.example"); code != http.StatusForbidden {
		t.Errorf("another site's page logs out: %d", code)
	}
	if code, _ := send("POST", "/logout", nil); code != http.StatusSeeOther {
		t.Errorf("logout: %d", code)
	}
	if code, body := send("GET", "/", nil, "Cookie", copied.Name+"="+copied.Value); code != http.StatusUnauthorized {
		t.Errorf("with a copy of the cookie: %d, %s", code, body)
	}
}

func (f *fortress) url() *url.URL { return &url.URL{Scheme: "https", Host: f.addr, Path: "/"} }
