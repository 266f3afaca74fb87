package jsonrpc

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Method is what a name stands for.
type Method struct {
	// Slow has the calls behind this one on the same connection overtake it.
	Slow bool
	// Call does the work. params is nil when there were none. ctx ends when
	// the server is closed.
	Call func(ctx context.Context, params json.RawMessage) (any, error)
}

// Config of a Server.
type Config struct {
	// Lookup returns the method of a name, or the error that a call of it
	// gets: unknown, or not allowed in the present state.
	Lookup func(name string) (Method, *Error)
	// MaxConns bounds the connections; further ones wait until one ends, or
	// has been idle for long. Default 64, SPDK's.
	MaxConns int
	// MaxRequest bounds the bytes of one request or batch; a longer one
	// closes the connection. Default 4 MiB.
	MaxRequest int
	// MaxPending bounds the slow calls under way on one connection; when it
	// is reached the connection is not read. Default 128.
	MaxPending int
	// WriteTimeout is how long a client may refuse to take a reply before
	// its connection is closed. Default 30 s.
	WriteTimeout time.Duration
	// Log gets broken connections and panics. Default slog.Default().
	Log *slog.Logger
}

func (c *Config) validate() error {
	if c.Lookup == nil {
		return errors.New("jsonrpc server: Lookup is nil")
	}
	if c.MaxConns <= 0 {
		c.MaxConns = 64
	}
	if c.MaxRequest <= 0 {
		c.MaxRequest = 4 << 20
	}
	if c.MaxPending <= 0 {
		c.MaxPending = 128
	}
	if c.WriteTimeout <= 0 {
		c.WriteTimeout = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return nil
}

// Server answers the connections of one listener.
type Server struct {
	cfg    Config
	lis    net.Listener
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}

	limits atomic.Uint64 // times that a limit was met
	said   time.Time     // when one was logged; Serve's own
	met    int           // since then

	mu    sync.Mutex
	conns map[*conn]struct{}
	wg    sync.WaitGroup
}

// NewServer returns a server for lis; Serve makes it work.
func NewServer(lis net.Listener, cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{cfg: cfg, lis: lis, ctx: ctx, cancel: cancel, slots: make(chan struct{}, cfg.MaxConns), conns: map[*conn]struct{}{}}, nil
}

// Serve accepts connections until Close; it returns nil then.
func (s *Server) Serve() error {
	for {
		nc, err := s.lis.Accept()
		if err != nil {
			switch {
			case s.ctx.Err() != nil:
				return nil
			case errors.Is(err, net.ErrClosed):
				return err
			}
			s.meet("JSON-RPC: clients cannot be accepted for want of descriptors or memory", "err", err)
			s.makeRoom()
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if !s.takeSlot() {
			_ = nc.Close()
			return nil
		}
		s.start(nc)
	}
}

func (s *Server) start(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		_ = nc.Close()
		<-s.slots
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		<-s.slots
	}()
}

// Close stops accepting, gives calls under way the grace period to end and
// their replies to leave, then closes every connection.
func (s *Server) Close(grace time.Duration) {
	_ = s.lis.Close()
	s.mu.Lock()
	s.cancel()
	for c := range s.conns {
		c.stopReading()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-time.After(grace):
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.nc.Close()
	}
	s.mu.Unlock()
}
