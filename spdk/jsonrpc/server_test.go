package jsonrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// start runs a server with a few methods and returns a function that sends
// bytes on a new connection and returns everything that comes back until the
// connection ends.
func start(t *testing.T, cfg Config) (dial func() net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	if cfg.Lookup == nil {
		cfg.Lookup = methods(release)
	}
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := NewServer(lis, cfg)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	t.Cleanup(func() { s.Close(time.Second) })
	return func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		return c
	}
}

func methods(release <-chan struct{}) func(string) (Method, *Error) {
	call := func(f func(json.RawMessage) (any, error)) Method {
		return Method{Call: func(_ context.Context, p json.RawMessage) (any, error) { return f(p) }}
	}
	return func(name string) (Method, *Error) {
		switch name {
		case "yes":
			return call(func(json.RawMessage) (any, error) { return true, nil }), nil
		case "echo":
			return call(func(p json.RawMessage) (any, error) { return p, nil }), nil
		case "gone":
			return call(func(json.RawMessage) (any, error) { return nil, syscall.ENODEV }), nil
		case "odd":
			return call(func(json.RawMessage) (any, error) { return nil, errors.New("odd") }), nil
		case "panic":
			return call(func(json.RawMessage) (any, error) { panic("at the disco") }), nil
		case "slow":
			return Method{Slow: true, Call: func(ctx context.Context, _ json.RawMessage) (any, error) {
				select {
				case <-time.After(200 * time.Millisecond):
				case <-release:
				case <-ctx.Done():
				}
				return "slow", nil
			}}, nil
		}
		return Method{}, &Error{Code: CodeMethodNotFound, Message: "Method not found"}
	}
}

// exchange sends in, closes the sending side and returns what came back.
func exchange(t *testing.T, c net.Conn, in string) string {
	t.Helper()
	// A server that closes before it has read everything is a broken pipe or
	// a reset here.
	closed := func(err error) bool { return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) }
	if _, err := io.WriteString(c, in); err != nil && !closed(err) {
		t.Fatal(err)
	}
	c.(*net.UnixConn).CloseWrite()
	out, err := io.ReadAll(c)
	if err != nil && !closed(err) {
		t.Fatal(err)
	}
	return string(out)
}

func TestFraming(t *testing.T) {
	dial := start(t, Config{MaxRequest: 64 << 10})
	const (
		invalid = `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request"}}`
		closed  = "; the connection is closed, for where the next request begins is not known\"}}\n"
		broken  = `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error","data":"the request is not JSON` + closed
	)
	for _, tc := range []struct{ in, out string }{
		{`{"jsonrpc":"2.0","id":1,"method":"yes"}`, `{"jsonrpc":"2.0","id":1,"result":true}` + "\n"},
		{`{"method":"yes","id":"a\u00e4"}`, `{"jsonrpc":"2.0","id":"a\u00e4","result":true}` + "\n"},
		{`{"method":"yes","id":-1.5e3}`, `{"jsonrpc":"2.0","id":-1.5e3,"result":true}` + "\n"},
		{`{"method":"echo","id":1,"params":{"a":"<&>"}}`, `{"jsonrpc":"2.0","id":1,"result":{"a":"<&>"}}` + "\n"},
		{`{"method":"gone","id":1}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-19,"message":"No such device"}}` + "\n"},
		{`{"method":"odd","id":1}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error","data":"odd"}}` + "\n"},
		{`{"method":"nope","id":1}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}` + "\n"},
		{`{"method":"y\u0065s","id":1}`, `{"jsonrpc":"2.0","id":1,"result":true}` + "\n"},

		// Notifications.
		{`{"method":"yes"}`, ``},
		{`{"method":"yes","id":null}`, ``},
		{`{"method":"nope"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"Method not found"}}` + "\n"},

		// Not a request.
		{`{"jsonrpc":"1.0","method":"yes","id":1}`, invalid + "\n"},
		{`{"jsonrpc":2,"method":"yes","id":1}`, invalid + "\n"},
		{`{"id":1}`, invalid + "\n"},
		{`{"method":3,"id":1}`, invalid + "\n"},
		{`{"method":"yes","id":[1]}`, invalid + "\n"},
		{`{"method":"yes","id":true}`, invalid + "\n"},
		{`{"method":"yes","id":1,"extra":1}`, invalid + "\n"},
		{`{"method":"yes","id":1,"id":2}`, invalid + "\n"},
		{`{"method":"yes","id":1,"params":3}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"Invalid request"}}` + "\n"},
		{"3\n", invalid + "\n"},
		{`"x"`, invalid + "\n"},
		{"null\n", invalid + "\n"},

		// Batches.
		{`[]`, invalid + "\n"},
		{`[1,[]]`, `[` + invalid + `,` + invalid + `]` + "\n"},
		{`[{"method":"yes","id":1},{"method":"nope","id":2}]`, `[{"jsonrpc":"2.0","id":1,"result":true},{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"Method not found"}}]` + "\n"},
		{`[{"method":"slow","id":1},{"method":"yes"},{"method":"yes","id":2}]`, `[{"jsonrpc":"2.0","id":1,"result":"slow"},{"jsonrpc":"2.0","id":2,"result":true}]` + "\n"},
		{`[{"method":"yes"}]`, ``},
		{`[` + strings.Repeat("1,", maxBatch) + `1]`, invalid + "\n"},

		// Several values, no newline between them; malformed JSON ends it.
		{`{"method":"yes","id":1}{"method":"yes","id":2} {"method":"yes","id":3}`, `{"jsonrpc":"2.0","id":1,"result":true}` + "\n" + `{"jsonrpc":"2.0","id":2,"result":true}` + "\n" + `{"jsonrpc":"2.0","id":3,"result":true}` + "\n"},
		{`{]`, broken},
		{`{"method":"yes","id":1,}{"method":"yes","id":2}`, broken},
		{`{"method":"yes","id":1}//`, `{"jsonrpc":"2.0","id":1,"result":true}` + "\n" + broken},
		{`{"method":"yes","id":1`, broken},
		{"{\"method\":\"y\xff\",\"id\":1}", strings.Replace(broken, "not JSON", "not UTF-8", 1)},
		{`{"method":"yes","id":"` + strings.Repeat("x", 70<<10) + `"}`,
			strings.Replace(invalid, `"}}`, `","data":"the request is too long: it has more than 65536 bytes`+closed, 1)},
		{strings.Repeat("[", 60<<10), broken},
	} {
		if got := exchange(t, dial(), tc.in); got != tc.out {
			t.Errorf("%.100s\n got %q\nwant %q", tc.in, got, tc.out)
		}
	}
}

