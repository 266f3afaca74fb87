package rpc

import (
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/pki"
)

// TestRevokedWhileNobodyTells: an agent that has once heard who is revoked goes on refusing those with no
// database, portal or monitor to ask, at once and after a restart; others, and a certificate that the
// same member got later, are taken all the while.
func TestRevokedWhileNobodyTells(t *testing.T) {
	ca, now := authorityOf(t, "c1"), time.Now()
	dir := filepath.Join(t.TempDir(), "tls")
	agent := func() (*rig, *pki.Identity) {
		t.Helper()
		own, err := pki.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return serve(t, func(c *Config) { c.Identity, c.Authorize = own, Members(own, pki.Portal, pki.Monitor) }), own
	}
	name := func(kind, name string) pki.Name { return pki.Name{Cluster: "c1", Kind: kind, Name: name} }
	stolen := member(t, ca, name(pki.Monitor, "m0:9620"), now.Add(-time.Hour), 24*time.Hour)
	later := member(t, ca, name(pki.Monitor, "m0:9620"), now, 24*time.Hour)
	other := member(t, ca, name(pki.Portal, "p0:9520"), now.Add(-time.Hour), 24*time.Hour)

	r, own := agent()
	addr := r.addr
	enrol(t, own, ca, name(pki.DN, addr), now, 24*time.Hour)
	if err := own.Secure(); err != nil {
		t.Fatal(err)
	}
	check := func(when string, r *rig, want codes.Code) {
		t.Helper()
		call := func(who *pki.Identity) codes.Code {
			cfg := DialConfig{Identity: who, Server: as(addr)}
			return status.Code(do(t.Context(), r.dial(cfg), "Echo"))
		}
		if code := call(stolen); code != want {
			t.Errorf("%s: the stolen certificate: %v, want %v", when, code, want)
		}
		for what, who := range map[string]*pki.Identity{"the member's next certificate": later, "another member": other} {
			if code := call(who); code != codes.OK {
				t.Errorf("%s: %s: %v", when, what, code)
			}
		}
	}
	check("before", r, codes.OK)
	if err := own.Revoke([]pki.Revoked{{Kind: pki.Monitor, Name: "m0:9620", Before: now.Add(-time.Minute)}}); err != nil {
		t.Fatal(err)
	}
	check("at once", r, codes.Unavailable)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	again, _ := agent() // nobody has said anything to this one
	check("after a restart", again, codes.Unavailable)
}
