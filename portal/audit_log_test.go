package portal_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/portal"
)

// TestAuditLog: each change, and each call of somebody who may not make it, is in the file and
// at the syslog, with who, from where and what, and without passwords; also after the file
// was moved away. It is nobody's but its owner's.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	ctx, file := context.Background(), filepath.Join(t.TempDir(), "audit.log")
	syslog, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer syslog.Close()
	audit, err := portal.OpenAuditLog(file, "udp://"+syslog.LocalAddr().String(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f := secured(t, func(cfg *portal.Config) { cfg.AuditLog = audit })
	root, bob := f.user("root", "admin"), f.user("bob", "viewer")
	create := func(name string) {
		t.Helper()
		if _, err := root.CreateUser(ctx, &apiv1.CreateUserRequest{UserName: name, Role: "viewer", Password: word}); err != nil {
			t.Fatal(err)
		}
	}
	// has waits for a line with all words, which the writer brings soon.
	has := func(words ...string) {
		t.Helper()
		for {
			text, err := os.ReadFile(file)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "horse") {
				t.Fatalf("a password is in the audit: %s", text)
			}
		line:
			for line := range strings.Lines(string(text)) {
				for _, w := range words {
					if !strings.Contains(line, w) {
						continue line
					}
				}
				return
			}
			select {
			case <-t.Context().Done():
				t.Fatalf("no line has %q: %s", words, text)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	create("ann")
	has(`"kind":"change"`, `"method":"CreateUser"`, `"user":"root"`, `"peer":"127.0.0.1:`, "user_name=ann")
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", fi.Mode(), err)
	}
	for range 1000 { // the first line that came over UDP
		b := make([]byte, 64<<10)
		n, _, err := syslog.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b[:n]), `"method":"CreateUser"`) {
			break
		}
	}
	if _, err := bob.DeleteDa(ctx, &apiv1.DeleteDaRequest{DaName: "da7"}); err == nil {
		t.Fatal("a viewer deletes")
	}
	has(`"kind":"change_refused"`, `"method":"DeleteDa"`, `"user":"bob"`, `"name":"da7"`, "may not call DeleteDa")
	if _, err := bob.ListUser(ctx, &apiv1.ListUserRequest{}); err == nil {
		t.Fatal("a viewer lists users")
	}
	has(`"kind":"change_refused"`, `"method":"ListUser"`, `"user":"bob"`)
	if _, err := f.nobody().ListDa(ctx, &apiv1.ListDaRequest{}); err == nil {
		t.Fatal("nobody lists arrays")
	}
	has(`"kind":"change_refused"`, `"method":"ListDa"`, "says not who makes it")
	events, err := root.ListEvent(ctx, &apiv1.ListEventRequest{Filter: &apiv1.EventFilter{Audit: true}})
	if err != nil || len(events.EventMsgList) != 4 {
		t.Errorf("the cluster has %d events: %v, %v", len(events.GetEventMsgList()), events, err)
	}
	refused := func(what string, code codes.Code, call func() error) {
		t.Helper()
		if err := call(); status.Code(err) != code {
			t.Fatalf("%s: %v, want %v", what, err, code)
		}
	}
	refused("bob gets the support bundle", codes.PermissionDenied, func() error {
		stream, err := bob.DumpSupport(ctx, &apiv1.DumpSupportRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	})
	has(`"kind":"change_refused"`, `"method":"DumpSupport"`, `"user":"bob"`, `"peer":"127.0.0.1:`, "may not call DumpSupport")
	refused("nobody watches events", codes.Unauthenticated, func() error {
		stream, err := f.nobody().WatchEvent(ctx, &apiv1.WatchEventRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	})
	has(`"kind":"change_refused"`, `"method":"WatchEvent"`, `"peer":"127.0.0.1:`, "says not who makes it")
	refused("nobody asks for the version", codes.Unauthenticated, func() error {
		_, err := apiv1.NewProgramClient(f.nobody()).Version(ctx, &apiv1.VersionRequest{})
		return err
	})
	has(`"kind":"change_refused"`, `"method":"vda.v1.Program/Version"`, "says not who makes it")
	web := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	reply, err := web.Get("https://" + f.addr + "/metrics")
	if err != nil || reply.StatusCode != http.StatusForbidden {
		t.Fatalf("metrics for nobody: %v, %v", reply, err)
	}
	_ = reply.Body.Close()
	has(`"kind":"change_refused"`, `"method":"GET /metrics"`, "says not who makes it")
	events, err = root.ListEvent(ctx, &apiv1.ListEventRequest{Filter: &apiv1.EventFilter{Audit: true}})
	if err != nil || len(events.EventMsgList) != 8 {
		t.Errorf("the cluster has %d events: %v, %v", len(events.GetEventMsgList()), events, err)
	}
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	create("eve")
	has("user_name=eve")
}

// TestAuditLogAfterItsEnd: a call that is still under way when the portal's grace is over does no
// harm, and what was written before is in the file.
func TestAuditLogAfterItsEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	audit, err := portal.OpenAuditLog(file, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	audit.Write(&vda.Event{Kind: vda.EventChange, Text: "before"})
	if err := audit.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	audit.Write(&vda.Event{Kind: vda.EventChange, Text: "after"})
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "\n") != 1 || !strings.Contains(string(text), `"text":"before"`) {
		t.Errorf("the file has %q, %v", text, err)
	}
}

// TestAuditPlaces: a place that cannot be is refused when the portal starts.
func TestAuditPlaces(t *testing.T) {
	for _, tt := range []struct{ file, place, says string }{
		{"/nowhere/audit.log", "", "--audit-file /nowhere/audit.log: "},
		{"", "somewhere", "must be local, udp://HOST:PORT or tcp://HOST:PORT"},
		{"", "http://127.0.0.1:514", "must be local"},
		{"", "udp://here", "must be local"},
	} {
		if _, err := portal.OpenAuditLog(tt.file, tt.place, slog.Default()); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q, %q: %v", tt.file, tt.place, err)
		}
	}
}
