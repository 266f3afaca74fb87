package rpc_test

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/virtual-disk-array/vda/rpc"
)

// mute is a health service that loses its connection instead of answering.
type mute struct {
	healthpb.UnimplementedHealthServer
	lose func()
}

func (m mute) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	m.lose()
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestSent: a call is sent when its connection was made, whatever the error of
// one that was not.
func TestSent(t *testing.T) {
	accept := func(what func(c *net.TCPConn)) func(t *testing.T) string {
		return func(t *testing.T) string {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { lis.Close() })
			go func() {
				for {
					c, err := lis.Accept()
					if err != nil {
						return
					}
					what(c.(*net.TCPConn))
					c.Close()
				}
			}()
			return lis.Addr().String()
		}
	}
	for _, c := range []struct {
		what  string
		serve func(t *testing.T) string
		sent  bool
	}{
		{"nobody listens", func(t *testing.T) string {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			lis.Close()
			return lis.Addr().String()
		}, false},
		{"reset at once", accept(func(c *net.TCPConn) { c.SetLinger(0) }), false},
		{"closed at once", accept(func(*net.TCPConn) {}), false},
		{"closed after the client's first word", accept(func(c *net.TCPConn) { c.Read(make([]byte, 1)) }), false},
		{"another protocol", accept(func(c *net.TCPConn) { c.Write([]byte("220 mail.example ESMTP\r\n")) }), false},
		{"lost with the call", func(t *testing.T) string {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := grpc.NewServer()
			healthpb.RegisterHealthServer(srv, mute{lose: func() { go srv.Stop() }})
			go func() { _ = srv.Serve(lis) }()
			t.Cleanup(srv.Stop)
			return lis.Addr().String()
		}, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			// Which read or write meets the loss first is chance.
			for range 20 {
				conn, err := rpc.Dial(c.serve(t), rpc.DialConfig{})
				if err != nil {
					t.Fatal(err)
				}
				ctx, sent := rpc.WithSent(t.Context())
				_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
				conn.Close()
				if err == nil || sent.Maybe() != c.sent {
					t.Fatalf("sent %v, want %v: %v", sent.Maybe(), c.sent, err)
				}
			}
		})
	}
}
