package rpc

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// local calls the unary methods of a server from within its program, without a
// connection: with the same interceptors, so such a call gets an id, a deadline, a
// log record and its reply as any other. Config.Web gets one. Safe for concurrent
// use.
type local struct {
	s       *server
	methods map[string]localMethod // by full name
}

type localMethod struct {
	handler grpc.MethodHandler
	impl    any
}

var _ grpc.ClientConnInterface = (*local)(nil)

// RegisterService implements grpc.ServiceRegistrar: it notes the service's methods.
func (l *local) RegisterService(desc *grpc.ServiceDesc, impl any) {
	for _, m := range desc.Methods {
		l.methods["/"+desc.ServiceName+"/"+m.MethodName] = localMethod{m.Handler, impl}
	}
}

// Invoke implements grpc.ClientConnInterface. Options have no effect.
func (l *local) Invoke(ctx context.Context, method string, req, reply any, _ ...grpc.CallOption) error {
	m, ok := l.methods[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "there is no method %s", method)
	}
	if sent, ok := metadata.FromOutgoingContext(ctx); ok {
		ctx = metadata.NewIncomingContext(ctx, sent.Copy())
	}
	resp, err := m.handler(m.impl, ctx, func(to any) error {
		proto.Merge(to.(proto.Message), req.(proto.Message))
		return nil
	}, l.s.chain)
	if err != nil {
		return status.Convert(err).Err()
	}
	proto.Merge(reply.(proto.Message), resp.(proto.Message))
	return nil
}

// NewStream implements grpc.ClientConnInterface.
func (l *local) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "streams are served over gRPC only")
}

// chain runs a call through the server's interceptors, outermost first.
func (s *server) chain(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	for i := len(s.unary) - 1; i >= 0; i-- {
		intercept, inner := s.unary[i], handle
		handle = func(ctx context.Context, req any) (any, error) { return intercept(ctx, req, info, inner) }
	}
	return handle(ctx, req)
}

// pages is Config.Web's handler, whose requests may take as long as a call, and
// whose calls are known to come from where the request did.
func (s *server) pages(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The server's own bound is meant for metrics. It fails on no connection that
		// net/http makes.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.cfg.Deadline + 10*time.Second))
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Deadline)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(peer.NewContext(ctx, peerOf(r.RemoteAddr, r.TLS))))
	})
}

// peerOf is who an HTTP request comes from, as gRPC says it.
func peerOf(addr string, state *tls.ConnectionState) *peer.Peer {
	p := &peer.Peer{Addr: &net.TCPAddr{}}
	if at, err := netip.ParseAddrPort(addr); err == nil {
		p.Addr = net.TCPAddrFromAddrPort(at)
	}
	if state != nil {
		p.AuthInfo = credentials.TLSInfo{State: *state}
	}
	return p
}
