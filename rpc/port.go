package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/virtual-disk-array/vda/reason"
)

// preface is what every client of HTTP/2 sends first (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// hello bounds the time that a connection may take until it is known what it
// wants.
const hello = 10 * time.Second

// Protocols in ALPN.
const (
	protoRPC = "h2"
	protoWeb = "http/1.1"
)

// port parts the connections of one TCP port into those of gRPC and those of
// HTTP/1. In the clear, those of gRPC begin with HTTP/2's preface. With TLS a
// client of gRPC offers "h2" alone; one that offers "http/1.1" gets that, also
// where it would rather have HTTP/2, as Prometheus would.
type port struct {
	lis      net.Listener
	log      *slog.Logger
	secure   func() *tls.Config               // nil: there is no TLS
	clear    func() bool                      // connections in the clear are taken
	webCert  func() (*tls.Certificate, error) // for clients of HTTP; nil: that of secure
	rpc, web *half
	ctx      context.Context // ends when the port is closed
	cancel   context.CancelFunc
	running  sync.WaitGroup
	warned   atomic.Int64 // second of the last warning
	refusals *Refusals    // nil: nothing counts them
}

// half is the listener of one of the two servers.
type half struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPort(lis net.Listener, secure func() *tls.Config, clear func() bool, log *slog.Logger) *port {
	newHalf := func() *half { return &half{addr: lis.Addr(), conns: make(chan net.Conn), done: make(chan struct{})} }
	p := &port{lis: lis, log: log, secure: secure, clear: clear, rpc: newHalf(), web: newHalf()}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// byALPN gives each client the configuration with the one protocol that it is
// served.
// forWeb changes what a client of HTTP gets.
func byALPN(cfg *tls.Config, forWeb func(*tls.Config)) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	with := func(cfg *tls.Config, protocol string) *tls.Config {
		cfg = cfg.Clone()
		cfg.GetConfigForClient, cfg.NextProtos = nil, []string{protocol}
		if protocol == protoWeb {
			forWeb(cfg)
		}
		return cfg
	}
	shared := map[string]*tls.Config{protoRPC: with(cfg, protoRPC), protoWeb: with(cfg, protoWeb)}
	return func(c *tls.ClientHelloInfo) (*tls.Config, error) {
		protocol := protoWeb
		if slices.Contains(c.SupportedProtos, protoRPC) && !slices.Contains(c.SupportedProtos, protoWeb) {
			protocol = protoRPC
		}
		if cfg.GetConfigForClient != nil {
			if own, err := cfg.GetConfigForClient(c); err != nil {
				return nil, err
			} else if own != nil {
				return with(own, protocol), nil
			}
		}
		return shared[protocol], nil
	}
}

// run accepts until close; the error is why it could not go on.
func (p *port) run() error {
	const shortest = 5 * time.Millisecond
	defer p.running.Wait()
	for pause := shortest; ; {
		c, err := p.lis.Accept()
		var passing interface{ Temporary() bool }
		switch {
		case err == nil:
			pause = shortest
			p.running.Go(func() { p.sort(c) })
			continue
		case p.ctx.Err() != nil:
			return nil
		case !errors.As(err, &passing) || !passing.Temporary():
			return err
		}
		select { // as for want of descriptors
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		case <-p.ctx.Done():
			return nil
		}
	}
}

// close ends run, and the connections that are not sorted yet.
func (p *port) close() {
	p.cancel()
	_ = p.lis.Close()
}

// sort gives a connection to the server that it is for.
func (p *port) sort(c net.Conn) {
	ctx, cancel := context.WithTimeout(p.ctx, hello)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	to, sorted := p.sniff(ctx, c)
	if !stop() {
		return // it is closed
	}
	if to == nil {
		_ = c.Close()
		return
	}
	select {
	case to.conns <- sorted:
	case <-to.done:
		_ = c.Close()
	}
}

// sniff returns the server that a connection is for, nil for none, and the
// connection as that server shall see it.
func (p *port) sniff(ctx context.Context, c net.Conn) (*half, net.Conn) {
	head := make([]byte, 0, len(preface))
	for {
		n, err := c.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		switch {
		case len(head) > 0 && head[0] == handshake:
			if cfg := p.secure(); cfg != nil {
				return p.shake(ctx, &peeked{c, head}, cfg)
			}
			return p.web, &peeked{c, head} // which answers that it has no TLS
		case len(head) > 0 && !p.clear() && (len(head) >= len("PRI") || err != nil || !strings.HasPrefix(preface, string(head))):
			p.refuseClear(ctx, c, strings.HasPrefix(preface, string(head)))
			return nil, nil
		case !strings.HasPrefix(preface, string(head)):
			return p.web, &peeked{c, head}
		case len(head) == len(preface):
			return p.rpc, &peeked{c, head}
		case err != nil:
			return nil, nil
		}
	}
}

