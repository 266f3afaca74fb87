package rpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/virtual-disk-array/vda/daemon/httpd"
)

// apart gives each connection of a listener in memory an address of its own.
type apart struct {
	*bufconn.Listener
	n    atomic.Int64
	from atomic.Int64 // the last byte of the address that clients come from now
}

// stranger is the address that slow clients come from, friend that of another.
const (
	stranger = iota
	friend
)

type apartConn struct {
	net.Conn
	at net.Addr
}

func (c apartConn) RemoteAddr() net.Addr { return c.at }

func (l *apart) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return apartConn{c, &net.TCPAddr{IP: net.IPv4(192, 0, 2, byte(l.from.Load())), Port: int(l.n.Add(1))}}, nil
}

// slow is what a client does with its connection; it reads what it returns.
type slow func(net.Conn) net.Conn

// slowly writes a byte per second until the other side has had enough.
func slowly(begin, rest string) slow {
	return func(c net.Conn) net.Conn {
		go func() {
			_, err := io.WriteString(c, begin)
			for i := 0; err == nil && i < len(rest); i++ {
				time.Sleep(time.Second)
				_, err = io.WriteString(c, rest[i:i+1])
			}
		}()
		return c
	}
}

func atOnce(text string) slow { return slowly(text, "") }

// TestSlowClients: whatever a client has begun to say and does not end, its connection is
// closed in the time that is set for that, and meanwhile who comes from elsewhere is served
// although there are more such clients than connections.
func TestSlowClients(t *testing.T) {
	var certs *authority // made when it is tried, in that time
	trust := func(proto string) *tls.Config {
		return &tls.Config{RootCAs: certs.pool, ServerName: "127.0.0.1", NextProtos: []string{proto}}
	}
	shaken := func(proto, text string) slow {
		return func(c net.Conn) net.Conn {
			c = tls.Client(c, trust(proto))
			_, _ = io.WriteString(c, text) // after the handshake
			return c
		}
	}
	const header = "GET /healthz HTTP/1.1\r\nHost: x\r\n"
	long := header + "X-Long: " + strings.Repeat("x", 1000)
	body := "POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
	const clientHello = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	for _, row := range []struct {
		name   string
		secure bool
		does   slow
		most   time.Duration
	}{
		{"nothing", false, atOnce(""), hello},
		{"half of HTTP/2's preface", false, atOnce(preface[:14]), hello},
		{"the preface, a byte per second", false, slowly("", preface), hello},
		{"the preface and no SETTINGS", false, atOnce(preface), 2 * hello},
		{"half of an HTTP header", false, atOnce(header), 5 * time.Second},
		{"an HTTP header, a byte per second", false, slowly("", long), 10 * time.Second},
		{"half of a body", false, atOnce(body + "half"), 10 * time.Second},
		{"a body, a byte per second", false, slowly(body, long), 10 * time.Second},
		{"a request, and no other", false, atOnce(header + "\r\n"), 2 * time.Minute},
		{"one byte of TLS", true, atOnce("\x16"), hello},
		{"half of a ClientHello", true, atOnce(clientHello + "half"), hello},
		{"a ClientHello, a byte per second", true, slowly("", clientHello+long), hello},
		{"TLS, then no gRPC", true, shaken(protoRPC, ""), 2 * hello},
		{"TLS, then half of an HTTP header", true, shaken(protoWeb, header), 5 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const most = 8
				lis := &apart{Listener: bufconn.Listen(64 << 10)}
				cfg := Config{Services: (&rig{}).register, Limits: Limits{Message: 1 << 20, Conns: most, Calls: most / 2},
					Registry: httpd.NewRegistry("vda_test"), Log: slog.New(slog.DiscardHandler), Alive: true,
					Web: func(grpc.ClientConnInterface) http.Handler {
						return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) })
					}}
				if row.secure {
					certs = newAuthority(t)
					cfg.TLS = &tls.Config{Certificates: []tls.Certificate{certs.issue(t, "server")}}
				}
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() { served <- Serve(ctx, lis, cfg) }()
				dial := func() net.Conn {
					t.Helper()
					c, err := lis.DialContext(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					return c
				}
				ended := make(chan time.Duration)
				come := func() {
					begun, c := time.Now(), dial()
					go func() {
						_, _ = io.Copy(io.Discard, row.does(c))
						_ = c.Close()
						ended <- time.Since(begun)
					}()
				}
				come()
				if took := <-ended; took > row.most {
					t.Errorf("the connection was closed after %v, want %v at most", took, row.most)
				}
				for range 3 * most {
					come()
				}
				time.Sleep(youth + time.Second) // and they count as idle
				lis.from.Store(friend)
				c := dial()
				if row.secure {
					c = tls.Client(c, trust(protoWeb))
				}
				if _, err := fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
					t.Fatalf("another client is kept out: %v", err)
				}
				reply, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil || reply.StatusCode != http.StatusOK {
					t.Errorf("another client is kept out: %v, %v", reply, err)
				}
				_ = c.Close()
				for range 3 * most {
					if took := <-ended; took > row.most {
						t.Errorf("a connection of many was closed after %v, want %v at most", took, row.most)
					}
				}
				cancel()
				if err := <-served; err != nil {
					t.Error(err)
				}
				_ = lis.Close()
				time.Sleep(2 * time.Second) // those who write slowly learn of it
			})
		})
	}
}
