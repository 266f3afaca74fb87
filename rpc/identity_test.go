package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/pki"
)

// member is a daemon with a certificate of ca's, good for life from issued on.
func member(t testing.TB, ca *pki.CA, n pki.Name, issued time.Time, life time.Duration) *pki.Identity {
	t.Helper()
	// It is enrolled at the time of issue, so that it can hold what has expired since; then
	// its clock is right, so that the server alone has a reason to refuse it.
	clock := func() time.Time { return issued }
	i, err := pki.OpenAt(filepath.Join(t.TempDir(), "tls"), func() time.Time { return clock() })
	if err != nil {
		t.Fatal(err)
	}
	enrol(t, i, ca, n, issued, life)
	clock = time.Now
	return i
}

func enrol(t testing.TB, i *pki.Identity, ca *pki.CA, n pki.Name, issued time.Time, life time.Duration) {
	t.Helper()
	csr, err := i.Request()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(csr, n, issued, life)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Accept(cert, ca.PEM(), n, "portal:9520"); err != nil {
		t.Fatal(err)
	}
}

func authorityOf(t testing.TB, cluster string) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(cluster, time.Now().Add(-24*time.Hour)) // older than all that it issues
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func as(addr string) func(pki.Name) error {
	return func(n pki.Name) error {
		if n.Kind != pki.DN || n.Name != addr {
			return fmt.Errorf("%s answers where dn %s must", n, addr)
		}
		return nil
	}
}

// code is that of one call of Echo by a caller with an identity, nil: in the clear.
func (r *rig) code(method string, who *pki.Identity) (codes.Code, string) {
	r.t.Helper()
	cfg := DialConfig{}
	if who != nil {
		cfg.Identity, cfg.Server = who, as(r.addr)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	err := do(ctx, r.dial(cfg), method)
	return status.Code(err), status.Convert(err).Message()
}

// agentRig is the rig as a dn agent of cluster c1 with its certificate.
func agentRig(t testing.TB, ca *pki.CA, options ...func(*Config)) (*rig, *pki.Identity) {
	t.Helper()
	own, err := pki.Open(filepath.Join(t.TempDir(), "tls"))
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, func(c *Config) {
		c.Identity, c.Authorize = own, Members(own, pki.Portal, pki.Monitor)
		for _, o := range options {
			o(c)
		}
	})
	return r, own
}

// TestMembersAlone has everybody at the door of a secured agent. Portals and
// monitors of its cluster get in, and nobody else does.
func TestMembersAlone(t *testing.T) {
	ca, now := authorityOf(t, "c1"), time.Now()
	r, own := agentRig(t, ca)
	// Plain: anyone may call, and TLS is not there.
	if code, msg := r.code("Echo", nil); code != codes.OK {
		t.Fatalf("a plain call to a plain agent: %v %s", code, msg)
	}
	portal := member(t, ca, pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "p0"}, now, time.Hour)
	if code, msg := r.code("Echo", portal); code != codes.OK {
		t.Fatalf("a portal to a plain agent while nothing is secured: %v %s", code, msg)
	}
	enrol(t, own, ca, pki.Name{Cluster: "c1", Kind: pki.DN, Name: r.addr}, now, time.Hour)
	if code, msg := r.code("Echo", nil); code != codes.OK {
		t.Fatalf("a plain call before the cluster is secured: %v %s", code, msg)
	}
	if code, msg := r.code("Echo", portal); code != codes.OK {
		t.Fatalf("a portal to an agent that has its certificate: %v %s", code, msg)
	}
	before := r.dial(DialConfig{})
	if err := do(t.Context(), before, "Echo"); err != nil {
		t.Fatal(err)
	}
	if err := own.Secure(); err != nil {
		t.Fatal(err)
	}
	if err := portal.Secure(); err != nil {
		t.Fatal(err)
	}
	name := func(kind, name string) pki.Name { return pki.Name{Cluster: "c1", Kind: kind, Name: name} }
	for _, c := range []struct {
		who  string
		i    *pki.Identity
		code codes.Code
	}{
		{"the portal", portal, codes.OK},
		{"a monitor", member(t, ca, name(pki.Monitor, "m0:9620"), now, time.Hour), codes.OK},
		{"nobody in the clear", nil, codes.Unavailable},
		{"another dn", member(t, ca, name(pki.DN, "10.0.0.9:9720"), now, time.Hour), codes.PermissionDenied},
		{"the dn itself", own, codes.PermissionDenied},
		{"a cn", member(t, ca, name(pki.CN, "10.0.0.9:9820"), now, time.Hour), codes.PermissionDenied},
		{"a portal whose certificate has expired", member(t, ca, name(pki.Portal, "p1"), now.Add(-2*time.Hour), time.Hour), codes.Unavailable},
		{"a portal of another cluster with the same CA", member(t, ca, pki.Name{Cluster: "c2", Kind: pki.Portal, Name: "p0"}, now, time.Hour),
			codes.Unavailable},
		{"a portal of another CA", member(t, authorityOf(t, "c1"), name(pki.Portal, "p0"), now, time.Hour), codes.Unavailable},
	} {
		if code, msg := r.code("Echo", c.i); code != c.code {
			t.Errorf("%s: %v %q, want %v", c.who, code, msg, c.code)
		}
	}
	// A connection of before is of no use either.
	if code := status.Code(do(t.Context(), before, "Echo")); code != codes.Unauthenticated {
		t.Errorf("a plain connection that was open when the cluster was secured: %v", code)
	}
	// A caller with TLS and without a certificate sees the health alone.
	c := dial(t, r.addr, DialConfig{TLS: &tls.Config{InsecureSkipVerify: true}})
	if code := status.Code(do(t.Context(), c, "Echo")); code != codes.Unauthenticated {
		t.Errorf("TLS without a certificate: %v", code)
	}
	if _, err := grpc_health_v1.NewHealthClient(c).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	s, err := c.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
	if err == nil {
		err = s.RecvMsg(&grpc_health_v1.HealthCheckResponse{})
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("reflection: %v", err)
	}
	if resp, err := http.Get("http://" + r.addr + "/metrics"); err == nil {
		t.Errorf("metrics in the clear: %v", resp.Status)
	}
}

