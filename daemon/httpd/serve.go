package httpd

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// maxConns bounds the connections of Serve. More wait in the system's queue for
// one to end, which takes those that ask nothing some seconds.
const maxConns = 64

// Serve answers on lis until ctx ends, for a program that serves nothing else.
// It closes lis. The error is why it could not go on.
func Serve(ctx context.Context, lis net.Listener, c Config) error {
	s := Server(Handler(c), c.Log)
	failed := make(chan error, 1)
	limit := &limited{Listener: lis, slots: make(chan struct{}, maxConns), done: make(chan struct{})}
	go func() { failed <- s.Serve(limit) }()
	select {
	case err := <-failed:
		return errors.Join(err, limit.Close())
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.Shutdown(stop) != nil {
		_ = s.Close() // what is left took too long
	}
	<-failed
	return nil
}

// limited is a listener with at most cap(slots) connections.
type limited struct {
	net.Listener
	slots chan struct{}
	done  chan struct{} // closed with it
	once  sync.Once
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, slots: l.slots}, nil
}

// Close implements net.Listener.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}