func TestPanicIsContained(t *testing.T) {
	dial := start(t, Config{})
	got := exchange(t, dial(), `{"method":"panic","id":1}{"method":"yes","id":2}`)
	if !strings.Contains(got, `"id":1,"error":{"code":-32603`) || !strings.Contains(got, `"id":2,"result":true`) {
		t.Errorf("got %s", got)
	}
}

func TestSlowMethodsAreOvertaken(t *testing.T) {
	dial := start(t, Config{})
	got := exchange(t, dial(), `{"method":"slow","id":1}{"method":"yes","id":2}`)
	want := `{"jsonrpc":"2.0","id":2,"result":true}` + "\n" + `{"jsonrpc":"2.0","id":1,"result":"slow"}` + "\n"
	if got != want {
		t.Errorf("got %s", got)
	}
}

func TestPendingIsBounded(t *testing.T) {
	dial := start(t, Config{MaxPending: 2})
	begin := time.Now()
	got := exchange(t, dial(), strings.Repeat(`{"method":"slow","id":1}`, 4))
	if n := strings.Count(got, "slow"); n != 4 {
		t.Fatalf("%d replies, want 4", n)
	}
	if d := time.Since(begin); d < 390*time.Millisecond {
		t.Errorf("four calls of 200 ms, two at a time, took %v", d)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	dial := start(t, Config{MaxConns: 2})
	a, b, c := dial(), dial(), dial()
	for _, open := range []net.Conn{a, b} {
		io.WriteString(open, `{"method":"yes","id":1}`)
		open.Read(make([]byte, 100))
	}
	io.WriteString(c, `{"method":"yes","id":1}`)
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 100)); err == nil {
		t.Fatalf("third connection was answered with %d bytes", n)
	}
	a.Close()
	c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if _, err := c.Read(make([]byte, 100)); err != nil {
		t.Fatalf("after one has left: %v", err)
	}
}

func TestOneByteAtATime(t *testing.T) {
	dial := start(t, Config{})
	c := dial()
	for _, b := range []byte(`{"method":"echo","id":1,"params":["}{"]}`) {
		c.Write([]byte{b})
	}
	buf := make([]byte, 200)
	n, err := c.Read(buf)
	if want := `{"jsonrpc":"2.0","id":1,"result":["}{"]}` + "\n"; err != nil || string(buf[:n]) != want {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
}

// FuzzConnection sends arbitrary bytes: the server must survive, answer only
// well-formed JSON, and serve the next client.
func FuzzConnection(f *testing.F) {
	for _, s := range []string{`{"method":"echo","id":1,"params":{}}`, `[{"method":"yes","id":1},3]`, `{]`, "{\"a\":\"\xff\"}", `[[[`, `{"id":{}}`, "null\n", `{"method":"panic","id":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		here, there := net.Pipe()
		done := make(chan struct{})
		s := &Server{cfg: Config{Lookup: methods(done)}}
		if err := s.cfg.validate(); err != nil {
			t.Fatal(err)
		}
		s.cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		s.ctx, s.cancel = context.WithCancel(context.Background())
		defer s.cancel()
		close(done)
		c := newConn(s, there)
		go func() {
			here.Write(in)
			here.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		}()
		go c.serve()
		out, _ := io.ReadAll(here)
		here.Close()
		dec := json.NewDecoder(bytes.NewReader(out))
		for dec.More() {
			var v any
			if err := dec.Decode(&v); err != nil {
				if errors.Is(err, io.ErrUnexpectedEOF) {
					return
				}
				t.Fatalf("%q was answered with %q: %v", in, out, err)
			}
		}
	})
}
