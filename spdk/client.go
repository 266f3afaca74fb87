package spdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
)

// Config of a Client.
type Config struct {
	// Socket is the path of the data plane's Unix socket.
	Socket string
	// CallTimeout bounds a call whose context has no deadline. Default 30 s.
	CallTimeout time.Duration
	// MaxReply bounds the bytes of one reply; a longer one ends the
	// connection. Default 64 MiB.
	MaxReply int
	// Log gets what no caller can be told, such as replies nobody waits for.
	// Default slog.Default().
	Log *slog.Logger
}

func (c *Config) validate() error {
	if c.Socket == "" {
		return errors.New("spdk client: Socket is empty; give the path of the data plane's JSON-RPC socket")
	}
	if c.CallTimeout <= 0 {
		c.CallTimeout = 30 * time.Second
	}
	if c.MaxReply <= 0 {
		c.MaxReply = 64 << 20
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return nil
}

// Client calls the methods of one data plane. All methods are safe for
// concurrent use.
type Client struct {
	API
	cfg Config

	dialing chan struct{} // held by the goroutine that connects

	mu     sync.Mutex
	link   *link // nil until the first call and after a loss
	closed bool
}

// New returns a client; it does not connect yet, and the socket need not
// exist.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, dialing: make(chan struct{}, 1)}
	c.API = API{Caller: c}
	return c, nil
}

// Socket returns the path the client was made for.
func (c *Client) Socket() string { return c.cfg.Socket }

// Call sends method with params (nil: none) and decodes the result into
// result (nil: dropped). The package comment lists the errors.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	return c.Sequence(ctx, Request{method, params, result})[0]
}

// Sequence sends requests in one piece, so that the data plane finds them
// together and starts one right after the other, and returns the error of
// each. It does not wait for one to succeed before it sends the next.
func (c *Client) Sequence(ctx context.Context, reqs ...Request) []error {
	errs := make([]error, len(reqs))
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.CallTimeout)
		defer cancel()
	}
	l, err := c.connect(ctx)
	if err != nil {
		for i, r := range reqs {
			errs[i] = fmt.Errorf("%s: %w", r.Method, err)
		}
		return errs
	}
	for i, r := range l.sequence(ctx, reqs) {
		errs[i] = r.lost
		if r.lost != nil || reqs[i].Result == nil {
			continue
		}
		if err := jsonv2.Unmarshal(r.result, reqs[i].Result, lenient); err != nil {
			errs[i] = fmt.Errorf("%s: result does not decode: %w", reqs[i].Method, err)
		}
	}
	return errs
}

// Close ends the connection; calls under way return ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	l := c.link
	c.closed, c.link = true, nil
	c.mu.Unlock()
	if l != nil {
		l.fail(ErrClosed)
		<-l.done
	}
	return nil
}

// Lost returns a channel that is closed when the connection there is now has
// ended, as it does at once with the data plane's process; nil when there is
// none.
func (c *Client) Lost() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil || !c.link.alive() {
		return nil
	}
	return c.link.done
}

// connect returns the live connection, or makes one.
func (c *Client) connect(ctx context.Context) (*link, error) {
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	l, closed := c.link, c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case l != nil && l.alive():
		return l, nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.cfg.Socket)
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded): // the dialer's timer was before the context's
			return nil, context.DeadlineExceeded
		}
		return nil, &unreachable{c.cfg.Socket, err}
	}
	l = newLink(conn.(*net.UnixConn), c.cfg)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		l.fail(ErrClosed)
		return nil, ErrClosed
	}
	c.link = l
	return l, nil
}

// WaitReady waits until the data plane answers spdk_get_version, asking every
// 100 ms; the socket may appear only later. It returns the version, or the
// last error when ctx ends.
func (c *Client) WaitReady(ctx context.Context) (*Version, error) {
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		v, err := c.GetVersion(try)
		cancel()
		if err == nil || errors.Is(err, ErrClosed) {
			return v, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s does not answer: %w", c.cfg.Socket, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