// TestScrapeToken: who shows it over TLS gets the metrics of a secured program, and nothing
// else; nobody gets them without it.
func TestScrapeToken(t *testing.T) {
	ca, now := authorityOf(t, "c1"), time.Now()
	own, err := pki.Open(filepath.Join(t.TempDir(), "tls"))
	if err != nil {
		t.Fatal(err)
	}
	const token = "0123456789abcdef"
	r := serve(t, func(c *Config) {
		c.Identity, c.Authorize, c.ScrapeToken = own, Members(own, pki.Portal, pki.Monitor), token
	})
	enrol(t, own, ca, pki.Name{Cluster: "c1", Kind: pki.DN, Name: r.addr}, now, time.Hour)
	if err := own.Secure(); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	for _, row := range []struct {
		url, auth string
		code      int // 0: no answer
	}{
		{"https://" + r.addr + "/metrics", "Bearer " + token, 200},
		{"https://" + r.addr + "/metrics", "Bearer " + token + "0", 403},
		{"https://" + r.addr + "/metrics", "Bearer ", 403},
		{"https://" + r.addr + "/metrics", token, 403},
		{"https://" + r.addr + "/metrics", "", 403},
		{"http://" + r.addr + "/metrics", "Bearer " + token, 0},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, row.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if row.auth != "" {
			req.Header.Set("Authorization", row.auth)
		}
		resp, err := client.Do(req)
		code := 0
		if err == nil {
			code = resp.StatusCode
			resp.Body.Close()
		}
		if code != row.code && !(row.code == 0 && code != 200) {
			t.Errorf("%s with %q: %d, %v; want %d", row.url, row.auth, code, err, row.code)
		}
	}
	// It is no token of a caller of the services.
	c := dial(t, r.addr, DialConfig{TLS: &tls.Config{InsecureSkipVerify: true}})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	if code := status.Code(do(ctx, c, "Echo")); code != codes.Unauthenticated {
		t.Errorf("a call with the token: %v", code)
	}
}

// TestAServerIsWhoItMustBe: a stolen certificate of one dn does not make its holder
// another, and a secured caller never falls back to the clear.
func TestAServerIsWhoItMustBe(t *testing.T) {
	ca, now := authorityOf(t, "c1"), time.Now()
	portal := member(t, ca, pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "p0"}, now, time.Hour)
	thief, own := agentRig(t, ca)
	enrol(t, own, ca, pki.Name{Cluster: "c1", Kind: pki.DN, Name: "10.0.0.9:9720"}, now, time.Hour)
	if code, msg := thief.code("Echo", portal); code != codes.Unavailable || !strings.Contains(msg, "dn 10.0.0.9:9720 answers where") {
		t.Errorf("a dn at another one's address: %v %q", code, msg)
	}
	plain, _ := agentRig(t, ca)
	if code, msg := plain.code("Echo", portal); code != codes.OK {
		t.Errorf("a plain agent before the portal is secured: %v %q", code, msg)
	}
	if err := portal.Secure(); err != nil {
		t.Fatal(err)
	}
	if code, msg := plain.code("Echo", portal); code != codes.Unavailable {
		t.Errorf("a plain agent of a secured cluster: %v %q", code, msg)
	}
}

