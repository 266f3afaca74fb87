package rpc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/virtual-disk-array/vda/daemon/httpd"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) count(s string) int { return strings.Count(l.String(), s) }

// line is the first line that has all the words, "" when there is none.
func (l *lines) line(words ...string) string {
next:
	for line := range strings.Lines(l.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		return line
	}
	return ""
}

// rig is a server under test with a service of five methods: Echo and
// Heartbeat answer with what they got, Wait when release is closed, Fail with
// NOT_FOUND and Panic not. Watch is a stream that ends when its context does.
type rig struct {
	t       testing.TB
	addr    string
	log     *lines
	entered chan context.Context // of each call
	release chan struct{}        // Wait waits for it
	stop    func() error         // ends Serve and returns its error
}

const service = "vda.test.T"

func (r *rig) register(to grpc.ServiceRegistrar) {
	d := &grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, Handler: r.watch}}}
	for _, m := range []string{"Echo", "Heartbeat", "Wait", "Fail", "Panic"} {
		d.Methods = append(d.Methods, grpc.MethodDesc{MethodName: m,
			Handler: func(_ any, ctx context.Context, read func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
				in := new(wrapperspb.StringValue)
				if err := read(in); err != nil {
					return nil, err
				}
				return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/" + service + "/" + m}, func(ctx context.Context, req any) (any, error) {
					return r.handle(ctx, m, req)
				})
			}})
	}
	to.RegisterService(d, r)
}

func (r *rig) handle(ctx context.Context, method string, req any) (any, error) {
	r.entered <- ctx
	switch method {
	case "Wait":
		select {
		case <-r.release:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	case "Fail":
		return nil, status.Error(codes.NotFound, "there is none")
	case "Panic":
		panic("on purpose")
	}
	return req, nil
}

func (r *rig) watch(_ any, s grpc.ServerStream) error {
	r.entered <- s.Context()
	if err := s.SendMsg(wrapperspb.String("begun")); err != nil {
		return err
	}
	<-s.Context().Done()
	return status.Error(codes.Canceled, "the stream has ended")
}

// serve starts a server on a loopback port; change may alter its Config.
func serve(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, addr: lis.Addr().String(), log: &lines{}, entered: make(chan context.Context, 100), release: make(chan struct{})}
	cfg := Config{Services: r.register, Reflection: true, Limits: Limits{Message: 1 << 20}, Registry: httpd.NewRegistry("vda_test"),
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, lis, cfg) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) dial(cfg DialConfig) *grpc.ClientConn { return dial(r.t, r.addr, cfg) }

func do(ctx context.Context, c *grpc.ClientConn, method string, opts ...grpc.CallOption) error {
	return c.Invoke(ctx, "/"+service+"/"+method, wrapperspb.String("x"), new(wrapperspb.StringValue), opts...)
}

func open(t testing.TB, ctx context.Context, c *grpc.ClientConn) grpc.ClientStream {
	t.Helper()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+service+"/Watch")
	if err == nil {
		err = s.SendMsg(wrapperspb.String("x"))
	}
	if err == nil {
		err = s.CloseSend()
	}
	if err == nil {
		err = s.RecvMsg(new(wrapperspb.StringValue))
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// authority makes certificates for 127.0.0.1 and for clients by name.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	own := a.issue(t, "ca")
	a.cert, a.key = own.Leaf, own.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: a.cert == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func noTLS() *tls.Config { return nil }
func always() bool       { return true }