// forWeb gives a client of HTTP the certificate that is for those.
func (p *port) forWeb(c net.Conn) func(*tls.Config) {
	return func(cfg *tls.Config) {
		if p.webCert == nil {
			return
		}
		cfg.Certificates, cfg.GetCertificate = nil, func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			own, err := p.webCert()
			if err != nil && own != nil {
				p.warn("the certificate for the web cannot be read; the last one is shown", c, "err", err)
				err = nil
			}
			return own, err
		}
	}
}

// handshake is the first byte of a connection with TLS (RFC 8446, section 5.1).
const handshake = 22

// shake does the TLS handshake of a connection.
func (p *port) shake(ctx context.Context, c net.Conn, cfg *tls.Config) (*half, net.Conn) {
	t := tls.Server(c, &tls.Config{GetConfigForClient: byALPN(cfg, p.forWeb(c))})
	if err := t.HandshakeContext(ctx); err != nil {
		p.warn("a connection was given up in its TLS handshake", c, "err", err)
		if len(t.ConnectionState().PeerCertificates) > 0 && ctx.Err() == nil {
			p.refuses(c, "a certificate is refused: "+reason.Of(err))
		}
		return nil, nil
	}
	if t.ConnectionState().NegotiatedProtocol == protoRPC {
		return p.rpc, t
	}
	return p.web, t
}

// goAway is what a connection of HTTP/2 in the clear is told before it is closed, so that its client
// does not take this for a server that is about to come back: a GOAWAY (RFC 9113, section 6.8), of
// length 8, type 7, no flags, stream 0; then the last stream, 0, and the error INADEQUATE_SECURITY.
// It comes in place of the server's SETTINGS: behind those a client of gRPC counts the connection as
// made, and makes it again at once.
const goAway = "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x0c"

// lingers is how long the client has to take it.
const lingers = time.Second

// refuses counts a connection that is refused for who makes it.
func (p *port) refuses(c net.Conn, why string) {
	p.refusals.note(Call{Method: "connect", Peer: c.RemoteAddr().String()}, status.Error(codes.Unauthenticated, why))
}

// refuseClear gives up a connection in the clear.
func (p *port) refuseClear(ctx context.Context, c net.Conn, http2 bool) {
	const why = "a connection in the clear is refused: the cluster is secured"
	p.warn(why, c)
	p.refuses(c, why)
	end, _ := ctx.Deadline()
	if soon := time.Now().Add(lingers); soon.Before(end) {
		end = soon
	}
	if !http2 || c.SetDeadline(end) != nil {
		return
	}
	if _, err := io.WriteString(c, goAway); err != nil {
		return
	}
	// Closed with something unread, the connection would be reset and the client read nothing.
	if half, is := c.(interface{ CloseWrite() error }); is && half.CloseWrite() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c, 64<<10) // until the client closes, or its time is over
}

// warn logs what a stranger can cause, at most once per second.
func (p *port) warn(msg string, c net.Conn, more ...any) {
	now := time.Now().Unix()
	level := slog.LevelDebug
	if last := p.warned.Load(); now > last && p.warned.CompareAndSwap(last, now) {
		level = slog.LevelWarn
	}
	p.log.Log(p.ctx, level, msg, append([]any{"peer", c.RemoteAddr()}, more...)...)
}

// peeked is a connection whose first bytes have been read.
type peeked struct {
	net.Conn
	head []byte
}

// Read implements net.Conn.
func (c *peeked) Read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}

// Accept implements net.Listener.
func (h *half) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *half) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *half) Addr() net.Addr { return h.addr }

// shaken are the credentials of a gRPC server whose connections come from a
// port, which has done their TLS handshake.
type shaken struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (shaken) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	t, ok := c.(*tls.Conn)
	if !ok { // the port lets some in
		return c, clearInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}, nil
	}
	return c, credentials.TLSInfo{State: t.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// clearInfo is what is known of a connection in the clear.
type clearInfo struct{ credentials.CommonAuthInfo }

// AuthType implements credentials.AuthInfo.
func (clearInfo) AuthType() string { return "insecure" }
