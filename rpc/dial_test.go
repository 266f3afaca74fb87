package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// echo answers every call with what it got; last has the metadata of the last.
type echo struct{ last metadata.MD }

func (e *echo) serve(t *testing.T) func(context.Context, string) (net.Conn, error) {
	t.Helper()
	lis := bufconn.Listen(1 << 16)
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		e.last, _ = metadata.FromIncomingContext(s.Context())
		in := new(wrapperspb.BytesValue)
		if err := s.RecvMsg(in); err != nil {
			return err
		}
		return s.SendMsg(in)
	}))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }
}

func echoOnce(ctx context.Context, c *grpc.ClientConn, size int) error {
	return c.Invoke(ctx, "/t.T/Echo", wrapperspb.Bytes(make([]byte, size)), new(wrapperspb.BytesValue))
}

func dial(t testing.TB, addr string, cfg DialConfig) *grpc.ClientConn {
	t.Helper()
	c, err := Dial(addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestIdleConnectionIsClosed: one without a call is closed, and made again by the next; one with a call under way stays.
func TestIdleConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e echo
		c := dial(t, "a:1", DialConfig{Connect: e.serve(t), Ping: -1})
		long, err := c.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/t.T/Long")
		if err != nil {
			t.Fatal(err)
		}
		state := func(when string, want connectivity.State) {
			t.Helper()
			synctest.Wait()
			if got := c.GetState(); got != want {
				t.Errorf("%s: the connection is %v, want %v", when, got, want)
			}
		}
		time.Sleep(time.Hour)
		state("an hour within a call", connectivity.Ready)
		if err := errors.Join(long.SendMsg(wrapperspb.Bytes(nil)), long.CloseSend(), long.RecvMsg(new(wrapperspb.BytesValue))); err != nil {
			t.Fatal(err)
		}
		if err := long.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		time.Sleep(dialIdle / 2)
		state("at once", connectivity.Ready)
		time.Sleep(2 * dialIdle)
		state("minutes later", connectivity.Idle)
		if err := echoOnce(t.Context(), c, 1); err != nil {
			t.Fatal(err)
		}
		state("with another call", connectivity.Ready)
	})
}

func TestDialSendsTheRequestIDOn(t *testing.T) {
	var e echo
	c := dial(t, "a:1", DialConfig{Connect: e.serve(t)})
	if err := echoOnce(WithRequestID(t.Context(), "req-7"), c, 1); err != nil {
		t.Fatal(err)
	}
	if got := e.last.Get(idKey); len(got) != 1 || got[0] != "req-7" {
		t.Errorf("a unary call carries the ids %q", got)
	}
	s, err := c.NewStream(WithRequestID(t.Context(), "req-8"), &grpc.StreamDesc{ServerStreams: true}, "/t.T/Watch")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SendMsg(wrapperspb.Bytes(nil)), s.CloseSend(), s.RecvMsg(new(wrapperspb.BytesValue))); err != nil {
		t.Fatal(err)
	}
	if got := e.last.Get(idKey); len(got) != 1 || got[0] != "req-8" {
		t.Errorf("a stream carries the ids %q", got)
	}
	if err := echoOnce(t.Context(), c, 1); err != nil {
		t.Fatal(err)
	}
	if got := e.last.Get(idKey); len(got) != 0 {
		t.Errorf("a call of no request carries the ids %q", got)
	}
}

func TestDialBoundsMessages(t *testing.T) {
	var e echo
	c := dial(t, "a:1", DialConfig{Connect: e.serve(t), MaxMessage: 1 << 16})
	if err := echoOnce(t.Context(), c, 1<<15); err != nil {
		t.Error(err)
	}
	if err := echoOnce(t.Context(), c, 1<<17); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message of twice the limit: %v", err)
	}
}

func TestRequestIDsThatAreTaken(t *testing.T) {
	for id, want := range map[string]bool{
		NewRequestID(): true, "a": true, "csi-0.A_b": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x", 65): false, "a b": false, "a\nlevel=ERROR": false, "é": false, `"`: false,
	} {
		if validID(id) != want {
			t.Errorf("%q: taken %v", id, !want)
		}
	}
	if a, b := NewRequestID(), NewRequestID(); a == b || len(a) != 32 {
		t.Errorf("ids %s and %s", a, b)
	}
}

// frames counts the HTTP/2 frames of each type that a connection sends, without answers to pings.
type frames struct {
	net.Conn
	mu    *sync.Mutex
	count map[byte]int
	skip  *int   // bytes until the next frame
	head  []byte // of the next frame, as far as it was sent
}

func (f *frames) Write(p []byte) (int, error) {
	f.mu.Lock()
	for rest := p; len(rest) > 0; {
		n := min(*f.skip, len(rest))
		*f.skip, rest = *f.skip-n, rest[n:]
		if *f.skip > 0 || len(rest) == 0 {
			break
		}
		n = min(9-len(f.head), len(rest))
		f.head, rest = append(f.head, rest[:n]...), rest[n:]
		if len(f.head) == 9 {
			*f.skip = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
			if ping := f.head[3] == 6; !ping || f.head[4]&1 == 0 { // the server's own are answered
				f.count[f.head[3]]++
			}
			f.head = f.head[:0]
		}
	}
	f.mu.Unlock()
	return f.Conn.Write(p)
}

// TestDialSendsNoPingPerCall: a heartbeat is one packet each way. gRPC measures a connection with a ping per
// answer when its windows are its own to choose.
func TestDialSendsNoPingPerCall(t *testing.T) {
	const data, ping, preface, calls = 0, 6, 24, 50 // RFC 9113, sections 6.1, 6.7 and 3.4
	var e echo
	var mu sync.Mutex
	skip, count, connect := preface, map[byte]int{}, e.serve(t)
	c := dial(t, "a:1", DialConfig{Ping: -1, Connect: func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := connect(ctx, addr)
		return &frames{Conn: conn, mu: &mu, count: count, skip: &skip}, err
	}})
	for range calls {
		if err := echoOnce(t.Context(), c, 100); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if count[data] != calls || count[ping] != 0 {
		t.Errorf("%d calls sent %d DATA and %d PING frames", calls, count[data], count[ping])
	}
}
