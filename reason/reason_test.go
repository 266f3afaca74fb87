package reason_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/reason"
)

// TestOf: what libraries say is said in words, in one line, and with nothing of
// the library in it.
func TestOf(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9720},
		Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	read := &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv6loopback, Port: 5},
		Addr: &net.TCPAddr{IP: net.IPv6loopback, Port: 9720}, Err: os.ErrDeadlineExceeded}
	db := &vda.Error{Kind: vda.Unavailable, Op: reason.OpDatabase, Object: "postgresql 10.0.0.9:5432/vda_db", Msg: "is read-only",
		Err: errors.New("user=vda_user")}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{context.DeadlineExceeded, "no answer in time"},
		{fmt.Errorf("record: %w", context.DeadlineExceeded), "record: no answer in time"},
		{context.Canceled, "cancelled"},
		{dial, "127.0.0.1:9720: connection refused"},
		{read, "[::1]:9720: no answer in time"},
		{io.EOF, "the connection was closed"},
		{fmt.Errorf("hello: %w", io.ErrUnexpectedEOF), "hello: the connection was closed"},
		{errors.New("this is about EOF marks"), "this is about EOF marks"},
		{&net.DNSError{Err: "no such host", Name: "db7", Server: "10.0.0.1:53", IsNotFound: true}, "the name db7 is not known"},
		{status.Error(codes.DeadlineExceeded, "context deadline exceeded"), "no answer in time"},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: `+
			`dial tcp 127.0.0.1:9720: connect: connection refused"`), "127.0.0.1:9720: connection refused"},
		{status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: EOF"`), "the connection was closed"},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: failed to write client preface: `+
			`write tcp 10.0.0.1:4->10.0.0.2:9520: write: connection reset by peer"`), "10.0.0.2:9520: connection reset by peer"},
		{status.Error(codes.Unavailable, "error reading from server: read tcp 10.0.0.1:4->10.0.0.2:9720: read: connection reset by peer"),
			"10.0.0.2:9720: connection reset by peer"},
		{status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: `+
			`raw-read tcp 10.0.0.1:4->127.0.0.1:9620: use of closed network connection"`), "127.0.0.1:9620: the connection was closed"},
		{&net.OpError{Op: "raw-control", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 4},
			Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9620}, Err: net.ErrClosed}, "127.0.0.1:9620: the connection was closed"},
		{&net.OpError{Op: "raw-control", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 9720}, Err: net.ErrClosed},
			"10.0.0.1:9720: the connection was closed"},
		{&net.OpError{Op: "set", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 4},
			Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 9720}, Err: net.ErrClosed}, "10.0.0.2:9720: the connection was closed"},
		{status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: http2: failed reading the frame payload: `+
			`http2: frame too large, note that the frame header looked like an HTTP/1.1 header"`), "what answers there is not a gRPC server"},
		{status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: http2: frame too large"`),
			"what answers there is not a gRPC server"},
		{status.Error(codes.Unimplemented, "unexpected HTTP status code received from server: 404 (Not Found); "+
			"malformed header: missing HTTP content-type"), "what answers there is not a gRPC server (HTTP status 404)"},
		{status.Error(codes.Unavailable, "unexpected HTTP status code received from server: 502 (Bad Gateway); "+
			`transport: received unexpected content-type "text/html"`), "what answers there is not a gRPC server (HTTP status 502)"},
		{errors.New("--port 0: listen tcp 192.0.2.1:0: bind: cannot assign requested address"), "--port 0: cannot assign requested address"},
		{fmt.Errorf("ask: %w", status.Error(codes.Internal, "odd")), "ask: odd"},
		{errors.New("read x: sql: json: bad"), "read x: bad"},
		{errors.New("json: bad"), "bad"},
		{errors.New("stat /d/state.json: permission denied"), "stat /d/state.json: permission denied"},
		{errors.New("da my-sql: it is full"), "da my-sql: it is full"},
		{errors.Join(errors.New("a"), errors.New("b"), errors.New("a")), "a; b"},
		{fmt.Errorf("two: %w", errors.Join(errors.New("a"), errors.New("b"))), "two: a; b"},
		{db, "the database is read-only"},
		{fmt.Errorf("read da0: %w", &vda.Error{Kind: vda.FailedPrecondition, Object: "da da0", Err: db}), "the database is read-only"},
		{vda.Errorf(vda.NotFound, "there is no da %q", "x"), `there is no da "x"`},
	} {
		got := reason.Of(tt.err)
		if got != tt.want {
			t.Errorf("%v is said as %q, want %q", tt.err, got, tt.want)
		}
		if raw := reason.Raw(got); raw != "" {
			t.Errorf("%q still has %q", got, raw)
		}
	}
	if full := reason.Full(db); full != "database postgresql 10.0.0.9:5432/vda_db: is read-only: user=vda_user" {
		t.Errorf("operators read %q", full)
	}
}

// TestRaw finds what must not be seen.
func TestRaw(t *testing.T) {
	for _, s := range []string{"x: context deadline exceeded", "rpc error: code = Unavailable desc = y", "a\nb",
		"dial tcp 1.2.3.4:5: connect: connection refused",
		"ERROR: no (SQLSTATE 57014)", "sql: database is closed", "read: EOF", "failed to connect to `user=vda`"} {
		if reason.Raw(s) == "" {
			t.Errorf("nothing is found in %q", s)
		}
	}
	for _, s := range []string{"success", "cn0:9820: connection refused", `da "x" has no exp "y"`} {
		if raw := reason.Raw(s); raw != "" {
			t.Errorf("%q is taken for raw because of %q", s, raw)
		}
	}
}
