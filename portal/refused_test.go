package portal_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
)

// TestRefusedConnectionsAreAudited: a secured portal has connections in the clear, and those with a
// certificate that it does not take, in the audit, with from where and why; a refused call
// stands there once, as before.
func TestRefusedConnectionsAreAudited(t *testing.T) {
	t.Parallel()
	ctx, f := context.Background(), secured(t)
	root, bob := f.user("root", "admin"), f.user("bob", "viewer")
	for range 3 {
		if resp, err := http.Get("http://" + f.addr + "/healthz"); err == nil {
			resp.Body.Close()
			t.Errorf("a request in the clear is answered: %s", resp.Status)
		}
	}
	foreign, err := pki.NewCA("elsewhere", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.Open(t.TempDir())
	if err == nil {
		err = id.IssueOwn(foreign, pki.Name{Cluster: "elsewhere", Kind: pki.Portal, Name: "p0"})
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg := id.ClientTLS(func(pki.Name) error { return nil })
	cfg.VerifyConnection = nil
	if conn, err := tls.Dial("tcp", f.addr, cfg); err == nil {
		// The portal looks at the certificate after the client has taken its own for done.
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
		if err == nil {
			t.Error("a certificate of another cluster is taken")
		}
	}
	if _, err := bob.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: "x", Role: "admin", Password: word}); err == nil {
		t.Error("a viewer makes an admin")
	}

	want := map[string]string{"in the clear": "connect", "a certificate is refused": "connect", "viewer": "CreateUser"}
	late := time.After(2 * time.Minute)
	for len(want) > 0 {
		reply, err := root.ListEvent(ctx, &apiv1.ListEventRequest{Filter: &apiv1.EventFilter{KindList: []string{"change_refused"}}})
		if err != nil {
			t.Fatal(err)
		}
		for words, method := range want {
			n := 0
			for _, e := range reply.EventMsgList {
				if strings.Contains(e.Text, words) {
					n++
					if e.Method != method || !strings.HasPrefix(e.Peer, "127.0.0.1:") ||
						method == "connect" && !strings.HasPrefix(e.Text, "portal "+f.addr+" has refused: ") {
						t.Errorf("%v", e)
					}
				}
			}
			if n > 0 {
				delete(want, words)
			}
			if n > 2 || n > 1 && method != "connect" {
				t.Errorf("%q stands there %d times: %v", words, n, reply.EventMsgList)
			}
		}
		select {
		case <-late:
			t.Fatalf("not in the audit: %v; there are %v", want, reply.EventMsgList)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