// TestRevokedAtOnce: the next call on a connection that is up is refused, and so
// is the next connection; what is issued later under the name is not.
func TestRevokedAtOnce(t *testing.T) {
	ca, now := authorityOf(t, "c1"), time.Now()
	r, own := agentRig(t, ca)
	enrol(t, own, ca, pki.Name{Cluster: "c1", Kind: pki.DN, Name: r.addr}, now, time.Hour)
	n := pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "p0"}
	portal := member(t, ca, n, now.Add(-time.Minute), time.Hour)
	conn := r.dial(DialConfig{Identity: portal, Server: as(r.addr)})
	if err := do(t.Context(), conn, "Echo"); err != nil {
		t.Fatal(err)
	}
	if err := own.Revoke([]pki.Revoked{{Kind: pki.Portal, Name: "p0", Before: now}}); err != nil {
		t.Fatal(err)
	}
	if err := do(t.Context(), conn, "Echo"); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("the next call on its connection: %v", err)
	}
	if code, msg := r.code("Echo", portal); code != codes.Unavailable {
		t.Errorf("a new connection: %v %q", code, msg)
	}
	later := member(t, ca, n, now.Add(2*time.Second), time.Hour)
	if code, msg := r.code("Echo", later); code != codes.OK {
		t.Errorf("with a certificate that was issued later: %v %q", code, msg)
	}
}

// TestCallerOf: handlers are told who calls, by certificate or by token.
func TestCallerOf(t *testing.T) {
	ca, now := authorityOf(t, "c1"), time.Now()
	own := member(t, ca, pki.Name{Cluster: "c1", Kind: pki.DN, Name: "x"}, now, time.Hour)
	r := serve(t, func(c *Config) {
		c.Identity = own
		c.Users = func(_ context.Context, token string) (Caller, error) {
			if token != "t0" {
				return Caller{}, status.Error(codes.Unauthenticated, "the token is not known")
			}
			return Caller{Kind: User, Name: "ann", Role: "admin"}, nil
		}
	})
	any := func(pki.Name) error { return nil }
	portal := member(t, ca, pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "p0"}, now, time.Hour)
	for _, c := range []struct {
		cfg   DialConfig
		token string
		want  Caller
		code  codes.Code
	}{
		{DialConfig{Identity: portal, Server: any}, "", Caller{Kind: pki.Portal, Name: "p0"}, codes.OK},
		{DialConfig{TLS: &tls.Config{InsecureSkipVerify: true}}, "Bearer t0", Caller{User, "ann", "admin"}, codes.OK},
		{DialConfig{TLS: &tls.Config{InsecureSkipVerify: true}}, "Bearer t1", Caller{}, codes.Unauthenticated},
		{DialConfig{TLS: &tls.Config{InsecureSkipVerify: true}}, "Basic t0", Caller{}, codes.Unauthenticated},
		{DialConfig{TLS: &tls.Config{InsecureSkipVerify: true}}, "", Caller{}, codes.OK},
	} {
		ctx := t.Context()
		if c.token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", c.token)
		}
		err := do(ctx, r.dial(c.cfg), "Echo")
		if status.Code(err) != c.code {
			t.Errorf("%q: %v, want %v", c.token, err, c.code)
		}
		if err == nil {
			if got := CallerOf(<-r.entered); got != c.want {
				t.Errorf("%q: the caller is %+v, want %+v", c.token, got, c.want)
			}
		}
	}
}

// TestOldTLSIsRefused: a server of a member takes TLS 1.3 alone.
func TestOldTLSIsRefused(t *testing.T) {
	ca := authorityOf(t, "c1")
	r, own := agentRig(t, ca)
	enrol(t, own, ca, pki.Name{Cluster: "c1", Kind: pki.DN, Name: r.addr}, time.Now(), time.Hour)
	raw, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}).Handshake(); err == nil {
		t.Error("TLS 1.2 is taken")
	}
}
