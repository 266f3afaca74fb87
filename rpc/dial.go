package rpc

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/virtual-disk-array/vda/pki"
)

// DialConfig says how a program reaches another one. The zero value is right
// for most.
type DialConfig struct {
	// TLS encrypts the connection, and shows the server who calls when it has
	// a certificate; nil: in the clear.
	TLS *tls.Config
	// Identity is the caller's, in place of TLS: when it has a certificate, TLS is spoken
	// with who Server lets pass; with a server that has no certificate yet all is in the
	// clear until Identity is secured.
	Identity *pki.Identity
	// Server says whether the one that answers at the address is who it must be; needed
	// with Identity.
	Server func(pki.Name) error
	// Credentials say who calls where a certificate does not, as a token in the
	// metadata of every call; Config.Authorize reads them. Those that demand
	// it are refused without TLS. nil: none.
	Credentials credentials.PerRPCCredentials
	// MaxMessage bounds a message either way, in bytes. Default 4 MiB.
	MaxMessage int
	// Ping is how long a connection with calls under way may be silent until
	// the server is asked for a sign of life, which it has 5 s to give. Default
	// 10 s, which is gRPC's minimum; negative: never, for callers whose own
	// deadline is soon enough.
	Ping time.Duration
	// ConnectTimeout is the shortest time that an attempt to connect gets.
	// Default 1 s.
	ConnectTimeout time.Duration
	// Connect makes connections to "host:port" in place of TCP: in memory, or
	// over the network of a simulation.
	Connect func(ctx context.Context, addr string) (net.Conn, error)
	// Intercept sees every unary call, outermost first.
	Intercept []grpc.UnaryClientInterceptor
}

// dialWindow is how much of its answers a server may send before they are read, in bytes, of one call
// and of all of a connection. gRPC would find a size by itself, but for that it sends a ping with each
// answer: twice the packets and system calls of a short one, such as a heartbeat's.
const dialWindow = 1 << 20

// dialIdle is after how long without a call a connection is closed, until the next one: a portal speaks to a node when
// it changes something there, and a monitor to one that is another's when that does not answer. Kept for gRPC's 30 minutes,
// they would each have one to nearly every node, which takes more memory than all else of a portal.
const dialIdle = time.Minute

// Dial returns a client of the server at addr, "host:port". It connects when it
// is first used, and by itself again after the connection was lost: at once,
// then after pauses that grow from 100 ms to 1 s, so that a server that comes
// back is noticed within a second. A proxy of the environment is not used. The
// error says that addr is not an address.
func Dial(addr string, cfg DialConfig) (*grpc.ClientConn, error) {
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = 4 << 20
	}
	if cfg.Ping == 0 {
		cfg.Ping = 10 * time.Second
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = time.Second
	}
	creds := insecure.NewCredentials()
	if cfg.Identity != nil {
		creds = dialed{insecure.NewCredentials()}
		cfg.Connect = cfg.secured(cfg.Connect)
	}
	if cfg.TLS != nil {
		creds = credentials.NewTLS(cfg.TLS)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(dialIdle),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: cfg.ConnectTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(cfg.MaxMessage), grpc.MaxCallSendMsgSize(cfg.MaxMessage)),
		grpc.WithChainUnaryInterceptor(append([]grpc.UnaryClientInterceptor{sendID}, cfg.Intercept...)...),
		grpc.WithStreamInterceptor(sendIDStream),
		grpc.WithStatsHandler(sentHandler{}),
		grpc.WithStaticStreamWindowSize(dialWindow), grpc.WithStaticConnWindowSize(dialWindow),
	}
	if cfg.Ping > 0 {
		opts = append(opts, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: cfg.Ping, Timeout: 5 * time.Second}))
	}
	if cfg.Credentials != nil {
		opts = append(opts, grpc.WithPerRPCCredentials(cfg.Credentials))
	}
	if cfg.Connect != nil {
		opts = append(opts, grpc.WithContextDialer(cfg.Connect))
	}
	return grpc.NewClient("passthrough:///"+addr, opts...)
}

// withSentID has a call carry the id of the request that it is made for.
func withSentID(ctx context.Context) context.Context {
	if id := RequestID(ctx); id != "" {
		return metadata.AppendToOutgoingContext(ctx, idKey, id)
	}
	return ctx
}

func sendID(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption) error {
	return invoke(withSentID(ctx), method, req, reply, conn, opts...)
}

func sendIDStream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer,
	opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return open(withSentID(ctx), desc, conn, method, opts...)
}
