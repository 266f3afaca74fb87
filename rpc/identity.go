package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/reason"
)

// User is the Kind of a Caller that is a person or a script with a token.
const User = pki.User

// Caller is who makes a call.
type Caller struct {
	Kind string // pki.Portal, Monitor, DN or CN, or User; "": nobody knows
	Name string // of the daemon or user
	Role string // of a user: "admin", "operator", "viewer" or "csi"
}

// String is how logs, events and errors say it: "user ann", "dn 192.168.0.14:9720",
// "" for nobody.
func (c Caller) String() string {
	if c.Kind == "" {
		return ""
	}
	return c.Kind + " " + c.Name
}

// CallerOf is who made the call that ctx belongs to, the zero Caller where that is
// not known, as in a plain cluster.
func CallerOf(ctx context.Context) Caller {
	if r, ok := ctx.Value(recordKey{}).(*record); ok {
		return r.call.Caller
	}
	return Caller{}
}

// IssuedAt is when the certificate was made by which the caller of the call that ctx belongs to is
// known; the zero time when that is not known by one.
func IssuedAt(ctx context.Context) time.Time {
	if p, ok := peer.FromContext(ctx); ok {
		if t, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(t.State.PeerCertificates) > 0 {
			return pki.IssuedAt(t.State.PeerCertificates[0])
		}
	}
	return time.Time{}
}

// Encrypted reports that the call that ctx belongs to came over TLS.
func Encrypted(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	_, ok = p.AuthInfo.(credentials.TLSInfo)
	return ok
}

// Bearer are the credentials of a user's client: a token in the metadata of each call, over
// TLS alone.
func Bearer(token string) credentials.PerRPCCredentials { return bearerToken(token) }

type bearerToken string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{tokenKey: bearer + string(b)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (bearerToken) RequireTransportSecurity() bool { return true }

// tokenKey is the metadata key of a user's token: "Bearer TOKEN" (RFC 6750).
const tokenKey = "authorization"

const bearer = "Bearer "

// identify finds out who makes a call: from its certificate, which must be good
// still, else from its token.
func (s *server) identify(ctx context.Context, call *Call) error {
	if i := s.cfg.Identity; i != nil && call.TLS != nil && len(call.TLS.PeerCertificates) > 0 {
		n, err := i.Verify(call.TLS.PeerCertificates)
		if err != nil {
			return status.Error(codes.Unauthenticated, "who calls is not known: "+reason.Of(err))
		}
		call.Caller = Caller{Kind: n.Kind, Name: n.Name}
		return nil
	}
	if s.cfg.Users == nil {
		return nil
	}
	texts := metadata.ValueFromIncomingContext(ctx, tokenKey)
	if len(texts) == 0 {
		return nil
	}
	token, ok := strings.CutPrefix(texts[0], bearer)
	if !ok || len(texts) > 1 {
		return status.Error(codes.Unauthenticated, `the call's "authorization" must be "Bearer" and one token`)
	}
	c, err := s.cfg.Users(ctx, token)
	if err != nil {
		return err
	}
	call.Caller = c
	return nil
}

// security says how connections are taken.
func (s *server) security() (secure func() *tls.Config, clear func() bool) {
	if i := s.cfg.Identity; i != nil {
		return i.ServerTLS, func() bool { return !i.Secured() }
	}
	return func() *tls.Config { return s.cfg.TLS }, func() bool { return s.cfg.TLS == nil }
}

// healthPrefix is what methods of the health service begin with.
const healthPrefix = "/grpc.health."

// ErrNobody is what a caller gets that shows neither a certificate nor a token.
var ErrNobody = status.Error(codes.Unauthenticated,
	"the cluster is secured and the call says not who makes it: daemons must enrol (--enrol), users must show a token (vda_cli --token-file)")

// Health reports that a method tells how a program is, which is for all.
func Health(method string) bool {
	return strings.HasPrefix(method, healthPrefix) || method == "GET /healthz"
}

// Members is Config.Authorize of a program that takes calls from members of its
// cluster of some kinds alone. Health is for all, metrics are for everyone who is known.
// While the program is not secured, calls in the clear are let through.
func Members(identity interface{ Secured() bool }, kinds ...string) func(context.Context, Call) error {
	return func(_ context.Context, call Call) error {
		switch {
		case Health(call.Method):
			return nil
		case call.TLS == nil && !identity.Secured():
			return nil
		case call.Caller.Kind == "":
			return ErrNobody
		case slices.Contains(kinds, call.Caller.Kind) || call.Method == "GET /metrics":
			return nil
		}
		return status.Errorf(codes.PermissionDenied, "%s may not call %s here: calls are taken from %s of the cluster alone",
			call.Caller, path.Base(call.Method), strings.Join(kinds, " and "))
	}
}

// registerSecurity has metrics say how the program's calls are protected.
func (s *server) registerSecurity() error {
	i := s.cfg.Identity
	if i == nil {
		return nil
	}
	secured := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vda_security_secured",
		Help: "1: calls in the clear are refused; 0: anyone who reaches the port can give orders."},
		func() float64 { return oneIf(i.Secured()) })
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vda_security_certificate_expiry_seconds",
		Help: "When the daemon's certificate expires, as Unix time; 0: it has none."}, func() float64 {
		if at := i.Expires(); !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	})
	return errors.Join(s.cfg.Registry.Register(secured), s.cfg.Registry.Register(expiry))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// secured returns a function that connects as next does, nil: by TCP, and does the
// TLS handshake.
func (c DialConfig) secured(next func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	if next == nil {
		next = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := next(ctx, addr)
		if err != nil || !c.Identity.Enrolled() {
			return conn, err
		}
		cfg := c.Identity.ClientTLS(c.Server)
		cfg.NextProtos = []string{protoRPC}
		t := tls.Client(conn, cfg)
		if err = t.HandshakeContext(ctx); err == nil {
			return t, nil
		}
		_ = conn.Close()
		// What answers in the clear has no certificate yet.
		if plain := (tls.RecordHeaderError{}); errors.As(err, &plain) && !c.Identity.Secured() {
			return next(ctx, addr)
		}
		return nil, err
	}
}

// dialed are the credentials of a client whose connections have done their TLS
// handshake, where they have TLS.
type dialed struct {
	credentials.TransportCredentials
}

// Info implements credentials.TransportCredentials.
func (d dialed) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (d dialed) Clone() credentials.TransportCredentials { return d }

// ClientHandshake implements credentials.TransportCredentials.
func (dialed) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return shaken{}.ServerHandshake(c)
}
