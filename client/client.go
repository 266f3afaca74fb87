package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/rpc"
)

// Config of a Client.
type Config struct {
	// Portals are the addresses of the cluster's portals, "host:port", one at
	// least. The first one is tried first.
	Portals []string
	// Timeout bounds each call, retries included; a context may end it sooner.
	// Default 60 s.
	Timeout time.Duration
	// Dial says how the portals are reached: in the clear or with TLS, over TCP
	// or something else. Its ConnectTimeout is by default longer than Timeout
	// when there is one portal, and else 3 s, after which the next has its turn.
	Dial rpc.DialConfig
}

// Secure has calls go over TLS, to portals of the token's cluster alone, and show the token.
func (c *Config) Secure(t pki.UserToken) {
	c.Dial.TLS, c.Dial.Credentials = t.TLS(), rpc.Bearer(t.Secret)
}

// Client calls the portals of a cluster. It is safe for concurrent use.
type Client struct {
	cfg     Config
	portals []portal
	current atomic.Uint32 // index of the portal that calls go to
	stubs   apiv1.PortalClient
}

// portal is one address and the connection to it, which is made when first
// used.
type portal struct {
	addr string
	conn *grpc.ClientConn
}

var _ apiv1.PortalClient = (*Client)(nil)

// New returns a client. It connects when it is first used. The error, of the
// kind vda.InvalidArgument, says which part of the config is wrong.
func New(cfg Config) (*Client, error) {
	if len(cfg.Portals) == 0 {
		return nil, vda.Errorf(vda.InvalidArgument, "no portal: give the host:port of one at least, like 192.168.0.11:9520")
	}
	if cfg.Timeout < 0 {
		return nil, vda.Errorf(vda.InvalidArgument, "timeout %v must be above 0", cfg.Timeout)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 60 * time.Second
	}
	if cfg.Dial.ConnectTimeout == 0 {
		cfg.Dial.ConnectTimeout = 2 * cfg.Timeout
		if len(cfg.Portals) > 1 {
			cfg.Dial.ConnectTimeout = 3 * time.Second
		}
	}
	c := &Client{cfg: cfg}
	for _, addr := range cfg.Portals {
		conn, err := dial(addr, cfg.Dial)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.portals = append(c.portals, portal{addr, conn})
	}
	c.stubs = apiv1.NewPortalClient(c)
	return c, nil
}

func dial(addr string, cfg rpc.DialConfig) (*grpc.ClientConn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" {
		return nil, vda.Errorf(vda.InvalidArgument, "portal %q: it must be host:port, like 192.168.0.11:9520", addr)
	}
	conn, err := rpc.Dial(addr, cfg)
	if err != nil {
		return nil, vda.Errorf(vda.InvalidArgument, "portal %q: %s", addr, reason.Full(err))
	}
	return conn, nil
}

// Close ends calls under way and closes all connections.
func (c *Client) Close() error {
	var errs []error
	for _, p := range c.portals {
		errs = append(errs, p.conn.Close())
	}
	return errors.Join(errs...)
}

// Portal is the address of the portal that the next call goes to first.
func (c *Client) Portal() string { return c.portals[c.current.Load()].addr }

// Invoke calls a method by its full name, like "/vda.v1.Portal/ListDn", with
// the same retries, deadline and errors as the methods have. It makes a Client
// a grpc.ClientConnInterface, for callers that take methods from descriptors
// and for other services that a portal offers.
func (c *Client) Invoke(ctx context.Context, method string, req, reply any, opts ...grpc.CallOption) error {
	ctx, cancel := withTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	call := describe(method, req)
	err := c.retry(ctx, call, func(p portal) (bool, error) {
		ctx, sent := rpc.WithSent(ctx)
		err := p.conn.Invoke(ctx, method, req, reply, opts...)
		return sent.Maybe(), err
	})
	if err != nil {
		return err // an *Error: nil must stay a nil interface
	}
	return nil
}

// NewStream opens a stream to the portal that calls go to. A stream is not
// tried again and has no timeout of its own.
func (c *Client) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.portals[c.current.Load()].conn.NewStream(ctx, desc, method, opts...)
}

// Note is what a portal says about a change that was carried out, but not
// everywhere yet, such as which node did not answer; "" when all is done.
func Note(reply interface{ GetReplyInfo() *apiv1.ReplyInfo }) string {
	if msg := reply.GetReplyInfo().GetReplyMsg(); msg != success {
		return msg
	}
	return ""
}

// success is reply_msg when there is nothing to say.
const success = "success"

// String names the portals.
func (c *Client) String() string { return fmt.Sprint(c.cfg.Portals) }
