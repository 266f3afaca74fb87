package web_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal/web"
)

// guarded is a portal of a secured cluster, which answers its one user alone.
type guarded struct {
	apiv1.PortalClient
	revoked atomic.Bool
}

const ann = "ann's own token"

func (g *guarded) GetStatus(ctx context.Context, _ *apiv1.GetStatusRequest, _ ...grpc.CallOption) (*apiv1.GetStatusReply, error) {
	md, _ := metadata.FromOutgoingContext(ctx)
	if g.revoked.Load() || !slices.Equal(md.Get("authorization"), []string{"Bearer " + ann}) {
		return nil, status.Error(codes.Unauthenticated, "the token is not good")
	}
	return &apiv1.GetStatusReply{StatusMsg: &apiv1.StatusMsg{Well: true}}, nil
}

// TestUsers: in a secured cluster users' tokens alone let in, calls carry them, and
// one that is revoked is of no use in a session that it began.
func TestUsers(t *testing.T) {
	g := &guarded{}
	var away atomic.Bool
	srv := httptest.NewServer(web.New(web.Config{Portal: g, Token: token, Secured: func() bool { return true },
		User: func(_ context.Context, text string) (bool, error) {
			if away.Load() {
				return false, status.Error(codes.Unavailable, "the database does not answer")
			}
			return text == ann && !g.revoked.Load(), nil
		}}))
	defer srv.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, url: srv.URL, client: &http.Client{Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}

	for text, want := range map[string]int{token: 401, "invented": 401, ann: 200} {
		if code, _, body := s.send("GET", "/api/v1/status", "", "Authorization", "Bearer "+text); code != want {
			t.Errorf("REST with %q: %d, %s", text, code, body)
		}
	}
	if code, _, _ := s.post("/login", url.Values{"token": {token}}); code != 403 {
		t.Errorf("login with the portal's token: %d", code)
	}
	away.Store(true)
	code, _, body := s.post("/login", url.Values{"token": {ann}})
	if code != http.StatusServiceUnavailable {
		t.Errorf("login without a database: %d", code)
	}
	has(t, "the page", body, "the database does not answer")
	away.Store(false)
	if code, _, _ := s.post("/login", url.Values{"token": {ann}}); code != 303 {
		t.Fatalf("login: %d", code)
	}
	has(t, "the overview", s.get("/"), "All is well.")
	// A header that a page's request happens to have is not what its session says.
	if code, _, body := s.send("GET", "/", "", "Authorization", "Bearer invented"); code != 200 {
		t.Errorf("with another header: %d, %s", code, body)
	}
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range jar.Cookies(u) {
		if text, err := base64.RawURLEncoding.DecodeString(c.Value); err != nil || strings.Contains(string(text), ann) {
			t.Errorf("the cookie is %v: %q", c, text)
		}
	}
	g.revoked.Store(true)
	if code, _, _ := s.send("GET", "/", ""); code != http.StatusUnauthorized {
		t.Errorf("after the revocation: %d", code)
	}
}
