package rpc

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
)

// TestRefusalsAreCounted: a refusal is handed out at once, again with what came since once it is taken
// and a minute is over, and again as it was when nobody says that it was taken; however many there
// are, no more than some are remembered, and none is lost without a word.
func TestRefusalsAreCounted(t *testing.T) {
	now := time.Unix(1000, 0)
	r := NewRefusals()
	r.now = func() time.Time { return now }
	bad := status.Error(codes.PermissionDenied, "no")
	call := Call{Method: "/x/Sync", Peer: "192.0.2.1:77", Caller: Caller{Kind: pki.DN, Name: "dn1"}}
	handed := func(want ...uint32) []uint64 {
		t.Helper()
		var counts []uint32
		var seqs []uint64
		for _, f := range r.Hand() {
			counts, seqs = append(counts, f.Count), append(seqs, f.Seq)
		}
		if !slices.Equal(counts, want) {
			t.Fatalf("handed out %v, want %v", counts, want)
		}
		return seqs
	}
	for _, err := range []error{nil, status.Error(codes.Unavailable, "x"), status.Error(codes.InvalidArgument, "x")} {
		r.note(call, err)
	}
	handed()
	r.note(call, bad)
	call.Peer = "192.0.2.1:78" // another port of the same host
	r.note(call, bad)
	first := handed(2)
	handed()
	r.note(call, bad)
	handed() // it may be on its way into the audit
	now = now.Add(refusalLost)
	second := handed(3)
	r.Taken(first) // too late: it was handed out again
	r.note(call, bad)
	r.Taken(second)
	handed()
	now = now.Add(refusalPeriod)
	r.Taken(handed(1))
	now = now.Add(refusalPeriod)
	handed()
	for i := range 1000 {
		call.Peer = fmt.Sprintf("192.0.2.1%d:1", i)
		r.note(call, bad)
	}
	all := r.Hand()
	var sum uint32
	for _, f := range all {
		sum += f.Count
	}
	if len(all) > maxRefusals+2 || sum != 1000 {
		t.Errorf("%d refusals with a sum of %d, want at most %d and 1000", len(all), sum, maxRefusals+2)
	}
	if n := len(r.all); n > maxRefusals+2 {
		t.Errorf("%d are remembered", n)
	}
}

// TestRefusalsOfAllKinds: a secured program counts calls of members that may not make them, those without
// a certificate, certificates that are not good, connections in the clear and requests over HTTP,
// with who and from where; health is for all, and is not among them.
func TestRefusalsOfAllKinds(t *testing.T) {
	ca, now := authorityOf(t, "c1"), time.Now()
	refusals := NewRefusals()
	r, own := agentRig(t, ca, func(c *Config) { c.Refusals = refusals })
	enrol(t, own, ca, pki.Name{Cluster: "c1", Kind: pki.DN, Name: r.addr}, now, time.Hour)
	if err := own.Secure(); err != nil {
		t.Fatal(err)
	}
	r.code("Echo", nil)
	r.code("Echo", member(t, ca, pki.Name{Cluster: "c1", Kind: pki.CN, Name: "10.0.0.9:9820"}, now, time.Hour))
	forged := member(t, authorityOf(t, "c1"), pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "p0"}, now, time.Hour).ClientTLS(nil)
	forged.VerifyConnection = nil // who forges does not mind whom it calls
	if err := do(t.Context(), r.dial(DialConfig{TLS: forged}), "Echo"); err == nil {
		t.Error("a forged certificate is taken")
	}
	r.code("Echo", member(t, ca, pki.Name{Cluster: "c1", Kind: pki.Portal, Name: "p0"}, now, time.Hour)) // may
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer web.CloseIdleConnections()
	for _, path := range []string{"/metrics", "/healthz"} {
		resp, err := web.Get("https://" + r.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	var got []string
	for _, want := range []string{"connect||a connection in the clear", "/Echo|cn 10.0.0.9:9820|", "connect||a certificate is refused: ",
		"GET /metrics||the cluster is secured"} {
		words := strings.Split(want, "|")
		found := false
		for end := time.Now().Add(2 * time.Minute); !found && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			for _, f := range refusals.Hand() {
				got = append(got, fmt.Sprintf("%s|%s|%s", f.Method, f.Caller, f.Msg))
				if !strings.HasPrefix(f.Peer, "127.0.0.1:") || f.ReplyCode != uint32(apiv1.CodeUnauthenticated) &&
					f.ReplyCode != uint32(apiv1.CodePermissionDenied) {
					t.Errorf("%v", f)
				}
			}
			found = slices.ContainsFunc(got, func(g string) bool {
				is := strings.Split(g, "|")
				return strings.HasSuffix(is[0], words[0]) && is[1] == words[1] && strings.HasPrefix(is[2], words[2])
			})
		}
		if !found {
			t.Errorf("no refusal like %q: %q", want, got)
		}
	}
	for _, g := range got {
		if strings.Contains(g, "health") {
			t.Error(g)
		}
	}
}
